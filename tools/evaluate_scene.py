"""Measure how well a run answers about held-out scenes.

    python tools/evaluate_scene.py --run runs/scene_world [--each 4] [--floors 50] [--out results.json]
    torchrun --nproc_per_node 2 -- tools/evaluate_scene.py --run runs/scene_world      # the same numbers, sooner

Questions of all types, captions, and phrases to be found, each beside two baselines that see nothing: the model shown
another scene, and the most common answers of training. Writes results.json with every answer and where it comes from.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run of train.py with task converse")
    parser.add_argument("--each", type=int, default=4, help="questions of each type about a floor (4)")
    parser.add_argument("--floors", type=int, help="only so many held-out floors")
    parser.add_argument("--batch", type=int, default=16, help="answers at a time; changes none (16)")
    parser.add_argument("--out", type=Path, help="file to write (RUN/evaluation/results.json)")
    args = parser.parse_args()
    if args.each < 1 or args.batch < 1 or (args.floors is not None and args.floors < 1):
        raise ValueError("--each, --batch and --floors must be at least 1")

    from genworld.pipelines.command import provenance
    from genworld.pipelines.scene_evaluation import evaluate_scenes, write_scores
    from genworld.train.runtime import leave_world

    scores = evaluate_scenes(args.run, args.each, args.floors, args.batch)
    if scores.is_main:
        facts = {"run": str(args.run), "each": args.each, "provenance": provenance()}
        path = write_scores(scores, args.out or args.run / "evaluation" / "results.json", facts)
        print(scores)
        print(f"wrote {path}")
    leave_world()
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
