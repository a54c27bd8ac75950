"""Shows what a model will see of a data set, before training.

    python tools/inspect_data.py --config configs/video/folder.yaml [a.b=c ...] [--out sheet.png] [--num 12]

Prints for every clip the shapes, times and frame rates it is used at, or why it is rejected; then totals, expected
padding and rank imbalance; and writes a contact sheet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genworld.data.inspect import first_samples, inspect_clips, inspect_packs, totals, unusable
from genworld.data.loader import build_source, clip_infos
from genworld.data.packing import PackOrder
from genworld.experiment import clip_data, cost_ratio, load_experiment, token_grid
from genworld.ops.pictures import write_sheet
from genworld.pipelines.command import run_command


def main() -> int:
    """Read the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="experiment YAML")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="contact sheet to write")
    parser.add_argument("--num", type=int, default=12, help="clips on the sheet")
    parser.add_argument("overrides", nargs="*", help="a.b=c")
    args = parser.parse_intermixed_args()
    experiment = load_experiment(args.config, args.overrides)
    data = clip_data(experiment)
    packing, grid = data.packing, token_grid(experiment)
    source = build_source(data, "train")
    infos = clip_infos(source)
    reports = []
    for report in inspect_clips(infos, grid, packing):
        reports.append(report)
        print(report)
    for reason in (bad := unusable(source)):
        print(f"UNUSABLE: {reason}")
    print(totals(reports, len(bad)))
    if data.validation:
        held_out = build_source(data, "validation")
        print(f"held out for validation: {', '.join(info.name for info in clip_infos(held_out))}")
    ratio = cost_ratio(experiment.task)
    print(inspect_packs(infos, grid, packing, experiment.seed, cost_ratio=ratio))
    shown = first_samples(source, PackOrder(infos, grid, packing, experiment.seed, ratio), args.num)
    clips = [sample.pixels for _, sample in shown if sample.pixels is not None]
    if clips:
        labels = [f"{infos[p.index].name} {p.shape} from {p.start:.2f} s: {s.text}" for p, s in shown]
        print(f"wrote {write_sheet(args.out, clips, labels, columns=2)}")
    else:
        print("no contact sheet: these clips are precomputed latents")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
