"""Draw what one checkpoint does: a contact sheet for each task that has no truth to be compared with.

    python tools/show_tasks.py --run runs/video_tasks --out docs/tasks

Text to image and to video, loops, edits, outpainting, cameras, a storyboard and a minute of streaming, on held-out
clips of the run's world. The tasks that can be measured against real clips are drawn by tools/evaluate_tasks.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genworld.pipelines.video import VideoGenerator
    from genworld.pipelines.world_cases import Case
    from genworld.types import Clip

PROMPTS = (
    "A red ball rolls to the left.",
    "A blue cube drops and bounces.",
    "A green cone slides to the right.",
    "A yellow cylinder slides towards the camera.",
    "A purple ball stays still.",
    "A cyan cube slides away from the camera.",
)
CAMERAS = ("stand", "orbit:+20deg", "orbit:-20deg", "dolly:+1m", "dolly:-1m", "pan:+5deg", "pan:-5deg")
SECONDS = 60

Shown = Iterator[tuple["Clip", str]]


def text_to_video(make: VideoGenerator, cases: list[Case]) -> Shown:
    """A video from each prompt."""
    yield from ((make(prompt)[0], prompt) for prompt in PROMPTS)


def text_to_image(make: VideoGenerator, cases: list[Case]) -> Shown:
    """An image from each prompt."""
    yield from ((make(prompt, frames=1)[0], prompt) for prompt in PROMPTS)


def loop(make: VideoGenerator, cases: list[Case]) -> Shown:
    """Videos that end where they begin."""
    from genworld.pipelines.verbs import loop

    yield from ((loop(make, prompt, 21), prompt) for prompt in PROMPTS[:4])


def edit(make: VideoGenerator, cases: list[Case]) -> Shown:
    """Real clips in another colour, near to the clip and far from it."""
    from genworld.pipelines.verbs import edit

    for case in _moving(cases)[:3]:
        clip = _clip(make, case)
        yield clip, f"given: {case.text}"
        for strength in (0.6, 0.3):
            yield edit(make, case.other_text, clip, strength), f"strength {strength}: {case.other_text}"


def outpaint(make: VideoGenerator, cases: list[Case]) -> Shown:
    """The middle of real clips, and what is made around it."""
    from genworld.pipelines.verbs import outpaint
    from genworld.types import Clip

    for case in _moving(cases)[:4]:
        clip = _clip(make, case)
        side = clip.shape.width // 8
        middle = Clip(clip.pixels[..., side:-side, side:-side], clip.fps)
        yield middle, f"given: {case.text}"
        yield outpaint(make, case.text, middle, (clip.shape.height, clip.shape.width)), "made around it"


def camera(make: VideoGenerator, cases: list[Case]) -> Shown:
    """The same first frame under different cameras."""
    from genworld.pipelines.keep import Keep

    case = next(case for case in cases if not case.moves)
    for path in CAMERAS:
        yield make(case.text, keep=[Keep(case.pixels[:, 0])], camera=path)[0], f"{path}: {case.text}"


def storyboard(make: VideoGenerator, cases: list[Case]) -> Shown:
    """Shots that go on from one another."""
    from genworld.pipelines.stream import Shot

    shots = [Shot(PROMPTS[0], 17), Shot("A red ball stays still.", 12), Shot(PROMPTS[1], 17, cut=True)]
    yield _joined(make, shots), " / ".join(f"{'cut: ' if shot.cut else ''}{shot.prompt}" for shot in shots)


def long(make: VideoGenerator, cases: list[Case]) -> Shown:
    """A minute."""
    from genworld.pipelines.stream import Shot

    prompt = PROMPTS[4]
    clip = _joined(make, [Shot(prompt, round(SECONDS * make.trained.fps))])
    yield clip, f"{SECONDS} s: {prompt} {_drift(clip)}"


SHEETS: dict[str, tuple[Callable[[VideoGenerator, list[Case]], Shown], int, int]] = {
    "text_to_video": (text_to_video, 2, 6),
    "text_to_image": (text_to_image, 3, 1),
    "loop": (loop, 1, 11),
    "edit": (edit, 3, 6),
    "outpaint": (outpaint, 2, 6),
    "camera": (camera, 1, 9),
    "storyboard": (storyboard, 1, 12),
    "long": (long, 1, 12),
}
"""How a sheet is made, its columns, and the frames shown of each clip."""


def _moving(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.moves]


def _clip(make: VideoGenerator, case: Case) -> Clip:
    from genworld.types import Clip

    return Clip(case.pixels, make.trained.fps, case.text)


def _joined(make: VideoGenerator, shots: list) -> Clip:
    import torch
    from tqdm import tqdm

    from genworld.types import Clip

    return Clip(torch.cat(list(tqdm(make.stream(shots), desc="streaming", unit="window")), dim=1), make.trained.fps)


def _drift(clip: Clip) -> str:
    from genworld.eval.drift import DriftMeter

    meter = DriftMeter(clip.fps)
    meter.update(clip.pixels)
    return f"({meter.compute()})"


def main() -> int:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="a run that was trained with task.given, on the world")
    parser.add_argument("--sheet", action="append", choices=list(SHEETS), help="only this one; may be repeated")
    parser.add_argument("--out", type=Path, help="folder for the pictures; RUN/tasks by default")
    args = parser.parse_args()

    from genworld.ops.pictures import contact_sheet
    from genworld.pipelines.video import VideoGenerator
    from genworld.pipelines.world_cases import still_cases

    make = VideoGenerator.from_run(args.run)
    data = make.experiment.data
    if data.kind != "world":
        raise ValueError(f"{args.run} was trained on data of kind {data.kind!r}: only runs on the world can be shown")
    cases = still_cases(data, make.trained, 12)
    out = args.out or args.run / "tasks"
    out.mkdir(parents=True, exist_ok=True)
    for name in args.sheet or SHEETS:
        draw, columns, frames = SHEETS[name]
        clips, labels = zip(*draw(make, cases), strict=True)
        contact_sheet([clip.pixels for clip in clips], labels, columns, frames).save(out / f"{name}.png")
        print(out / f"{name}.png")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
