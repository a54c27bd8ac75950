"""Measure how well agents find their way on held-out floors of the world.

    python tools/evaluate_nav.py --sort object --policies oracle frontier random forward --out out/nav/object.json
    python tools/evaluate_nav.py --sort instruction --floors 50 --policies oracle random
    python tools/evaluate_nav.py --run runs/navigate --sort object           # the agent, blind, and the baselines
    torchrun --nproc_per_node 2 -- tools/evaluate_nav.py --sort point        # the same numbers, sooner

Sorts: object ("find the red chair"), instruction ("take the door on your left, … stop at the lamp"), point (metres
and direction, told at every step). All agents walk the same episodes, and each episode is walked exactly once by each.

Of things and instructions the policies here understand nothing: oracle reads map and goal, frontier explores until
nothing is left to see (read its OSR: did it come by?), random and forward are blind. With --run a scene model guides an
agent by what it has seen so far; "blind" is the same agent with black pictures.

Writes the measures with intervals and of every walk, and a card in markdown beside them. Walks are kept in a folder
beside them as they are done: the same command goes on where it was cut, and more floors or policies cost only what is
new. (Walks of another checkpoint are not taken; after changes to the code, remove the folder.)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

POLICIES = ("oracle", "frontier", "random", "forward")


def main() -> int:
    """Parse the command line, walk, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floors", type=int, default=200, help="how many held-out floors (200)")
    parser.add_argument("--each", type=int, default=1, help="episodes on each floor, at most (1)")
    parser.add_argument("--sort", choices=("object", "instruction", "point"), default="object", help="(object)")
    parser.add_argument("--policies", nargs="*", choices=POLICIES, default=list(POLICIES), help="who walks (all)")
    parser.add_argument("--run", type=Path, help="a run of configs/scene/navigate.yaml: its agent walks, too")
    parser.add_argument("--no-blind", action="store_true", help="leave out the agent with black pictures, the slowest")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of episodes and of random agents (0)")
    parser.add_argument("--max-steps", type=int, default=500, help="a walk is cut after so many actions (500)")
    parser.add_argument(
        "--dtw", choices=("exact", "fastdtw"), default="exact", help="of nDTW and SDTW; VLN-CE takes fastdtw (exact)"
    )
    parser.add_argument("--at-once", type=int, default=8, help="floors walked together, which is faster with --run (8)")
    parser.add_argument("--out", type=Path, default=Path("out/nav/results.json"), help="(out/nav/results.json)")
    args = parser.parse_args()

    from genworld.eval.navigation import MeasureConfig
    from genworld.pipelines.command import provenance
    from genworld.pipelines.navigation_agents import baseline_agent, scene_agents
    from genworld.pipelines.navigation_evaluation import NavigationExam, evaluate_navigation, write_scores
    from genworld.train.runtime import leave_world

    exam = NavigationExam(floors=args.floors, sort=args.sort, each=args.each, seed=args.seed, max_steps=args.max_steps)
    agents = [] if args.run is None else scene_agents(args.run, blind=not args.no_blind)
    kept = args.out.with_suffix(".walks")
    everyone = [*agents, *(baseline_agent(name) for name in args.policies)]
    scores = evaluate_navigation(exam, everyone, kept, MeasureConfig(dtw=args.dtw), args.at_once)
    if scores.is_main:
        written = write_scores(scores, args.out, provenance())
        print(scores)
        print(f"wrote {' and '.join(map(str, written))}")
    leave_world()
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
