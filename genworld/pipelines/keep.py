"""Media that a video must contain: an image, a clip or a file, at a time, in a region, more or less strictly."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from genworld.data.media import MediaLimits
from genworld.data.readers import open_reader
from genworld.data.synthetic import from_bytes
from genworld.tasks.given import Given
from genworld.types import Clip, ClipShape

logger = logging.getLogger(__name__)

Media = Clip | Tensor | Image.Image | str | Path
Region = Tensor | tuple[int, int, int, int]

SAME_RATE = 1e-3
"""Relative difference up to which two frame rates are one (23.976 and 24000 / 1001)."""
SAME_PIXEL = 2.5 / 255
"""Difference up to which two pixels in [-1, 1] are one: that of rounding to bytes."""


@dataclass(frozen=True, eq=False)
class Keep:
    """Something that a video is given.

    Attributes:
        media: an image, a clip, or the path of one. Tensors are [3 F H W] or [3 H W] in [-1, 1], at the video's rate.
        at: when it begins, in seconds; or "start"; or "end": its last frame is the video's last.
        region: where it is used: a mask [H W] or [F H W] that is true there, or a box (x, y, width, height) in pixels.
            None: everywhere.
        strength: 1 keeps its pixels exactly. Less begins from a noised version of it, which the prompt may change the
            more the smaller this is; it must then begin with the video.
    """

    media: Media
    at: float | Literal["start", "end"] = "start"
    region: Region | None = None
    strength: float = 1.0


def load_media(media: Media, fps: float) -> Clip:
    """Pixels of an image (a clip of one frame) or a clip.

    Args:
        media: a record, a tensor, a picture or a path.
        fps: of the video it is for, which media that move must have.

    Raises:
        ValueError: it cannot be read, or moves at another rate.
    """
    if isinstance(media, Image.Image):
        picture = torch.from_numpy(np.array(media.convert("RGB")))
        return Clip(from_bytes(rearrange(picture, "h w c -> c 1 h w")), fps)
    if isinstance(media, Tensor):
        return Clip(_as_clip(media), fps)
    clip = media if isinstance(media, Clip) else read_media(Path(media))
    if clip.pixels.shape[1] > 1 and abs(clip.fps / fps - 1) > SAME_RATE:
        name = "a given clip" if isinstance(media, Clip) else str(media)
        raise ValueError(
            f"{name} has {clip.fps:g} frames per second and the video {fps:g}: ask for {clip.fps:g}, or convert the "
            "clip first"
        )
    return replace(clip, fps=fps)


def read_media(path: Path) -> Clip:
    """All frames of an image or a video file, at its own rate.

    Raises:
        ValueError: it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    with open_reader(path, limits=MediaLimits()) as reader:
        info = reader.info
        frames = reader.read([i / info.fps for i in range(info.num_frames)] if info.num_frames > 1 else [0.0])
    return Clip(from_bytes(rearrange(frames, "f h w c -> c f h w")), info.fps)


def _as_clip(pixels: Tensor) -> Float[Tensor, "3 F H W"]:
    if pixels.ndim not in (3, 4) or pixels.shape[0] != 3 or not pixels.is_floating_point():
        raise ValueError(
            f"given pixels must be floating point, [3 F H W] or [3 H W] in [-1, 1], got {pixels.dtype} "
            f"{list(pixels.shape)}"
        )
    return pixels[:, None] if pixels.ndim == 3 else pixels


def resolve(keeps: Sequence[Keep], shape: ClipShape) -> tuple[Given, ...]:
    """What a video of a shape is given, checked; what is kept exactly comes last, over what may change.

    Raises:
        ValueError: media of another size or rate, outside the video, or two that contradict each other.
    """
    given = []
    for keep in sorted(keeps, key=lambda keep: keep.strength):
        pixels = load_media(keep.media, shape.fps).pixels
        known = None if keep.region is None else read_region(keep.region, pixels)
        each = Given(pixels, _first_frame(keep.at, pixels.shape[1], shape), known, keep.strength)
        each.check(shape)
        given.append(each)
    for i, one in enumerate(given):
        for other in given[i + 1 :]:
            _check_agreement(one, other)
    return tuple(given)


def read_region(region: Region, pixels: Float[Tensor, "3 F H W"]) -> Bool[Tensor, "F H W"]:
    """A region as a mask over all frames of the media.

    Raises:
        ValueError: a mask of another shape, or a box outside the picture.
    """
    frames, height, width = pixels.shape[1:]
    if isinstance(region, Tensor):
        if tuple(region.shape) not in ((height, width), (frames, height, width)):
            raise ValueError(
                f"a mask of shape {list(region.shape)} does not fit media of {frames} frames of {height}x{width}: "
                f"give [{height}, {width}] or [{frames}, {height}, {width}]"
            )
        return (region > 0).expand(frames, height, width)
    x, y, wide, high = region
    if not (0 <= x < x + wide <= width and 0 <= y < y + high <= height):
        raise ValueError(
            f"the box x={x}, y={y}, width={wide}, height={high} does not lie in a picture of {width} columns and "
            f"{height} rows"
        )
    mask = torch.zeros(frames, height, width, dtype=torch.bool)
    mask[:, y : y + high, x : x + wide] = True
    return mask


def _first_frame(at: float | str, num_frames: int, shape: ClipShape) -> int:
    if at == "start":
        return 0
    if at == "end":
        return shape.num_frames - num_frames
    if isinstance(at, str) or not at >= 0:
        raise ValueError(f"media are kept at 'start', at 'end' or at seconds from 0 on, got {at!r}")
    return round(at * shape.fps)


def _check_agreement(one: Given, other: Given) -> None:
    """Refuse two things that want different pixels in the same place."""
    first, last = max(one.first, other.first), min(one.first + one.num_frames, other.first + other.num_frames)
    if one.strength < 1 or other.strength < 1 or first >= last:
        return
    difference = (_frames(one.pixels, one, first, last) - _frames(other.pixels, other, first, last)).abs().amax(0)
    for each in (one, other):
        if each.known is not None:
            difference = difference * _frames(each.known[None], each, first, last)[0]
    wrong = (difference > SAME_PIXEL).flatten(1).any(1).nonzero()
    if len(wrong):
        raise ValueError(
            f"two given media contradict each other at frame {first + int(wrong[0])}: give them regions or times that "
            "do not overlap"
        )


def _frames(values: Tensor, given: Given, first: int, last: int) -> Tensor:
    return values[:, first - given.first : last - given.first]


# ---- shapes that the VAE does not take ----


def pad_given(given: Given, shape: ClipShape, padded: ClipShape) -> Given:
    """What is given, for a video whose shape was enlarged at the bottom, on the right and at the end.

    Edges are repeated; and so is the last frame of something that begins and ends with the video.
    """
    right, below = padded.width - shape.width, padded.height - shape.height
    whole = given.first == 0 and given.num_frames == shape.num_frames
    after = padded.num_frames - shape.num_frames if whole else 0
    if not (right or below or after):
        return given
    sides = (0, right, 0, below, 0, after)
    pixels = F.pad(given.pixels[None], sides, mode="replicate")[0]
    known = given.known
    if known is not None:
        known = F.pad(known[None, None].float(), sides, mode="replicate")[0, 0] > 0
    return replace(given, pixels=pixels, known=known)


def pad_shape(shape: ClipShape, time_stride: int, multiple: int) -> ClipShape:
    """The smallest shape that a VAE takes and that holds `shape`."""
    frames = 1 + -(-(shape.num_frames - 1) // time_stride) * time_stride
    height, width = (-(-size // multiple) * multiple for size in (shape.height, shape.width))
    return ClipShape(frames, height, width, shape.fps)
