"""Measure the measures of the world benchmark: real renders, their prompts shuffled, and every planted defect.

    python tools/worldbench.py --suite single --num 60
    python tools/worldbench.py --suite full --num 96 --sheet docs/worldbench.png
    python tools/worldbench.py --suite full --first 480 --num 192

Prints the tables of docs/worldbench.md. A few minutes for 100 cases on one core. Exits with 1 where a real score is
below 0.97, or a defect does not lower its own abilities below 0.5, or moves another by more than 0.1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genworld.eval.worldbench_cases import Case

CEILING, OWN, OTHERS = 0.97, 0.5, 0.1
SHOWN = ("wrong colour", "wrong count", "vanished", "frozen", "reversed", "teleport", "shape change", "pass-through")


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("single", "full"), default="full")
    parser.add_argument("--num", type=int, default=96, help="cases (96)")
    parser.add_argument("--first", type=int, default=0, help="index of the first case in the suite (0)")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw a real case and a planted one for each defect")
    args = parser.parse_args()

    from genworld.eval.worldbench import measure, shuffled
    from genworld.eval.worldbench_cases import cases, fingerprint

    chosen = cases(args.suite, args.num, first=args.first)
    numbers = f"{chosen[0].index} to {chosen[-1].index}"
    print(f"suite {args.suite}, {len(chosen)} cases ({numbers}) of {chosen[0].shape}, sha256 {fingerprint(chosen)}\n")
    real = measure([(case.pixels, case) for case in chosen])
    floor = measure([(chosen[i].pixels, chosen[j]) for i, j in enumerate(shuffled(chosen))])
    fine = _print_bounds(real, floor) & _print_defects(chosen)
    if args.sheet:
        print(f"\nwrote {_draw(args.sheet, chosen)}")
    return 0 if fine else 1


def _print_bounds(real: dict[str, float], floor: dict[str, float]) -> bool:
    print("| ability or criterion | real renders | prompts shuffled |\n| --- | --- | --- |")
    for name, value in real.items():
        print(f"| {name.removeprefix('world/')} | {value:.3f} | {floor.get(name, float('nan')):.2f} |")
    return min(real.values()) >= CEILING


def _print_defects(cases: Sequence[Case]) -> bool:
    from genworld.eval.worldbench_cases import ABILITIES
    from genworld.eval.worldbench_defects import DEFECTS, defect_table

    rows, fine = defect_table(cases), True
    print(f"\n| defect | videos | {' | '.join(ABILITIES)} |\n| --- | --- |{' --- |' * len(ABILITIES)}")
    for defect, effect in DEFECTS.items():
        cells = {row.ability: row for row in rows if row.defect == defect}
        if not cells:
            continue
        shown = []
        for name in ABILITIES:
            row = cells.get(name)
            mark = "**" if name in effect.own else ""
            shown.append("" if row is None else f"{mark}{row.planted:.2f}{mark}")
            if row is not None and name in effect.own:
                fine &= row.planted < OWN
            elif row is not None:
                fine &= abs(row.planted - row.real) <= OTHERS
        print(f"| {defect} | {max(row.num for row in cells.values())} | {' | '.join(shown)} |")
    print("\n**own ability**; empty: cannot be asked where the defect can be planted")
    return fine


def _draw(path: Path, cases: Sequence[Case]) -> Path:
    from genworld.eval.worldbench import score_video
    from genworld.eval.worldbench_defects import DEFECTS, plant
    from genworld.ops.pictures import write_sheet

    clips, labels = [], []
    for place, defect in enumerate(DEFECTS):
        if defect not in SHOWN:
            continue
        turned = [*cases[3 * place :], *cases]  # not one case for all
        found = next(((case, video) for case in turned if (video := plant(case, defect)) is not None), None)
        if found is None:
            continue
        case, video = found
        score = score_video(video, case).abilities
        said = ", ".join(f"{name} {value:.2f}" for name, value in score.items() if value is not None)
        clips += [case.pixels, video]
        labels += [f"real: {case.prompt}", f"{defect}: {said}"]
    return write_sheet(path, clips, labels, columns=2)


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
