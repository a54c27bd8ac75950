"""How well a video goes on from the frames that were given: baselines, error of what was made, and where its object is.

Two honest baselines know the given frames and nothing else. With frames given on one side only they are the same video.
A model is compared with them clip by clip, and the mean of the differences comes with its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.eval.palette import Track
from genworld.ops.quality import psnr


def repeat_nearest(video: Float[Tensor, "3 F H W"], given: Bool[Tensor, " F"]) -> Float[Tensor, "3 F H W"]:
    """Every frame is the given one that is nearest in time, the earlier of two; frames not given are never looked at.

    Raises:
        ValueError: no frame is given, or `given` has another length than the video.
    """
    times = _given_times(video, given)
    apart = (torch.arange(video.shape[1])[:, None] - times).abs()
    return video[:, times[apart.numpy().argmin(1)]]  # numpy's argmin is the first of equals, torch's is any


def cross_fade(video: Float[Tensor, "3 F H W"], given: Bool[Tensor, " F"]) -> Float[Tensor, "3 F H W"]:
    """Every frame is a mixture, linear in time, of the given ones before and after it; beyond the ends, a copy.

    Raises:
        ValueError: no frame is given, or `given` has another length than the video.
    """
    times, frames = _given_times(video, given), torch.arange(video.shape[1])
    before = times[(torch.searchsorted(times, frames, right=True) - 1).clamp(min=0)]
    after = times[torch.searchsorted(times, frames).clamp(max=len(times) - 1)]
    part = (frames - before) / (after - before).clamp(min=1)
    return torch.lerp(video[:, before], video[:, after], part.to(video).view(-1, 1, 1))


def made_psnr(real: Float[Tensor, "3 F H W"], video: Float[Tensor, "3 F H W"], given: Bool[Tensor, " F"]) -> float:
    """PSNR in dB over the frames that had to be made; at most 100.

    Raises:
        ValueError: every frame is given, or `given` has another length than the video.
    """
    _check_length(real, given)
    if given.all():
        raise ValueError("every frame is given, so there is nothing to judge: leave at least one frame to be made")
    made = ~given
    return psnr(real[None, :, made], video[None, :, made]).item()


def seam_step(video: Float[Tensor, "3 F H W"], known: Bool[Tensor, "F H W"]) -> float:
    """Mean step between neighbouring pixels (in time, rows, columns) of which one was given and one made.

    In units of the range [-1, 1] of pixels. To be compared with the same steps of the real video: a seam is more.

    Raises:
        ValueError: everything is given or nothing, so that there is no seam.
    """
    total, count = 0.0, 0
    for axis in range(3):
        edge = known.diff(dim=axis)
        steps = video.diff(dim=axis + 1).abs().mean(0)
        total, count = total + float(steps[edge].sum()), count + int(edge.sum())
    if not count:
        raise ValueError("there is no seam where everything or nothing is given")
    return total / count


@dataclass(frozen=True)
class PositionError:
    """How far an object is from where it should be.

    Attributes:
        pixels: mean distance over the frames that were judged; NaN where none was.
        num_judged: frames that were judged.
        num_missing: frames among them in which the object was not found.
    """

    pixels: float
    num_judged: int
    num_missing: int


def pixel_centres(track: Track) -> Float[np.ndarray, "F 2"]:
    """The centres of a track as column and row in pixels, where the first pixel spans 0 to 1; NaN where absent."""
    return track.centres * min(track.masks.shape[1:])


def position_error(
    track: Track,
    truth: Float[np.ndarray, "F 2"],
    frames: Bool[np.ndarray, " F"],
    colour: str | None = None,
    missing: Literal["worst", "interpolate"] = "worst",
) -> PositionError:
    """Distance in pixels between the object of a track and the truth.

    A frame in which the object is not found must not help whom it is counted for. A model's ("worst") costs as much as
    the farthest corner of the picture: no answer could have been worse. A baseline's ("interpolate") is filled in from
    the frames around it, because to punish a cross-fade for having no object halfway would flatter the model.

    Args:
        track: of the video that is judged.
        truth: column and row in pixels; NaN where it is not known, and such frames are not judged.
        frames: which ones to judge.
        colour: of the object: one of another colour, or too seldom seen to have one, is not found ("worst" only).
        missing: what frames count in which the object is not found. One that is found nowhere is "worst" either way.

    Raises:
        ValueError: the track, the truth and `frames` differ in length.
    """
    if not len(track.present) == len(truth) == len(frames):
        raise ValueError(f"the track has {len(track.present)} frames, truth {len(truth)} and frames {len(frames)}")
    judged = frames & np.isfinite(truth).all(1)
    found = track.present.copy()
    if missing == "worst" and colour is not None:
        found &= track.colour == colour
    height, width = track.masks.shape[1:]
    farthest = np.linalg.norm(np.maximum(truth, np.array([width, height]) - truth), axis=1)
    places = _filled(pixel_centres(track), found) if missing == "interpolate" else pixel_centres(track)
    known = found | bool(missing == "interpolate" and found.any())
    distance = np.where(known, np.linalg.norm(places - truth, axis=1), farthest)
    mean = float(distance[judged].mean()) if judged.any() else math.nan
    return PositionError(mean, int(judged.sum()), int((judged & ~found).sum()))


@dataclass(frozen=True)
class Paired:
    """Mean of the differences between two methods on the same clips, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    num: int

    @property
    def beats(self) -> bool:
        """Whether the mean is on the first method's side."""
        return self.mean > 0

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is all on one side of 0."""
        return self.low > 0 or self.high < 0


def paired_difference(
    first: Sequence[float], second: Sequence[float], seed: int = 0, resamples: int = 10_000
) -> Paired:
    """The mean of `first` - `second`, clip by clip, and its 95 % percentile interval over resampled clips.

    Raises:
        ValueError: different numbers of clips, none, or a number that is not finite.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"expected as many clips on both sides and at least one, got {len(first)} and {len(second)}")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("a clip has no finite difference: leave out clips that could not be judged, and count them")
    picks = np.random.default_rng(seed).integers(0, len(differences), (resamples, len(differences)))
    low, high = np.quantile(differences[picks].mean(1), [0.025, 0.975])
    return Paired(float(differences.mean()), float(low), float(high), len(differences))


def _filled(places: Float[np.ndarray, "F 2"], found: Bool[np.ndarray, " F"]) -> Float[np.ndarray, "F 2"]:
    """Places between those found, linear in time; beyond the ends the nearest. Unchanged where none is found."""
    frames = np.arange(len(places))
    if not found.any():
        return places
    return np.stack([np.interp(frames, frames[found], places[found, axis]) for axis in range(2)], axis=1)


def _given_times(video: Tensor, given: Tensor) -> Tensor:
    _check_length(video, given)
    if not given.any():
        raise ValueError("no frame is given: a baseline needs at least one")
    return torch.nonzero(given).flatten()


def _check_length(video: Tensor, given: Tensor) -> None:
    if given.shape != video.shape[1:2]:
        raise ValueError(f"the video has {video.shape[1]} frames but `given` has shape {list(given.shape)}")
