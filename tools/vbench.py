"""VBench with genworld's videos: write the videos that it wants, and read Quality, Semantic and Total from its results.

    python tools/vbench.py export --run RUN --prompts VBench/prompts/prompts_per_dimension --out videos
    vbench evaluate --videos_path videos --dimension scene …          # in an environment of its own: see below
    python tools/vbench.py score evaluation_results

`export` writes PROMPT-INDEX.mp4, five of each prompt and 25 of those of temporal flickering, each with a seed of its
own, and seeds.json with all of them. What is there already is kept, so that it can be interrupted; with another run,
seed or setting it refuses to go on. Prompts come from a file, a folder of VBench's files, or VBench_full_info.json:
nothing is downloaded. `score` reads *_eval_results.json.

VBench 0.1.5 wants numpy < 2 and transformers 4.33.2, and so cannot be installed beside genworld: give it an environment
of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main() -> int:
    """Parse the command line, export or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write the videos")
    export.add_argument("--run", required=True, type=Path, help="a text-to-video run")
    export.add_argument("--prompts", required=True, type=Path, help="a file, a folder of files, VBench_full_info.json")
    export.add_argument("--out", required=True, type=Path, help="folder of the videos")
    export.add_argument("--seed", type=int, default=0, help="from which the seed of each video is drawn (0)")
    export.add_argument("--batch", type=int, default=8, help="videos at a time (8)")
    export.add_argument("--steps", type=int, help="of sampling; the run's own")
    export.add_argument("--guidance", type=float, help="the run's own")
    score = commands.add_parser("score", help="read results")
    score.add_argument("results", nargs="+", type=Path, help="*_eval_results.json, or folders of them")
    score.add_argument("--json", type=Path, help="also write the scores here")
    args = parser.parse_args()
    return write_videos(args) if args.command == "export" else write_scores(args.results, args.json)


def write_videos(args: argparse.Namespace) -> int:
    """The videos that are not there yet."""
    from genworld.eval.vbench import read_prompts
    from genworld.pipelines.vbench_export import SEEDS_FILE, export
    from genworld.pipelines.video import VideoGenerator

    counts = read_prompts(args.prompts)
    generator = VideoGenerator.from_run(args.run)
    settings = generator.settings(args.steps, args.guidance)
    there, made = export(generator, args.run, counts, args.out, settings, args.seed, args.batch)
    print(f"wrote {made} videos to {args.out}, where {there} were already; all their seeds are in {SEEDS_FILE}")
    return 0


def write_scores(results: Sequence[Path], out: Path | None) -> int:
    """The three scores, and what they come from."""
    from genworld.eval.vbench import DIMENSIONS, read_results, vbench_scores

    scores = vbench_scores(read_results(results))
    for name, each in DIMENSIONS.items():
        kind = "quality" if each.quality else "semantic"
        print(f"{name:<24} {kind:<9} {scores.raw[name]:8.4f}  normalised {100 * scores.normalised[name]:6.2f} %")
    for name in ("quality", "semantic", "total"):
        print(f"{name:<24} {100 * getattr(scores, name):18.2f} %")
    if out is not None:
        out.write_text(json.dumps(vars(scores), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
