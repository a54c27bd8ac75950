"""A storyboard: the shots of one video, from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genworld.config import load_config
from genworld.pipelines.camera import parse_camera
from genworld.pipelines.stream import Shot
from genworld.types import ClipShape


@dataclass(frozen=True, kw_only=True)
class StoryShot:
    """One entry of the list in a storyboard's file.

    Attributes:
        prompt: what to show.
        seconds: for how long; or
        frames: for how many frames.
        cut: whether the shot starts afresh; otherwise it continues the one before.
        camera: words for the camera's path, such as "orbit:+30deg".
    """

    prompt: str
    seconds: float | None = None
    frames: int | None = None
    cut: bool = False
    camera: str | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.frames is None):
            raise ValueError("a shot needs either seconds or frames")
        if not (self.seconds or self.frames or 0) > 0:
            raise ValueError(f"a shot must last longer than nothing, got {self.seconds or self.frames or 0}")

    def at(self, shape: ClipShape) -> Shot:
        """The shot in a video of a size and frame rate (the length of `shape` is irrelevant)."""
        frames = self.frames if self.frames is not None else max(round((self.seconds or 0) * shape.fps), 1)
        camera = None if self.camera is None else parse_camera(self.camera, shape._replace(num_frames=frames))
        return Shot(self.prompt, frames, self.cut, camera)


def read_storyboard(path: Path) -> tuple[StoryShot, ...]:
    """The shots of a YAML file: a list of `StoryShot`.

    Raises:
        ValueError: there is no such file, or something in it is not understood; says what and where.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such storyboard")
    shots = load_config(tuple[StoryShot, ...], path)
    if not shots:
        raise ValueError(f"{path}: a storyboard is a list of shots, and this one is empty")
    return shots
