"""Which of several clips a video looks like: a check that a model overfitted to a few clips knows them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from genworld.types import ClipInfo, ClipShape, ClipSource, Pick


def excerpts(source: ClipSource, index: int, shape: ClipShape, num: int = 8) -> list[Float[Tensor, "3 F H W"]]:
    """Excerpts of a clip at a shape, spread evenly from its beginning to its end."""
    latest = max(source.info(index).seconds - (shape.num_frames + 1) / shape.fps, 0.0)
    starts = [latest * i / (num - 1) for i in range(num)]
    return [source.read(Pick(i, index, shape, start)).need_pixels() for i, start in enumerate(starts)]


def distance(video: Float[Tensor, "3 F H W"], others: Sequence[Float[Tensor, "3 F H W"]]) -> float:
    """Mean squared error of pixels in [-1, 1] to the nearest of the others."""
    return min((video - other).square().mean().item() for other in others)


def closest_clips(
    source: ClipSource, infos: Sequence[ClipInfo], videos: Sequence[Float[Tensor, "3 F H W"]], fps: float
) -> list[tuple[int, float]]:
    """For each video the index of the clip that it is closest to, and how far that is.

    A clip that is too short to be compared is infinitely far.
    """
    read = lru_cache(maxsize=len(infos) * 4)(lambda index, shape: excerpts(source, index, shape))
    found = []
    for video in videos:
        shape = ClipShape(video.shape[1], video.shape[2], video.shape[3], fps)
        fits = [info.seconds * fps >= shape.num_frames for info in infos]
        away = [distance(video, read(i, shape)) if fits[i] else math.inf for i in range(len(infos))]
        found.append((min(range(len(away)), key=away.__getitem__), min(away)))
    return found
