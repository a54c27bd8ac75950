"""Contact sheets of the world: `python -m genworld.world --seeds 0-15 --out world.png`."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from genworld.config import ConfigError, decode
from genworld.types import ClipShape
from genworld.world.clip import WorldClip, sample_clip
from genworld.world.layout import WorldConfig

_GAP, _LINE, _FONT = 6, 17, 14

_EPILOG = """\
examples:
  python -m genworld.world --seeds 0-15 --out world.png
      sixteen scenes, one row each: frames from left to right, the caption below
  python -m genworld.world --seeds 7 --size 256x256 --frames 33 --fps 16 --columns 5 --out seven.png
      one scene, large and twice as smooth: the same events as at any other frame rate
  python -m genworld.world --set max_objects=1 sizes=large cameras=stand surroundings=fixed --out easy.png
      an easy world: one large object before a camera that stands still
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the sheet that the command line asks for."""
    options = _parser().parse_args(arguments)
    try:
        config = decode(WorldConfig, dict(_setting(text) for text in options.set))
        height, width = options.size
        shape = ClipShape(options.frames, height, width, options.fps)
        clips = (sample_clip(seed, config, shape, options.start, options.device) for seed in options.seeds)
        rows = [_row(clip, options.columns) for clip in tqdm(clips, total=len(options.seeds), desc="world", delay=2)]
    except (ConfigError, ValueError) as error:
        raise SystemExit(f"genworld.world: {error}") from None
    sheet = Image.fromarray(np.concatenate(rows))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out)
    print(f"wrote {options.out}: {len(rows)} scenes of {shape}, {sheet.width}x{sheet.height} pixels")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m genworld.world",
        description="Draw scenes of the procedural world with their captions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=_seeds, default=range(16), help="such as 0-15 or 3,5,8 (default 0-15)")
    parser.add_argument("--out", type=Path, default=Path("world.png"), help="picture to write (default world.png)")
    parser.add_argument("--size", type=_size, default=(64, 64), help="HEIGHTxWIDTH in pixels (default 64x64)")
    parser.add_argument("--frames", type=int, default=17, help="frames per clip (default 17)")
    parser.add_argument("--fps", type=float, default=8.0, help="frames per second (default 8)")
    parser.add_argument("--start", type=float, default=0.0, help="seconds into the scene (default 0)")
    parser.add_argument("--columns", type=int, default=9, help="frames shown of each clip, evenly spread (default 9)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="fields of WorldConfig; lists separated by commas"
    )
    return parser


def _seeds(text: str) -> Sequence[int]:
    try:
        first, _, last = text.partition("-")
        seeds = range(int(first), int(last) + 1) if last else [int(part) for part in text.split(",")]
        if not seeds:
            raise ValueError
        return seeds
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seeds such as 0-15 or 3,5,8, got {text!r}") from None


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 64x96, got {text!r}")
    return int(height), int(width)


def _setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    listed = str(WorldConfig.__annotations__.get(name, "")).startswith("tuple")
    return name, [_plain(part) for part in value.split(",")] if listed else _plain(value)


def _plain(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _row(clip: WorldClip, columns: int) -> np.ndarray:
    """Frames side by side over the caption, RGB bytes."""
    frames = clip.clip.pixels.cpu().numpy()
    chosen = np.linspace(0, frames.shape[1] - 1, min(columns, frames.shape[1])).round().astype(int)
    _, _, height, width = frames.shape
    picture = Image.new("RGB", (columns * (width + _GAP) + _GAP, height + 2 * _LINE + _GAP), "white")
    for place, index in enumerate(chosen):
        frame = ((frames[:, index].transpose(1, 2, 0) + 1) * 127.5).round().astype(np.uint8)
        picture.paste(Image.fromarray(frame), (_GAP + place * (width + _GAP), _GAP))
    font = ImageFont.load_default(_FONT)
    lines = textwrap.wrap(f"{clip.scene.seed}: {clip.caption}", max(20, picture.width // (_FONT // 2)))
    ImageDraw.Draw(picture).text((_GAP, height + _GAP + 1), "\n".join(lines[:2]), fill="black", font=font, spacing=2)
    return np.asarray(picture)


if __name__ == "__main__":
    main()
