"""Measure how well a run answers about held-out scenes.

    python tools/evaluate_scene.py --run runs/scene_world [--each 4] [--floors 50] [--out results.json]
    torchrun --nproc_per_node 2 -- tools/evaluate_scene.py --run runs/scene_world      # the same numbers, sooner
    python tools/evaluate_scene.py --run runs/scanqa --protocol scanqa_official leo    # as published, bugs included

Questions of all types, captions, descriptions, dialogues, plans, and phrases to be found, each beside the model shown
another scene; questions also beside what --blind floors of training teach without seeing any. Writes results.json with
every answer and where it comes from; with --protocol also card.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line, measure, write."""
    from genworld.eval.qa_protocols import PROTOCOLS

    names = [each.name for each in PROTOCOLS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run of train.py with task converse")
    parser.add_argument("--each", type=int, default=4, help="questions, phrases, things and plans of each floor (4)")
    parser.add_argument("--floors", type=int, help="only so many held-out floors")
    parser.add_argument("--batch", type=int, default=16, help="answers at a time; changes none (16)")
    parser.add_argument("--blind", type=int, default=300, help="training floors that blind baselines learn from (300)")
    parser.add_argument("--out", type=Path, help="file to write (RUN/evaluation/results.json)")
    parser.add_argument(
        "--protocol",
        nargs="+",
        choices=names,
        default=[],
        metavar="NAME",
        help="score the short answers of each annotation file by these too, each by its name, beside the report by "
        f"genworld's own that is always there: {', '.join(names)}; put KEY=VALUE before it",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="otherwise than in training: task.points.lifter.voxel=0.15"
    )
    args = parser.parse_args()
    if min(args.each, args.batch, args.blind) < 1 or (args.floors is not None and args.floors < 1):
        raise ValueError("--each, --batch, --blind and --floors must be at least 1")

    from genworld.pipelines.command import provenance
    from genworld.pipelines.scene_evaluation import evaluate_scenes, write_scores
    from genworld.train.runtime import leave_world

    scores = evaluate_scenes(args.run, args.each, args.floors, args.batch, args.blind, args.overrides, args.protocol)
    if scores.is_main:
        facts = {"run": str(args.run), "each": args.each, "otherwise": args.overrides, "provenance": provenance()}
        path = write_scores(scores, args.out or args.run / "evaluation" / "results.json", facts)
        print(scores)
        print(f"wrote {path}")
    leave_world()
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
