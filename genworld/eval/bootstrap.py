"""How much chance there is in a number: intervals of means, of parts and of distances, and of differences of two runs.

All intervals hold the true value in 95 of 100 repetitions, if the videos were drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Float

RESAMPLES = 10_000
_AT_ONCE = 1 << 22  # values drawn at a time, so that memory does not grow with the number of videos
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Between which numbers, and found how."""

    low: float
    high: float
    method: str

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def scaled(self, factor: float) -> Interval:
        """Of the number times a positive factor."""
        return Interval(factor * self.low, factor * self.high, self.method)


def interval_of_mean(
    values: Sequence[float] | Float[np.ndarray, " n"],
    weights: Sequence[float] | Float[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Interval | None:
    """Of the (weighted) mean over videos: percentiles of the means of resampled videos.

    Values that are all 0 or 1 are parts of a whole and get Wilson's interval: the bootstrap would say of 20 out of 20
    that nothing is left to chance.

    Returns:
        None for less than two videos.

    Raises:
        ValueError: a value is not finite.
    """
    values = _finite(values)
    if len(values) < 2:
        return None
    if weights is None and np.isin(values, (0.0, 1.0)).all():
        return wilson(int(values.sum()), len(values))
    shares = np.ones_like(values) if weights is None else _finite(weights)
    low, high = np.quantile(_resampled(values * shares, shares, seed), _ends())
    return Interval(float(low), float(high), "bootstrap over videos")


def wilson(hits: int, num: int) -> Interval:
    """Of a part `hits` out of `num` (Wilson 1927)."""
    z = scipy.stats.norm.ppf((1 + _LEVEL) / 2)
    part, scale = hits / num, 1 + z**2 / num
    middle = (part + z**2 / (2 * num)) / scale
    half = z / scale * math.sqrt(part * (1 - part) / num + z**2 / (4 * num**2))
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0), "Wilson, over videos")


def jackknife(value: float, left_out: Sequence[float]) -> Interval:
    """Of a number that is no mean, from what it is without each of G groups of videos (Tukey 1958).

    The variance is (G - 1)/G times the sum of squared deviations of these, and the quantile Student's with G - 1
    degrees of freedom, since G is small.
    """
    half = _student(left_out) * _deviation(left_out)
    return Interval(value - half, value + half, f"jackknife over {len(left_out)} groups of videos")


def paired_interval(
    first: Sequence[float] | Float[np.ndarray, " n"],
    second: Sequence[float] | Float[np.ndarray, " n"],
    weights: Sequence[float] | Float[np.ndarray, " n"] | None = None,
) -> Interval:
    """Of the difference of two means over the same videos: of the mean of the differences."""
    difference = _finite(first) - _finite(second)
    shares = np.ones_like(difference) if weights is None else _finite(weights)
    low, high = np.quantile(_resampled(difference * shares, shares, 0), _ends())
    return Interval(float(low), float(high), "bootstrap over the same videos, paired")


def unpaired_interval(
    first: Sequence[float] | Float[np.ndarray, " n"], second: Sequence[float] | Float[np.ndarray, " m"]
) -> Interval:
    """Of the difference of two means over different videos, each resampled by itself."""
    one, two = (_finite(side) for side in (first, second))
    means = [_resampled(side, np.ones_like(side), seed) for seed, side in enumerate((one, two))]
    low, high = np.quantile(means[0] - means[1], _ends())
    return Interval(float(low), float(high), "bootstrap over the videos of each, unpaired")


def jackknife_of_difference(
    first: float, second: float, left_first: Sequence[float], left_second: Sequence[float], paired: bool
) -> Interval:
    """Of the difference of two numbers that are no means; `paired` where both left out the same videos."""
    if paired:
        both = [a - b for a, b in zip(left_first, left_second, strict=True)]
        half = _student(both) * _deviation(both)
    else:
        half = _student(left_first) * math.hypot(_deviation(left_first), _deviation(left_second))
    kind = "paired" if paired else "unpaired"
    return Interval(first - second - half, first - second + half, f"jackknife over groups of videos, {kind}")


def _resampled(
    sums: Float[np.ndarray, " n"], shares: Float[np.ndarray, " n"], seed: int
) -> Float[np.ndarray, " resamples"]:
    """Means of resampled videos."""
    chance, num = np.random.default_rng(seed), len(sums)
    means, rows = [], max(_AT_ONCE // num, 1)
    for first in range(0, RESAMPLES, rows):
        picks = chance.integers(0, num, (min(rows, RESAMPLES - first), num))
        means.append(sums[picks].sum(axis=1) / shares[picks].sum(axis=1))
    return np.concatenate(means)


def _ends() -> tuple[float, float]:
    return (1 - _LEVEL) / 2, (1 + _LEVEL) / 2


def _student(left_out: Sequence[float]) -> float:
    return float(scipy.stats.t.ppf((1 + _LEVEL) / 2, len(left_out) - 1))


def _deviation(left_out: Sequence[float]) -> float:
    each = _finite(left_out)
    return math.sqrt((len(each) - 1) / len(each) * float(np.square(each - each.mean()).sum()))


def _finite(values: Sequence[float] | np.ndarray) -> Float[np.ndarray, " n"]:
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("a video has no finite value: leave out those that could not be judged, and count them")
    return found
