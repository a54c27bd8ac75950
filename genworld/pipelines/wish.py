"""What a person can ask `sample.py` for, and which questions go together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from genworld.pipelines.keep import Region, read_media
from genworld.pipelines.stream import WindowOptions

SHAPE = {"size", "frames", "seconds", "fps"}
USES = {
    "make": SHAPE | {"image", "last", "camera", "batch"},
    "extend": {"by", "backward", "camera"},
    "connect": {"gap"},
    "loop": SHAPE,
    "edit": {"strength", "camera"},
    "inpaint": {"mask", "camera"},
    "outpaint": {"size", "camera"},
    "storyboard": {"size", "fps"},
}
"""Which options say something about which task; those that are not here say something about all."""
NEEDS = {
    "extend": ("by", "--by 3s"),
    "connect": ("gap", "--gap 2s"),
    "inpaint": ("mask", "--mask mask.png"),
    "outpaint": ("size", "--size 96x160"),
}
"""Options without which a task means nothing, and an example."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for; every field is an option of `sample.py` and explained by its `--help`."""

    run: Path
    prompt: list[str] | None = None
    prompts: Path | None = None
    negative: str = ""
    size: tuple[int, int] | None = None
    frames: int | None = None
    seconds: float | None = None
    fps: float | None = None
    image: Path | None = None
    last: Path | None = None
    extend: Path | None = None
    by: str | None = None
    backward: bool = False
    connect: list[Path] | None = None
    gap: str | None = None
    loop: bool = False
    edit: Path | None = None
    strength: float | None = None
    inpaint: Path | None = None
    mask: str | None = None
    outpaint: Path | None = None
    storyboard: Path | None = None
    camera: str | None = None
    window: int | None = None
    history: int | None = None
    given_level: float = 0.0
    stagger: int = 0
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    num: int = 1
    batch: int | None = None
    format: Literal["mp4", "gif", "png"] | None = None
    out: Path = Path("out")

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, before anything is loaded."""
        named = [name for name in USES if name != "make" and getattr(self, name)]
        if len(named) > 1:
            raise ValueError(f"--{named[0]} and --{named[1]} are two tasks: choose one")
        about = f"--{self.task}" if named else "a video that is made from its prompt"
        if unused := [name for name in self.said if name not in USES[self.task]]:
            raise ValueError(f"--{unused[0]} says nothing about {about}: leave it out")
        needed, example = NEEDS.get(self.task, (None, ""))
        if needed and needed not in self.said:
            raise ValueError(f"--{self.task} needs --{needed}, such as {example}")
        if self.backward and self.camera:
            raise ValueError("--camera cannot lead up to a clip: leave it or --backward out")
        if self.frames is not None and self.seconds is not None:
            raise ValueError("--frames and --seconds say the same thing: choose one")
        if self.num < 1 or (self.batch is not None and self.batch < 1):
            raise ValueError("--num and --batch must be at least 1")
        sources = [f"--{name}" for name in ("prompt", "prompts", "storyboard") if getattr(self, name)]
        if len(sources) != 1:
            found = " and ".join(sources) or "none of them"
            raise ValueError(f"say what to show by one of --prompt, --prompts and --storyboard, got {found}")

    @property
    def task(self) -> str:
        """The one thing to do: a key of `USES`."""
        return next((name for name in USES if name != "make" and getattr(self, name)), "make")

    @property
    def said(self) -> list[str]:
        """The options with a value that only some tasks have a use for."""
        names = sorted(set().union(*USES.values()))
        return [name for name in names if getattr(self, name) not in (None, False)]

    @property
    def files(self) -> list[Path]:
        """The files that are given."""
        single = [self.image, self.last, self.extend, self.edit, self.inpaint, self.outpaint, self.storyboard]
        texts = [Path(text) for text in (self.mask, self.camera) if text is not None and Path(text).is_file()]
        return [path for path in (*single, *(self.connect or []), *texts) if path is not None]

    def read_prompts(self) -> list[str]:
        """The prompts; a storyboard, which has its own, counts as one that is called as its file.

        Raises:
            ValueError: the file of prompts cannot be read or is empty.
        """
        if self.storyboard:
            return [self.storyboard.stem]
        if self.prompts is None:
            return self.prompt or []
        if not self.prompts.is_file():
            raise ValueError(f"{self.prompts}: there is no such file of prompts")
        prompts = [line.strip() for line in self.prompts.read_text().splitlines() if line.strip()]
        if not prompts:
            raise ValueError(f"{self.prompts} holds no prompt; write one a line")
        return prompts

    def options(self, seed: int, *, progress: bool = False) -> WindowOptions:
        """What is said of windows, for a video of a seed."""
        return WindowOptions(
            window=self.window,
            history=self.history,
            given_level=self.given_level,
            stagger=self.stagger,
            seed=seed,
            negative=self.negative,
            steps=self.steps,
            guidance=self.guidance,
            progress=progress,
        )


def read_duration(name: str, text: str, fps: float) -> int:
    """Frames of a duration such as "3s", or "24" for that many frames.

    Raises:
        ValueError: anything else, and what is not at least one frame.
    """
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*s|(-?\d+)", text.strip())
    if not match:
        raise ValueError(f"--{name}: expected seconds such as 3s or a number of frames such as 24, got {text!r}")
    frames = round(float(match[1]) * fps) if match[1] else int(match[2])
    if frames < 1:
        raise ValueError(f"--{name} {text} is less than a frame: time goes forward, from one frame on")
    return frames


def read_mask(text: str) -> Region:
    """A box x,y,w,h; or the mask in a picture or a video file, true where it is lighter than middle grey.

    Raises:
        ValueError: neither.
    """
    if match := re.fullmatch(r"(-?\d+),(-?\d+),(-?\d+),(-?\d+)", text.replace(" ", "")):
        x, y, width, height = map(int, match.groups())
        return x, y, width, height
    mask: Tensor = read_media(Path(text)).pixels.mean(dim=0) > 0
    return mask[0] if len(mask) == 1 else mask
