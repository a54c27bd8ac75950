"""Walk through a scene to a goal, and watch.

    python tools/navigate.py --scene 1 --goal "find the green table" --policy oracle --out walk.mp4
    python tools/navigate.py --scene 1 --goal "go to the bed" --policy frontier --out walk.mp4
    python tools/navigate.py --scene ROOM --goal 1.5,0.5 --policy oracle --out walk.mp4
    python tools/navigate.py --scene ROOM --policy frontier --out walk.mp4          # to a random point
    python tools/navigate.py --scene 1 --goal "find the green table" --run runs/navigate --out walk.mp4
    python tools/navigate.py --scene ROOM --goal "find the table" --run runs/navigate --out walk.mp4
    python tools/navigate.py --scene ROOM --goal "find the table" --at=1.5,0.5 --run runs/navigate --out walk.mp4
    python tools/navigate.py --scene 1 --walk 2 --run runs/navigate --out walk.mp4    # an instruction of the floor

A number is the seed of one of the world's floors; ROOM is a folder that holds a scan (see docs/scenes.md). A goal in
words must name one thing of the floor; where it fits none or several, you are told which there are. In a scan whose
boxes have labels (ScanNet and others), words lead to any box whose label they name. Where no label says where the thing
is, an agent walks all the same, but the walk is not measured; --at says on which free ground beside the thing it should
end (x,y in metres, scene axes, within 1 m), and the agent is still told the words alone. The oracle needs one or the
other. A goal may be such a point too (--goal=-1.5,0.5 where x is negative), or left out for a random one.

Policies: oracle takes the shortest way (it reads map and goal); frontier explores by its own depth and pose, and finds
points but no things; forward and random see nothing. With --run a scene model guides the agent: it is told things and
instructions, no points. --walk N is the floor's N-th described walk, whose instruction stands above the video.

Writes the video (what is seen, beside the map with the way) and, as .png beside it, a picture of the route.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

POLICIES = ("oracle", "frontier", "forward", "random")


def main() -> int:
    """Parse the command line, walk, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", required=True, help="the seed of a floor, or a folder with a scan")
    parser.add_argument("--name", help="which scene of the folder; the first by default")
    parser.add_argument("--goal", default="", help='"find the red chair", or x,y in metres (a random point)')
    parser.add_argument("--at", help="x,y in metres: where words of a scan should lead; no agent but oracle is told")
    parser.add_argument("--walk", type=int, help="take a described walk of the floor, by its number, instead of a goal")
    parser.add_argument("--policy", choices=POLICIES, default="oracle", help="who walks (oracle)")
    parser.add_argument("--run", type=Path, help="a run of configs/scene/navigate.yaml: its agent walks")
    parser.add_argument("--seed", type=int, default=0, help="of the start, and of what is random (0)")
    parser.add_argument("--max-steps", type=int, default=500, help="the walk is cut after so many actions (500)")
    parser.add_argument("--size", type=int, default=384, help="pixels of the first-person view (384)")
    parser.add_argument("--fps", type=float, default=8.0, help="steps shown in a second (8)")
    parser.add_argument("--out", type=Path, default=Path("walk.mp4"), help="video to write, .mp4 or .gif (walk.mp4)")
    args = parser.parse_args()

    from genworld.pipelines.navigate import FilmConfig, film_walk
    from genworld.pipelines.navigation_agents import baseline_agent, scene_agents
    from genworld.pipelines.navigation_goals import goal_point, open_ground

    ground, goal = open_ground(args.scene, args.name), args.goal
    if args.walk is not None:
        if goal:
            raise ValueError(f"expected --goal or --walk, got both: {goal!r} and {args.walk}")
        goal = args.walk
    at = None if args.at is None else goal_point(args.at)
    if args.at is not None and at is None:
        raise ValueError(f"expected --at as x,y in metres, such as --at=1.5,-2, got {args.at!r}")
    agent = baseline_agent(args.policy) if args.run is None else scene_agents(args.run, blind=False)[0]
    config = FilmConfig(args.size, args.fps)
    filmed = film_walk(ground, agent, args.out, goal, args.seed, config, args.max_steps, at)
    print(filmed)
    print(f"wrote {filmed.video} and {filmed.picture}")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
