"""Turn prompts into videos with a trained run.

    python sample.py --run runs/demo/video --prompt "a red ball rolls to the left"
    python sample.py --run runs/demo/video --prompts prompts.txt --num 4 --size 64x96 --frames 33 --out out/mine

Each video gets a .json beside it with all that is needed to make it again. What is not said (size, frames, rate, steps,
guidance) is as in training.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from a text such as 64x96."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 64x96, got {text!r}")
    return int(match[1]), int(match[2])


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder that train.py wrote")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", action="append", help="what to show; may be given several times")
    what.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with one prompt a line")
    parser.add_argument("--negative", default="", help="what to guide away from")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="height x width in pixels")
    parser.add_argument(
        "--frames", type=int, help="pixel frames, 1 + a multiple of 4 for a VAE of stride 4; 1: an image"
    )
    parser.add_argument("--fps", type=float, help="frames per second")
    parser.add_argument("--steps", type=int, help="sampling steps: more is finer and slower")
    parser.add_argument("--guidance", type=float, help="how strongly to follow the prompt; 1 is not at all")
    parser.add_argument("--seed", type=int, default=0, help="of each prompt's first video; the next has the next (0)")
    parser.add_argument("--num", type=int, default=1, help="videos for each prompt (1)")
    parser.add_argument("--batch", type=int, default=8, help="videos sampled at a time; changes memory, not videos (8)")
    parser.add_argument("--format", choices=["mp4", "gif", "png"], help="mp4, or png for one frame, by default")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results (out)")
    return parser.parse_args()


def read_prompts(args: argparse.Namespace) -> list[str]:
    """The prompts asked for."""
    if args.prompt:
        return args.prompt
    prompts = [line.strip() for line in args.prompts.read_text().splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"{args.prompts} holds no prompt; write one a line")
    return prompts


def main() -> int:
    """Sample and write."""
    args = parse_args()

    from genworld.data.writer import write_video
    from genworld.pipelines.command import provenance
    from genworld.pipelines.video import VideoGenerator
    from genworld.tasks.text_to_video import Request
    from genworld.train.checkpoint import latest_checkpoint

    prompts = read_prompts(args)
    if args.num < 1 or args.batch < 1:
        raise ValueError("--num and --batch must be at least 1")
    generator = VideoGenerator.from_run(args.run)
    shape = generator.shape(args.frames, args.size, args.fps)
    settings = generator.settings(args.steps, args.guidance)
    jobs = [(prompt, args.seed + i) for prompt in prompts for i in range(args.num)]
    suffix = args.format or ("png" if shape.num_frames == 1 else "mp4")
    args.out.mkdir(parents=True, exist_ok=True)
    if suffix == "png" and shape.num_frames > 1:
        raise ValueError(f"--format png holds one frame, not {shape.num_frames}: use --frames 1, or mp4 or gif")
    checkpoint = latest_checkpoint(args.run)
    print(f"{len(jobs)} video(s) of {shape} from {args.run}")
    for start in range(0, len(jobs), args.batch):
        part = jobs[start : start + args.batch]
        requests = [Request(prompt, shape, seed, args.negative) for prompt, seed in part]
        clips = generator.sample(requests, settings, progress=True)
        for i, (clip, (prompt, seed)) in enumerate(zip(clips, part, strict=True), start=start):
            slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60]
            path = args.out / f"{i:03d}-{slug}-seed{seed}.{suffix}"
            write_video(path, clip.pixels, clip.fps)
            record = {
                "prompt": prompt,
                "negative": args.negative,
                "seed": seed,
                "shape": shape._asdict(),
                "sampler": asdict(settings[0]),
                "guidance": asdict(settings[1]),
                "run": str(args.run.resolve()),
                "checkpoint": checkpoint.name,
                **provenance(),
            }
            path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
            print(path)
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
