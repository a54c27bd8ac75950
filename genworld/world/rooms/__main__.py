"""Pictures of furnished floors, and how far questions give their answers away: `python -m genworld.world.rooms`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from genworld.world.rooms.draw import draw_sheet
from genworld.world.rooms.floor import Floor, FloorConfig, sample_floor
from genworld.world.rooms.language import Facts, questions
from genworld.world.rooms.language.blind import blind_accuracy
from genworld.world.rooms.language.captions import caption
from genworld.world.rooms.store import FloorStore

_EPILOG = """\
examples:
  python -m genworld.world.rooms --seeds 0 1 2 --out rooms.png
      three floors: the plan from above with the walk and the cameras, views, a caption and questions
  python -m genworld.world.rooms --blind 400
      accuracy of models that see only the question, on 100 floors after training on 300 others
  python -m genworld.world.rooms --blind 464 --held-out 64 --cache runs/rooms/floors
      the same on 64 after 400, which are kept for the next time
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw floors, or measure the blind accuracy."""
    parser = argparse.ArgumentParser(
        prog="python -m genworld.world.rooms",
        description="Draw furnished floors with what is said about them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="floors to draw (default 0)")
    parser.add_argument("--out", type=Path, default=Path("rooms.png"), help="picture to write (default rooms.png)")
    parser.add_argument("--size", type=int, default=160, help="height and width of a view in pixels (default 160)")
    parser.add_argument("--columns", type=int, default=4, help="views in a row; there are two rows (default 4)")
    parser.add_argument("--min-rooms", type=int, default=1, help="fewest rooms (default 1)")
    parser.add_argument("--max-rooms", type=int, default=5, help="most rooms (default 5)")
    parser.add_argument("--questions", type=int, default=1, help="questions of each type per floor (default 1)")
    parser.add_argument("--blind", type=int, metavar="FLOORS", help="measure the blind accuracy on so many floors")
    parser.add_argument("--held-out", type=int, help="of these, to be asked about; the others teach (a quarter)")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="keep floors of --blind as files, or read them")
    options = parser.parse_args(arguments)
    try:
        config = FloorConfig(min_rooms=options.min_rooms, max_rooms=options.max_rooms)
    except ValueError as error:
        raise SystemExit(f"genworld.world.rooms: {error}") from None
    if options.blind is not None:
        _print_blind(options, config)
        return
    sheets = [_sheet(sample_floor(seed, config), options) for seed in tqdm(options.seeds, desc="rooms", delay=2)]
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    options.out.parent.mkdir(parents=True, exist_ok=True)
    whole.save(options.out)
    print(f"wrote {options.out}: {len(sheets)} floors, {whole.width}x{whole.height} pixels")


def _sheet(floor: Floor, options: argparse.Namespace) -> Image.Image:
    facts = Facts(floor)
    lines = [f"{floor.name}: {caption(facts)}"]
    for question in questions(facts, options.questions):
        situation = f"{question.situation.text} " if question.situation else ""
        lines.append(f"{question.type}: {situation}{question.text} {question.answer}")
    return draw_sheet(floor, options.size, options.columns, lines)


def _print_blind(options: argparse.Namespace, config: FloorConfig) -> None:
    count, held_out = options.blind, options.held_out or options.blind // 4
    if count < 4:
        raise SystemExit(f"genworld.world.rooms: --blind needs at least 4 floors, got {count}")
    if not 0 < held_out < count:
        raise SystemExit(f"genworld.world.rooms: --held-out must be between 0 and --blind, got {held_out} and {count}")
    draw = FloorStore(options.cache, config) if options.cache else partial(sample_floor, config=config)
    asked = [questions(draw(seed)) for seed in tqdm(range(count), desc="floors", delay=2)]
    found = blind_accuracy(
        [question for some in asked[held_out:] for question in some],
        [question for some in asked[:held_out] for question in some],
    )
    print(f"{held_out} held-out floors, trained on {count - held_out} others; accuracy without seeing the floor:")
    print(f"{'type':12} {'questions':>9} {'majority':>9} {'words':>9}")
    for name, blind in found.items():
        print(f"{name:12} {blind.num:9} {blind.majority:9.3f} {blind.words:9.3f}")


if __name__ == "__main__":
    main()
