"""Turn prompts, images and clips into videos with a trained run. One checkpoint does all of it.

    python sample.py --run RUN --prompt "a red ball rolls to the left"               a video from a prompt
    python sample.py --run RUN --prompt "..." --frames 1                             an image
    python sample.py --run RUN --prompt "..." --image first.png --last last.png      from an image, to an image, or both
    python sample.py --run RUN --prompt "..." --seconds 60                           a minute, written while it is made
    python sample.py --run RUN --prompt "..." --camera orbit:+30deg                  with a moving camera
    python sample.py --run RUN --prompt "..." --extend clip.mp4 --by 3s [--backward] what comes next, or came before
    python sample.py --run RUN --prompt "..." --connect a.mp4 b.mp4 --gap 2s         what happens in between
    python sample.py --run RUN --prompt "..." --loop                                 a video without beginning or end
    python sample.py --run RUN --prompt "..." --edit clip.mp4 --strength 0.6         a clip changed as the prompt says
    python sample.py --run RUN --prompt "..." --inpaint clip.mp4 --mask 8,8,24,24    a part of it made anew
    python sample.py --run RUN --prompt "..." --outpaint clip.mp4 --size 96x160      what is around it
    python sample.py --run RUN --storyboard shots.yaml                               several shots, one video

Each video gets a .json beside it with all that is needed to make it again. What is not said (size, frames, rate, steps,
guidance) is as in the given image or clip, and else as in training. Given pixels are kept exactly, but for --edit: see
docs/tasks.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A mistake is one line, as all errors of genworld's commands are, and not a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving."""
        raise ValueError(f"{message} (see --help)")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from a text such as 64x96."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 64x96, got {text!r}")
    return int(match[1]), int(match[2])


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder that train.py wrote")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results (out)")
    parser.add_argument("--format", choices=["mp4", "gif", "png"], help="mp4, or png for one frame, by default")

    what = parser.add_argument_group("what to show (one of these)")
    what.add_argument("--prompt", action="append", help="in words; may be given several times")
    what.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with one prompt a line")
    what.add_argument(
        "--storyboard",
        type=Path,
        metavar="YAML",
        help="a list of shots, such as {prompt: a red ball, seconds: 2}; a shot continues the one before, or starts "
        "afresh with cut: true; it may have a camera",
    )

    shape = parser.add_argument_group("shape")
    shape.add_argument("--size", type=parse_size, metavar="HxW", help="height x width in pixels")
    shape.add_argument("--frames", type=int, help="any number; 1 makes an image; more than a window are streamed")
    shape.add_argument("--seconds", type=float, help="instead of --frames")
    shape.add_argument("--fps", type=float, help="frames per second")

    add_given(parser)

    how = parser.add_argument_group("how")
    how.add_argument("--negative", default="", help="what to guide away from")
    how.add_argument("--steps", type=int, help="sampling steps: more is finer and slower")
    how.add_argument("--guidance", type=float, help="how strongly to follow the prompt; 1 is not at all")
    how.add_argument("--seed", type=int, default=0, help="of each prompt's first video; the next has the next (0)")
    how.add_argument("--num", type=int, default=1, help="videos for each prompt (1)")
    how.add_argument("--batch", type=int, help="videos sampled at a time; changes memory, not videos (8)")

    long = parser.add_argument_group("long videos, made window by window")
    long.add_argument("--window", type=int, metavar="FRAMES", help="sampled at a time; as many as in training")
    long.add_argument("--history", type=int, metavar="FRAMES", help="of a window that are given (about a quarter)")
    long.add_argument("--given-level", type=float, default=0.0, help="noise level at which these are shown (0)")
    long.add_argument("--stagger", type=int, default=0, help="steps by which a latent frame lags behind the last (0)")
    return parser.parse_args()


def add_given(parser: argparse.ArgumentParser) -> None:
    """The part of the command line about images, clips and cameras."""
    given = parser.add_argument_group("what is given (at most one of these; --image and --last go together)")
    given.add_argument("--image", type=Path, metavar="PNG", help="the first frame")
    given.add_argument("--last", type=Path, metavar="PNG", help="the last frame")
    given.add_argument("--extend", type=Path, metavar="CLIP", help="a clip to continue --by some time")
    given.add_argument("--by", metavar="TIME", help="how much to add to --extend: 3s, or 24 for so many frames")
    given.add_argument("--backward", action="store_true", help="--extend a clip into the past")
    given.add_argument("--connect", type=Path, nargs=2, metavar="CLIP", help="two clips, with a --gap to be filled")
    given.add_argument("--gap", metavar="TIME", help="between the clips of --connect: 2s, or 16 for so many frames")
    given.add_argument("--loop", action="store_true", help="no clip, but the video ends where it begins")
    given.add_argument("--edit", type=Path, metavar="CLIP", help="a clip to be changed as the prompt says")
    given.add_argument("--strength", type=float, help="of the clip under --edit: 1 keeps it, 0 forgets it (0.6)")
    given.add_argument("--inpaint", type=Path, metavar="CLIP", help="a clip of which a part is made anew: its --mask")
    given.add_argument(
        "--mask", metavar="PNG|x,y,w,h", help="a picture that is white where --inpaint makes anew, or a box in pixels"
    )
    given.add_argument("--outpaint", type=Path, metavar="CLIP", help="a clip around which there is more: see --size")
    given.add_argument(
        "--camera", metavar="PATH", help="orbit:+30deg, dolly:0.5m, pan:-20deg (several with commas), or path.json"
    )


def main() -> int:
    """Sample and write."""
    args = parse_args()

    from genworld.pipelines.jobs import fulfil
    from genworld.pipelines.wish import Wish

    for made in fulfil(Wish(**vars(args))):
        print(made.path)
        if made.drift is not None:
            print(f"  drift from the first to the last second: {made.drift}")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
