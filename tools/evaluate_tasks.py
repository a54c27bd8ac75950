"""Judge a run of the world in every task that is given a part of a video, by held-out clips and honest baselines.

    python tools/evaluate_tasks.py --run runs/video_tasks --num 50 --out runs/video_tasks/tasks

Writes results.json (all numbers, clip by clip) and a contact sheet for each task. Baselines: the nearest given frame
repeated, and a linear cross-fade. Differences are paired, positive where ours is better, with 95 % bootstrap intervals.
Clips whose object moves are told apart from those where nothing moves, of which a copy is exact.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROWS = 8
"""Examples in a contact sheet."""


def main() -> int:
    """Parse the command line, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="a run that was trained with task.given")
    parser.add_argument("--config", type=Path, metavar="YAML", help="whose world to take clips from; the run's own")
    parser.add_argument("--num", type=int, default=50, help="held-out clips for each task (50)")
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one, such as 'connection'; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="sampling steps; the run's own")
    parser.add_argument("--guidance", type=float, help="the run's own")
    parser.add_argument("--no-camera", action="store_true", help="tell only the camera task where the camera is")
    parser.add_argument("--out", type=Path, help="folder for the results; RUN/tasks by default")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="fields of --config to change")
    args = parser.parse_intermixed_args()

    from genworld.experiment import CONFIG_FILE, load_experiment
    from genworld.ops.pictures import write_sheet
    from genworld.pipelines.command import provenance
    from genworld.pipelines.judge_tasks import TaskJudge, evaluate_tasks, lines, takes_camera
    from genworld.pipelines.video import VideoGenerator

    generator = VideoGenerator.from_run(args.run)
    data = load_experiment(args.config or args.run / CONFIG_FILE, args.overrides).data
    if data.kind != "world":
        raise ValueError(f"its data are of kind {data.kind!r}: name an experiment on the world by --config")
    settings = generator.settings(args.steps, args.guidance)
    judge = TaskJudge(generator, settings, args.seed, tell_camera=not args.no_camera)
    results = evaluate_tasks(judge, data, args.num, args.task)
    out = args.out or args.run / "tasks"
    for result in results:
        count = min(ROWS, len(result.captions))
        clips = [videos[i] for i in range(count) for videos in result.columns.values()]
        labels = [_label(name, result.captions[i]) for i in range(count) for name in result.columns]
        write_sheet(out / f"{result.name.replace(' ', '_')}.png", clips, labels, columns=len(result.columns))
        print("\n".join([result.name, *lines(result.record)]))
    record = {
        "num": args.num,
        "shape": str(generator.trained),
        "camera_told_in_all_tasks": judge.tell_camera and takes_camera(generator),
        "tasks": {each.name: each.record for each in results},
    }
    (out / "results.json").write_text(json.dumps({**record, **provenance()}, indent=2) + "\n")
    print(f"wrote {out / 'results.json'} and {len(results)} contact sheets")
    return 0


def _label(column: str, caption: str) -> str:
    return f"given, with: {caption}" if column == "given" else column


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
