"""What can be done with clips: extend, connect, loop, edit, inpaint, outpaint.

All are choices of what a video is given (`Keep`) and where its windows lie (`stream`). Pixels called exact are those of
the given clip, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genworld.pipelines.keep import Region, read_region
from genworld.pipelines.stream import Shot, WindowOptions, Windows, same_shape, stream
from genworld.tasks.given import Given
from genworld.types import CameraPath, Clip

if TYPE_CHECKING:
    from genworld.pipelines.video import VideoGenerator


def extend(
    generator: VideoGenerator,
    prompt: str,
    clip: Clip,
    frames: int,
    *,
    backward: bool = False,
    **options: Unpack[WindowOptions],
) -> Clip:
    """Continue a clip, or show what led up to it.

    Exact: all of `clip`, at the beginning (at the end, when extended backward).

    Args:
        generator: a trained run.
        prompt: what the new frames show.
        clip: one frame or more.
        frames: how many to add; what does not fit a window is made by several, each given the nearest frames of the
            one before.
        backward: add them in front.
        **options: see `Windows.of`.

    Returns:
        `clip` and `frames` new frames in one.

    Raises:
        ValueError: no frames to add, or an option that cannot be honoured.
    """
    _check_new("frames", frames)
    if backward:
        windows = Windows.of(generator, (clip.shape.height, clip.shape.width), clip.fps, **options)
        parts = [*_reach_back(windows, prompt, clip, frames), clip.pixels]
    else:
        parts = [clip.pixels, *stream(generator, [Shot(prompt, frames)], before=clip, **options)]
    return Clip(torch.cat(parts, dim=1), clip.fps, prompt)


def connect(
    generator: VideoGenerator, prompt: str, a: Clip, b: Clip, frames_between: int, **options: Unpack[WindowOptions]
) -> Clip:
    """Lead from one clip to another.

    Exact: all of `a`, at the beginning, and all of `b`, at the end.

    Args:
        generator: a trained run.
        prompt: what happens in between.
        a: the first clip.
        b: the last one, of the same size and rate.
        frames_between: how many to add. More than fit between two histories in one window continue `a` first.
        **options: see `Windows.of`.

    Returns:
        `a`, `frames_between` new frames, and `b`.

    Raises:
        ValueError: clips of different sizes or rates, no frames to add, or an option that cannot be honoured.
    """
    _check_new("frames_between", frames_between)
    size, fps = same_shape(b, (a.shape.height, a.shape.width), a.fps)
    windows = Windows.of(generator, size, fps, **options)
    before = a
    if frames_between > _room(windows, a.shape.num_frames, b.shape.num_frames):
        more = frames_between - _room(windows, windows.history, b.shape.num_frames)
        before, frames_between = extend(generator, prompt, a, more, **options), frames_between - more
    between = _bridge(windows, prompt, before, b, frames_between)
    return Clip(torch.cat([before.pixels, between, b.pixels], dim=1), a.fps, prompt)


def loop(
    generator: VideoGenerator,
    prompt: str,
    frames: int,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    **options: Unpack[WindowOptions],
) -> Clip:
    """Make a clip that can be played over and over: the end of an ordinary one is connected with its beginning.

    Exact: the last frame is the first.

    Args:
        generator: a trained run.
        prompt: what to show.
        frames: of the result, the closing one included; at least 3. Leave it out when writing the loop to a file.
        size: height and width; as trained by default.
        fps: frames per second; as trained by default.
        **options: see `Windows.of`.

    Raises:
        ValueError: too few frames, or an option that cannot be honoured.
    """
    if frames < 3:
        raise ValueError(f"a loop needs a frame, another, and the first again: at least 3 frames, got {frames}")
    windows = Windows.of(generator, size, fps, **options)
    between = min(_room(windows, frames, frames), (frames - 1) // 2)
    made = torch.cat(list(stream(generator, [Shot(prompt, frames - 1 - between)], size=size, fps=fps, **options)), 1)
    clip = Clip(made, windows.request.shape.fps)
    closing = _bridge(windows, prompt, clip, clip, between)
    return Clip(torch.cat([made, closing, made[:, :1]], dim=1), clip.fps, prompt)


def edit(
    generator: VideoGenerator,
    prompt: str,
    clip: Clip,
    strength: float = 0.6,
    *,
    camera: CameraPath | None = None,
    **options: Unpack[WindowOptions],
) -> Clip:
    """Make a clip anew that looks like this one, as far as the prompt allows.

    Exact: nothing (everything, at strength 1).

    Args:
        generator: a trained run.
        prompt: what the result shows.
        clip: what it begins from, noised to level 1 - strength.
        strength: of the clip: 1 keeps it, 0 forgets it.
        camera: its path, one pose per frame.
        **options: see `Windows.of`.

    Raises:
        ValueError: a strength outside [0, 1], or an option that cannot be honoured.
    """
    windows = Windows.of(generator, (clip.shape.height, clip.shape.width), clip.fps, **options)
    return _remake(windows, prompt, Given(clip.pixels, strength=strength), camera)


def inpaint(
    generator: VideoGenerator,
    prompt: str,
    clip: Clip,
    mask: Region,
    *,
    camera: CameraPath | None = None,
    **options: Unpack[WindowOptions],
) -> Clip:
    """Make a region of a clip anew.

    Exact: all pixels outside the region.

    Args:
        generator: a trained run.
        prompt: what the result shows, all of it.
        clip: the clip.
        mask: what is made anew: true there, [H W] or [F H W]; or a box (x, y, width, height) in pixels.
        camera: its path, one pose per frame.
        **options: see `Windows.of`.

    Raises:
        ValueError: a mask that does not fit the clip or leaves nothing to be made, or an option that cannot be
            honoured.
    """
    anew = read_region(mask, clip.pixels)
    if not bool(anew.any()):
        raise ValueError("the mask leaves nothing to be made: it is true where the clip is made anew")
    windows = Windows.of(generator, (clip.shape.height, clip.shape.width), clip.fps, **options)
    return _remake(windows, prompt, Given(clip.pixels, known=~anew), camera)


def outpaint(
    generator: VideoGenerator,
    prompt: str,
    clip: Clip,
    size: tuple[int, int],
    *,
    camera: CameraPath | None = None,
    **options: Unpack[WindowOptions],
) -> Clip:
    """Show what is around a clip.

    Exact: the clip, in the middle of the larger picture.

    Args:
        generator: a trained run.
        prompt: what the result shows, all of it.
        clip: the clip.
        size: height and width of the result.
        camera: its path, one pose per frame.
        **options: see `Windows.of`.

    Raises:
        ValueError: a size that is not larger than the clip, or an option that cannot be honoured.
    """
    height, width = clip.shape.height, clip.shape.width
    below, right = size[0] - height, size[1] - width
    if below < 0 or right < 0 or not (below or right):
        raise ValueError(f"outpainting enlarges: a clip of {height}x{width} cannot become {size[0]}x{size[1]}")
    top, left = below // 2, right // 2
    canvas = F.pad(clip.pixels, (left, right - left, top, below - top))
    known = read_region((left, top, width, height), canvas)
    return _remake(Windows.of(generator, size, clip.fps, **options), prompt, Given(canvas, known=known), camera)


def _remake(windows: Windows, prompt: str, given: Given, camera: CameraPath | None) -> Clip:
    """A clip of which each frame is given in part, window by window; behind the first, each is given what is done."""
    frames = given.num_frames
    if camera is not None and len(camera) != frames:
        raise ValueError(f"a camera path of {len(camera)} poses does not fit a clip of {frames} frames")
    result = given.pixels.clone()
    done = count = 0
    while done < frames:
        new = min(frames - done, windows.frames - windows.history if done else windows.frames)
        first = done - windows.fit(done, windows.frames - new) if done else 0
        here = slice(first, done + new)
        known = None if given.known is None else given.known[here]
        asked = (Given(given.pixels[:, here], known=known, strength=given.strength),)
        past = (Given(result[:, first:done]),) if done else ()
        path = None if camera is None else camera.at(here)
        made = windows.sample(prompt, count, asked + past, path, frames=done + new - first)
        result[:, done : done + new] = made[:, done - first :]
        done, count = done + new, count + 1
    return Clip(result, windows.request.shape.fps, prompt)


def _reach_back(windows: Windows, prompt: str, clip: Clip, frames: int) -> list[Float[Tensor, "3 n H W"]]:
    """New frames that lead up to a clip, in the order shown: windows are made from its beginning towards the past."""
    parts: list[Tensor] = []
    future, missing = clip.pixels, frames
    while missing:
        head = future[:, : windows.fit(future.shape[1])]
        first = windows.frames - head.shape[1]
        future = windows.sample(prompt, len(parts), (Given(head, first),))
        parts.insert(0, future[:, max(first - missing, 0) : first])
        missing -= parts[0].shape[1]
    return parts


def _bridge(windows: Windows, prompt: str, a: Clip, b: Clip, frames: int) -> Float[Tensor, "3 n H W"]:
    """New frames, no more than there is room for, that lead from the end of one clip to the beginning of another."""
    head, tail = windows.end_of(a.pixels), b.pixels[:, : windows.fit(b.shape.num_frames)]
    given = (Given(head), Given(tail, head.shape[1] + frames))
    made = windows.sample(prompt, "bridge", given, frames=head.shape[1] + frames + tail.shape[1])
    return made[:, head.shape[1] :][:, :frames]


def _room(windows: Windows, before: int, after: int) -> int:
    """How many frames fit into one window between clips of `before` and `after` frames."""
    room = windows.frames - windows.fit(before) - windows.fit(after)
    if room < 1:
        raise ValueError(
            f"a window of {windows.frames} frames has no room between two histories of {windows.history}: use a longer "
            "window or a shorter history"
        )
    return room


def _check_new(name: str, frames: int) -> None:
    if frames < 1:
        raise ValueError(f"{name} must be at least 1, got {frames}")
