"""Record walks on training floors, for an agent to learn from (data of kind `walks`).

    python tools/record_walks.py --out runs/walks/teacher.jsonl                       # the teacher leads
    python tools/record_walks.py --out runs/walks/held_out.jsonl --first 2000 --floors 40
    python tools/record_walks.py --out runs/walks/round1.jsonl --run runs/navigate    # DAgger: the agent leads
    torchrun --nproc_per_node 2 -- tools/record_walks.py --out runs/walks/teacher.jsonl   # the same file, sooner

A walk is a line of JSON: from where views were taken, and of some moments in which the agent asked where to go, what it
had seen by then. The right answers follow from the floor. The teacher reads the floor, which the agent never does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line, walk, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file to write, .jsonl")
    parser.add_argument("--run", type=Path, help="the agent that leads: a run of configs/scene/navigate.yaml")
    parser.add_argument("--floors", type=int, default=1500, help="how many (1500)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first floor (0)")
    parser.add_argument("--each", type=int, default=1, help="walks of each sort on each floor (1)")
    parser.add_argument("--states", type=int, default=3, help="moments kept of each walk (3)")
    parser.add_argument("--lead", type=float, default=0.2, help="part of an agent's walks that the teacher leads (0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of walks; another for each round (0)")
    parser.add_argument("--cache", type=Path, default=Path("runs/rooms/floors"), help="of floors (runs/rooms/floors)")
    args = parser.parse_args()

    from genworld.data.walks import write_walks
    from genworld.pipelines.navigation_agents import SceneWalker
    from genworld.pipelines.navigation_walks import LessonPlan, record_walks
    from genworld.train.runtime import find_world, leave_world

    plan = LessonPlan(
        floors=args.floors,
        first=args.first,
        objects=args.each,
        instructions=args.each,
        states=args.states,
        lead=args.lead,
        seed=args.seed,
        cache=args.cache,
    )
    pupil = None if args.run is None else SceneWalker.from_pretrained(args.run)
    walks = record_walks(plan, pupil)
    if find_world().rank == 0:
        print(f"wrote {write_walks(args.out, walks)} walks to {args.out}")
    leave_world()
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
