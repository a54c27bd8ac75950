"""Measure a run by its held-out clips, videos in a folder, or compare two results.

    python tools/evaluate.py --run runs/video_world --num 100 --out runs/video_world/evaluation
    python tools/evaluate.py --run runs/vae_world                                      # an autoencoder
    python tools/evaluate.py --videos made --real real --captions captions.csv --out made/results.json
    python tools/evaluate.py --compare runs/one/evaluation runs/two/evaluation
    torchrun --nproc_per_node 2 -- tools/evaluate.py --run runs/video_world            # the same numbers, sooner

Writes results.json (every number with its convention, interval, bounds, hashes and the values of each video), card.md,
and card.html, which stands alone. torchrun needs its `--`, or it takes --run for an option of its own. Metrics:

"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genworld.pipelines.catalogue import Options


class Help(argparse.Action):
    """`--help` with the list of metrics, which takes a moment to load."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        """Print and stop."""
        from genworld.pipelines.catalogue import describe

        parser.description = f"{parser.description}{describe()}"
        parser.print_help()
        parser.exit()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("-h", "--help", action=Help, nargs=0, help="this, and the list of metrics")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="a run of train.py: text to video, or an autoencoder")
    what.add_argument("--videos", type=Path, metavar="FOLDER", help="videos to measure as they are")
    what.add_argument("--compare", type=Path, nargs=2, metavar="RESULTS", help="two results: is the difference noise?")
    parser.add_argument("--metrics", metavar="NAME,NAME", help="of the list above; the defaults are marked *")
    parser.add_argument("--num", type=int, help="videos (100 of a run; all of a folder)")
    parser.add_argument("--seed", type=int, default=0, help="of the first video, of noise and times (0)")
    parser.add_argument("--out", type=Path, help="results.json, or a folder for it (RUN/evaluation)")
    parser.add_argument("--batch", type=int, default=8, help="videos at a time; changes no result (8)")
    parser.add_argument("--size", metavar="HxW", help="bring videos to this size")
    parser.add_argument("--frames", type=int, help="use this many frames of each")
    parser.add_argument("--fps", type=float, help="at this rate")
    parser.add_argument("--config", type=Path, metavar="YAML", help="whose held-out clips to use; the run's own")
    parser.add_argument("--steps", type=int, help="of sampling; the run's own")
    parser.add_argument("--guidance", type=float, help="the run's own")
    parser.add_argument("--suite", choices=("single", "full"), default="single", help="of the world benchmark (single)")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="real videos to compare those of --videos with")
    parser.add_argument("--captions", type=Path, metavar="CSV", help="of --videos: a table with columns path and text")
    parser.add_argument(
        "--of-world", action="store_true", help="the --videos show genworld's world, as its encoder knows"
    )
    parser.add_argument("--i3d", type=Path, metavar="FILE", help="i3d_torchscript.pt, for fvd")
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP of transformers or of genworld")
    parser.add_argument("--lpips", metavar="NET:FILE", help="vgg:FILE or alex:FILE (safetensors), for reconstruction")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="fields of --config to change")
    return parser.parse_intermixed_args(words)


def options_of(args: argparse.Namespace) -> Options:
    """What is asked for, checked.

    Raises:
        ValueError: a word has another form.
    """
    from genworld.pipelines.catalogue import Options

    lpips = None
    if args.lpips:
        net, _, file = args.lpips.partition(":")
        if net not in ("vgg", "alex", "squeeze") or not file:
            raise ValueError(f"--lpips {args.lpips}: expected vgg:FILE, alex:FILE or squeeze:FILE")
        lpips = (net, Path(file))
    return Options(
        metrics=tuple(name.strip() for name in args.metrics.split(",") if name.strip()) if args.metrics else (),
        num=args.num,
        seed=args.seed,
        batch=args.batch,
        size=_size(args.size),
        frames=args.frames,
        fps=args.fps,
        i3d=args.i3d,
        clip=args.clip,
        lpips=lpips,
        suite=args.suite,
        steps=args.steps,
        guidance=args.guidance,
        of_world=args.of_world,
    )


def main() -> int:
    """Parse the command line, measure or compare, write."""
    args = parse()
    if args.compare:
        from genworld.pipelines.comparison import compare, read_record

        for difference in compare(*map(read_record, args.compare)):
            print(difference)
        return 0
    if args.run is None and (args.config or args.overrides):
        raise ValueError("--config and its overrides belong to --run")
    if args.videos is None and (args.real or args.captions or args.of_world):
        raise ValueError("--real, --captions and --of-world belong to --videos")
    from genworld.pipelines.card import lines_of, write_card
    from genworld.pipelines.command import provenance
    from genworld.train.runtime import leave_world

    options = options_of(args)
    if args.run is not None:
        from genworld.experiment import CONFIG_FILE, load_experiment
        from genworld.pipelines.evaluation import evaluate_run

        _check_run(args.run / CONFIG_FILE, args.run)
        data = load_experiment(args.config or args.run / CONFIG_FILE, args.overrides).data
        found = evaluate_run(args.run, data, options)
    else:
        from genworld.pipelines.evaluation_videos import evaluate_videos

        found = evaluate_videos(args.videos, options, args.captions, args.real)
    if found.is_main:
        out = args.out or (
            args.run / "evaluation" if args.run else args.videos.parent / f"{args.videos.name}-evaluation"
        )
        files = write_card(found, out, provenance())
        print("\n".join(lines_of(found.record)))
        if "benchmark" in found.record:
            from genworld.pipelines.benchmark import line

            print(line(found.record["benchmark"]))
        print(f"wrote {', '.join(map(str, files))}")
    leave_world()
    return 0


def _check_run(config: Path, run: Path) -> None:
    if not config.is_file():
        raise ValueError(
            f"{run} is not a run: it has no {config.name}; give the folder that train.py wrote (runs/NAME)"
        )


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"--size {text}: expected HEIGHTxWIDTH in pixels, such as 64x96")
    return int(parts[0]), int(parts[1])


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
