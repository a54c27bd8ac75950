"""How far two paths are from each other as a whole: dynamic time warping, exact and by its usual approximation."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

DTWMethod = Literal["exact", "fastdtw"]
_RADIUS = 1  # of the package that VLN-CE takes


def dtw(one: Float[np.ndarray, "N D"], other: Float[np.ndarray, "M D"]) -> float:
    """Least sum of Euclidean distances over all monotone alignments of two paths, metres. Exact, O(N M).

    Raises:
        ValueError: a path is empty, or the paths have different dimensions.
    """
    one, other = _checked(one, other)
    rows, columns = len(one), len(other)
    cost = np.linalg.norm(one[:, None] - other[None], axis=-1)
    # The cells of an antidiagonal depend on the two before it only; position k of each is row k - 1.
    before, last = np.full(rows + 1, np.inf), np.full(rows + 1, np.inf)
    before[0] = 0.0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        best = np.minimum(np.minimum(last[i], last[i + 1]), before[i])
        new = np.full(rows + 1, np.inf)
        new[i + 1] = best + cost[i, diagonal - i]
        before, last = last, new
    return float(last[rows])


def fast_dtw(one: Float[np.ndarray, "N D"], other: Float[np.ndarray, "M D"], radius: int = _RADIUS) -> float:
    """`dtw` near the best alignment of the paths at half their resolution (Salvador and Chan 2007): never below it.

    Halving, window and ties are those of the package `fastdtw`, so that the values are its values.

    Raises:
        ValueError: a path is empty, or the paths have different dimensions.
    """
    return _fast(*_checked(one, other), radius).distance


def steps_of(positions: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "K D"]:
    """The positions without those that are equal to the one before."""
    moved = np.append(True, (np.diff(positions, axis=0) != 0).any(-1))
    return positions[moved]


class _Aligned(NamedTuple):
    distance: float
    pairs: list[tuple[int, int]]


def _checked(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, other = (np.asarray(path, dtype=np.float64) for path in (one, other))
    if one.ndim != 2 or other.ndim != 2 or not len(one) or not len(other) or one.shape[1] != other.shape[1]:
        raise ValueError(
            f"expected two paths of one dimension with a point each at least, got {one.shape}, {other.shape}"
        )
    return one, other


def _fast(one: np.ndarray, other: np.ndarray, radius: int) -> _Aligned:
    if min(len(one), len(other)) < radius + 2:
        return _within(one, other, [(0, len(other))] * len(one))
    coarse = _fast(_halved(one), _halved(other), radius)
    return _within(one, other, _window(coarse.pairs, len(one), len(other), radius))


def _halved(path: np.ndarray) -> np.ndarray:
    """Means of pairs; an odd point at the end is left out."""
    even = len(path) - len(path) % 2
    return (path[0:even:2] + path[1:even:2]) / 2


def _window(pairs: list[tuple[int, int]], rows: int, columns: int, radius: int) -> list[tuple[int, int]]:
    """For each row the columns, first and one past the last, that lie near a coarse alignment."""
    window = [(columns, 0)] * rows
    for i, j in pairs:
        low, high = max(0, 2 * (j - radius)), min(columns, 2 * (j + radius) + 2)
        for row in range(max(0, 2 * (i - radius)), min(rows, 2 * (i + radius) + 2)):
            window[row] = min(window[row][0], low), max(window[row][1], high)
    return window


def _within(one: np.ndarray, other: np.ndarray, window: list[tuple[int, int]]) -> _Aligned:
    """The best alignment inside a window; ties go to a step along the first path, then along the second."""
    infinite = (float("inf"), (0, 0))
    best: dict[tuple[int, int], tuple[float, tuple[int, int]]] = {(-1, -1): (0.0, (-1, -1))}
    for i, (low, high) in enumerate(window):
        costs = np.linalg.norm(other[low:high] - one[i], axis=-1).tolist()
        for j, cost in zip(range(low, high), costs, strict=True):
            options = ((i - 1, j), (i, j - 1), (i - 1, j - 1))
            value, origin = min(((best.get(cell, infinite)[0], cell) for cell in options), key=lambda pair: pair[0])
            best[i, j] = value + cost, origin
    end = (len(one) - 1, len(other) - 1)
    pairs, cell = [], end
    while cell != (-1, -1):
        pairs.append(cell)
        cell = best[cell][1]
    pairs.reverse()
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(pairs))
    return _Aligned(best[end][0], pairs)
