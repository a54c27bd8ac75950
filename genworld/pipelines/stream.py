"""Videos of any length: windows that slide over time, each given the end of what is there already.

Only one window and its history exist at a time, so that memory does not grow with length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.flow.guidance import GuidanceConfig
from genworld.flow.samplers import SamplerConfig
from genworld.ops.geometry import relative_to_first
from genworld.ops.random import Key, seed_of
from genworld.pipelines.keep import SAME_RATE
from genworld.tasks.given import Given
from genworld.tasks.text_to_video import Request
from genworld.types import CameraPath, Clip

if TYPE_CHECKING:
    from genworld.pipelines.video import VideoGenerator

HISTORY_PART = 4
"""One latent frame in this many of a window is history, by default."""


@dataclass(frozen=True)
class Shot:
    """A stretch of a video under one prompt.

    Attributes:
        prompt: what to show.
        frames: how many, at the video's rate.
        cut: whether it starts afresh; otherwise it continues the shot before.
        camera: one pose per frame. It sets out from where the camera of the shot before came to rest, if that is known.
    """

    prompt: str
    frames: int
    cut: bool = False
    camera: CameraPath | None = None


class WindowOptions(TypedDict, total=False):
    """What can be said of the windows: see `Windows.of`."""

    window: int | None
    history: int | None
    given_level: float
    stagger: int
    seed: int
    negative: str
    steps: int | None
    guidance: float | None
    progress: bool


def stream(
    generator: VideoGenerator,
    shots: Sequence[Shot],
    *,
    before: Clip | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    **options: Unpack[WindowOptions],
) -> Iterator[Float[Tensor, "3 n H W"]]:
    """Make the frames of consecutive shots, window by window, at constant memory.

    The frames of a shot do not depend on how long it is: a longer one begins with the shorter one.

    Args:
        generator: a trained run.
        shots: what to show, and for how long.
        before: a clip to be continued; its size and frame rate are those of the video.
        size: height and width; as trained by default.
        fps: frames per second; as trained by default.
        **options: see `Windows.of`.

    Yields:
        New frames in [-1, 1], as many at a time as a window makes; those of `before` are not repeated.

    Raises:
        ValueError: nothing to show, or numbers that contradict each other; at the call, before the first frame.
    """
    shots = list(shots)
    if not shots:
        raise ValueError("a stream needs at least one shot")
    for i, shot in enumerate(shots):
        _check_shot(f"shot {i + 1} ({shot.prompt!r})", shot)
    if before is not None:
        size, fps = same_shape(before, size, fps)
    return _slide(Windows.of(generator, size, fps, **options), shots, before)


@dataclass(frozen=True)
class Windows:
    """What the windows of a video have in common.

    Attributes:
        generator: what makes them.
        request: shape, levels and what to avoid; of a window's seed only the beginning.
        history: the most frames that a window is given of one neighbour.
        settings: sampler and guidance.
        progress: whether each shows a bar.
    """

    generator: VideoGenerator
    request: Request
    history: int
    settings: tuple[SamplerConfig, GuidanceConfig]
    progress: bool = False

    @classmethod
    def of(  # noqa: PLR0913 - every argument but the first three has a default
        cls,
        generator: VideoGenerator,
        size: tuple[int, int] | None,
        fps: float | None,
        *,
        window: int | None = None,
        history: int | None = None,
        given_level: float = 0.0,
        stagger: int = 0,
        seed: int = 0,
        negative: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        progress: bool = False,
    ) -> Windows:
        """Windows of a generator.

        Args:
            generator: a trained run.
            size: height and width; as trained by default.
            fps: frames per second; as trained by default.
            window: frames sampled at a time, history included; as many as in training by default.
            history: how many of them are given; about a quarter by default. Both are 1 + n temporal strides.
            given_level: noise level at which history is shown; a little (0.1) keeps mistakes from adding up, if
                training knew such levels.
            stagger: steps by which each latent frame lags behind the one before it.
            seed: of the whole video; each window has one of its own, derived from it.
            negative: what to guide away from.
            steps: sampling steps of a window.
            guidance: how strongly to follow the prompt.
            progress: show a bar for each window.

        Raises:
            ValueError: a number that cannot be honoured.
        """
        stride = generator.task.grid.time_stride
        window = generator.trained.num_frames if window is None else window
        if history is None:
            history = 1 + (window - 1) // stride // HISTORY_PART * stride
        for name, count in (("window", window), ("history", history)):
            if count < 1 or (count - 1) % stride:
                below = 1 + max(count - 1, 0) // stride * stride
                raise ValueError(f"{name} must be 1 + {stride} n frames, got {count}: use {below} or {below + stride}")
        if history >= window:
            raise ValueError(
                f"a window of {window} frames leaves no room behind a history of {history}: use a longer window, such "
                f"as {history + stride}"
            )
        if not 0 <= given_level < 1 or stagger < 0:
            raise ValueError(f"given_level must be in [0, 1) and stagger at least 0, got {given_level} and {stagger}")
        shape = generator.shape(window, size, fps)
        request = Request("", shape, seed, negative, given_level=given_level, stagger=stagger)
        return cls(generator, request, history, generator.settings(steps, guidance), progress)

    @property
    def frames(self) -> int:
        """Of a window."""
        return self.request.shape.num_frames

    def fit(self, frames: int, most: int | None = None) -> int:
        """How many of `frames` a window is given: 1 + n strides, up to `most`, or else to the length of a history."""
        stride = self.generator.task.grid.time_stride
        return 1 + (min(frames, most or self.history) - 1) // stride * stride

    def end_of(self, pixels: Float[Tensor, "3 F H W"]) -> Float[Tensor, "3 n H W"]:
        """The last frames, to be given, in memory of their own: a view would keep all of them alive."""
        return pixels[:, -self.fit(pixels.shape[1]) :].clone()

    def sample(
        self,
        prompt: str,
        key: Key,
        given: tuple[Given, ...] = (),
        camera: CameraPath | None = None,
        frames: int | None = None,
    ) -> Float[Tensor, "3 F H W"]:
        """One window; `key` tells its seed from those of the others, `frames` is another length."""
        shape = self.request.shape._replace(num_frames=frames or self.frames)
        seed = seed_of(self.request.seed, "window", key)
        request = replace(self.request, prompt=prompt, shape=shape, seed=seed, given=given, camera=camera)
        (clip,) = self.generator.sample([request], self.settings, progress=self.progress)
        return clip.pixels


def _slide(windows: Windows, shots: Sequence[Shot], before: Clip | None) -> Iterator[Float[Tensor, "3 n H W"]]:
    shape, count = windows.request.shape, 0
    past = torch.zeros(3, 0, shape.height, shape.width) if before is None else windows.end_of(before.pixels)
    poses = None
    for shot in shots:
        if shot.cut:
            past, poses = past[:, :0], None
        path, offset, done = _set_out(shot.camera, poses, past.shape[1]), past.shape[1], 0
        while done < shot.frames:
            given = past.shape[1]
            camera = None if path is None else at_rest_after(path, offset + done - given, windows.frames)
            made = windows.sample(shot.prompt, count, (Given(past),) if given else (), camera)
            made = made[:, : given + shot.frames - done]
            past, done, count = windows.end_of(made), done + made.shape[1] - given, count + 1
            yield made[:, given:]
            del made  # while the next window is made, there is nothing left of this one but its end
        poses = None if path is None else path.world_from_camera[-past.shape[1] :]


def _set_out(camera: CameraPath | None, poses: Float[Tensor, "n 4 4"] | None, given: int) -> CameraPath | None:
    """The path of a shot's camera behind that of the `given` frames before it, at rest there if nothing is known."""
    if camera is None or not given:
        return camera
    path = camera.world_from_camera
    if poses is None:
        poses = path[:1].expand(given, -1, -1)
    return replace(camera, world_from_camera=torch.cat([poses, poses[-1] @ relative_to_first(path)]))


def at_rest_after(path: CameraPath, first: int, frames: int) -> CameraPath:
    """Some frames of a path, at rest where it is over."""
    return path.at([min(i, len(path) - 1) for i in range(first, first + frames)])


def _check_shot(name: str, shot: Shot) -> None:
    if shot.frames < 1:
        raise ValueError(f"{name} has {shot.frames} frames: it needs at least 1")
    if shot.camera is not None and len(shot.camera) != shot.frames:
        raise ValueError(f"{name} has {shot.frames} frames and a camera path of {len(shot.camera)} poses: use as many")


def same_shape(clip: Clip, size: tuple[int, int] | None, fps: float | None) -> tuple[tuple[int, int], float]:
    """Size and rate of a clip that is continued, which must be those asked for."""
    _, height, width, own = clip.shape
    if size not in (None, (height, width)):
        raise ValueError(f"a clip of {height}x{width} cannot be continued at {size[0]}x{size[1]}: resize it first")
    if fps is not None and abs(own / fps - 1) > SAME_RATE:
        raise ValueError(f"a clip of {own:g} frames per second cannot be continued at {fps:g}: convert it first")
    return (height, width), own
