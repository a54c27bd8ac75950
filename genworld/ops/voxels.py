"""Points in voxels: cells, their means by sort and segment-reduce, and sums that no order of adding can change."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genworld.ops.masks import true_rows

_BITS = 21  # of a key, per axis: 2 million cells, 50 km at 5 cm
_HALF = 1 << (_BITS - 1)
UNIT = 2.0**-26
"""Sums are whole multiples of this, 1.5e-8: float64 holds them without rounding up to 1.3e8."""
_ROWS_AT_ONCE = 128


def voxel_cells(points: Float[Tensor, "*n 3"], size: float) -> Int[Tensor, "*n 3"]:
    """The cells of edge `size` metres that points lie in; cell 0 begins at the origin."""
    return (points / size).floor().long()


def cell_centres(cells: Int[Tensor, "*n 3"], size: float) -> Float[Tensor, "*n 3"]:
    """Centres of cells in metres, float64."""
    return (cells.double() + 0.5) * size


def cell_keys(cells: Int[Tensor, "n 3"]) -> Int[Tensor, " n"]:
    """Cells as single numbers in lexicographic order; `key_cells` is the inverse.

    Raises:
        ValueError: a cell is a million or more from the origin.
    """
    if cells.numel() and (cells.min() < -_HALF or cells.max() >= _HALF):
        raise ValueError(
            f"points must lie within {_HALF} voxels of the origin, got cells {int(cells.min())} to {int(cells.max())}: "
            "take larger voxels, or check the unit of depth and poses"
        )
    x, y, z = (cells + _HALF).unbind(-1)
    return (x << (2 * _BITS)) | (y << _BITS) | z


def key_cells(keys: Int[Tensor, " n"]) -> Int[Tensor, "n 3"]:
    """The cells that `cell_keys` made these of."""
    mask = (1 << _BITS) - 1
    return torch.stack([keys >> (2 * _BITS), (keys >> _BITS) & mask, keys & mask], dim=-1) - _HALF


class Groups(NamedTuple):
    """Rows with equal keys brought together: `order` sorts the rows, `lengths` cuts them into one run per key."""

    keys: Int[Tensor, " G"]
    order: Int[Tensor, " n"]
    lengths: Int[Tensor, " G"]


def group(keys: Int[Tensor, " n"]) -> Groups:
    """Bring rows with equal keys together, ascending; within a key they keep their order."""
    ordered, order = _sorted(keys)
    distinct, lengths = torch.unique_consecutive(ordered, return_counts=True)
    return Groups(distinct, order, lengths)


def _sorted(keys: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """Keys ascending and where each was; equal ones keep their order."""
    bits = len(keys).bit_length()
    if keys.device.type == "cpu" and len(keys):
        least, most = keys.aminmax()
        if least >= 0 and int(most) >> (63 - bits) == 0:
            # With their place in the low bits no two are equal, and numpy sorts plain numbers with vector instructions.
            placed = torch.from_numpy(np.sort((keys << bits | torch.arange(len(keys))).numpy()))
            return placed >> bits, placed & ((1 << bits) - 1)
    return keys.sort(stable=True)


def segment_sum(values: Float[Tensor, "n C"], lengths: Int[Tensor, " G"]) -> Float[Tensor, "G C"]:
    """Sums of consecutive runs of rows, each from its first row to its last."""
    return torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)


def voxel_mean(
    points: Float[Tensor, "n 3"], values: Float[Tensor, "n C"], size: float
) -> tuple[Int[Tensor, "G 3"], Float[Tensor, "G C"], Int[Tensor, " G"]]:
    """Mean of `values` over the points of each voxel that has any.

    Returns:
        Cells in lexicographic order, their means, and how many points each has.
    """
    groups = group(cell_keys(voxel_cells(points, size)))
    means = segment_sum(values[groups.order], groups.lengths) / groups.lengths[:, None]
    return key_cells(groups.keys), means, groups.lengths


class VoxelSums:
    """Sums per voxel whose bits do not depend on the order, or the groups, in which they were added.

    What is added is rounded to multiples of 2^-26 once; from there on all arithmetic is exact, so that adding commutes
    and associates. Memory: 8 bytes per voxel and column, however much is added.
    """

    def __init__(self, widths: Sequence[int], max_voxels: int, device: torch.device | str = "cpu"):
        self._max_voxels, self._count = max_voxels, 0
        # Memory that was never written costs nothing on a CPU: the system gives pages when they are touched.
        self._sums = [torch.empty(max_voxels, width, dtype=torch.float64, device=device) for width in widths]
        self._largest = [0.0] * len(widths)  # no sum is larger, in units
        self._sorted = torch.empty(0, dtype=torch.int64, device=device)
        self._rows = torch.empty(0, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return self._count

    def add(
        self, keys: Int[Tensor, " G"], *values: Float[Tensor, "G C_i"] | Callable[[slice], Float[Tensor, "g C_i"]]
    ) -> None:
        """Add one row to each of these voxels, for every width.

        Args:
            keys: ascending, each once.
            values: one tensor per width, or what makes some of its rows over `UNIT`, so that wide ones need not leave
                the cache; what that makes is written over.

        Raises:
            ValueError: more voxels than the limit, or values that are not finite or too large to be summed exactly.
        """
        if not len(keys):
            return
        rows = self._rows_of(keys)
        for column, value in enumerate(values):
            most = 0.0
            for few in _parts(len(rows)):
                units = (value(few) if callable(value) else value[few] / UNIT).round_()
                most = max(most, self._checked(column, units))
                self._sums[column].index_add_(0, rows[few], units.double())
            self._largest[column] = most

    def ordered(self) -> Int[Tensor, " V"]:
        """The keys of all voxels, ascending."""
        return self._sorted

    def totals(self, column: int) -> Float[Tensor, "V C"]:
        """Sums of one width in the order of `ordered`, float64."""
        return self._sums[column][self._rows] * UNIT

    def means(self, column: int, weights: Float[Tensor, " V"]) -> Float[Tensor, "V C"]:
        """Sums of one width over `weights`, in the order of `ordered`, float32."""
        sums, factors = self._sums[column], UNIT / weights.double()[:, None]
        means = torch.empty(len(weights), sums.shape[1], device=sums.device)
        for few in _parts(len(weights)):
            means[few] = sums[self._rows[few]].mul_(factors[few])
        return means

    def _checked(self, column: int, units: Float[Tensor, "G C"]) -> float:
        """How large sums can be after these are added; raises when that is too large to be exact."""
        low, high = units.aminmax()
        added = max(-low.item(), high.item())
        most = self._largest[column] + added
        if not most < 2.0**53 and math.isfinite(added):  # the bound is loose: see how large they are
            low, high = self._sums[column][: self._count].aminmax()
            self._largest[column] = max(-low.item(), high.item())
            most = self._largest[column] + added
        if not most < 2.0**53:
            raise ValueError(
                f"what is averaged per voxel must be finite and add up to less than {2**53 * UNIT:.2g}, got "
                f"{added * UNIT:.2g} in one view: look at the features, or normalise them"
            )
        return most

    def _rows_of(self, keys: Int[Tensor, " G"]) -> Int[Tensor, " G"]:
        if len(self._sorted):
            place = torch.searchsorted(self._sorted, keys)
            new = self._sorted[place.clamp(max=len(self._sorted) - 1)] != keys
        else:
            new = torch.ones_like(keys, dtype=torch.bool)
        if new.any():
            self._grow(keys[new])
        return self._rows[torch.searchsorted(self._sorted, keys)]

    def _grow(self, keys: Int[Tensor, " n"]) -> None:
        count = self._count + len(keys)
        if count > self._max_voxels:
            raise ValueError(
                f"more than max_voxels = {self._max_voxels} voxels are seen: take larger voxels, a nearer `far`, or a "
                "higher limit"
            )
        place = torch.searchsorted(self._sorted, keys) + torch.arange(len(keys), device=keys.device)
        old = torch.ones(count, dtype=torch.bool, device=keys.device).index_fill_(0, place, False)
        new_rows, old_places = torch.arange(self._count, count, device=keys.device), true_rows(old)
        self._sorted = _laid(self._sorted, old_places, keys, place)
        self._rows = _laid(self._rows, old_places, new_rows, place)
        for sums in self._sums:
            sums[self._count : count] = 0
        self._count = count


def _laid(one: Tensor, places: Tensor, other: Tensor, other_places: Tensor) -> Tensor:
    """Both in one tensor, each at its places."""
    whole = one.new_empty(len(one) + len(other))
    return whole.index_copy_(0, places, one).index_copy_(0, other_places, other)


def _parts(count: int) -> list[slice]:
    """So few rows at a time that they stay in the cache."""
    return [slice(start, start + _ROWS_AT_ONCE) for start in range(0, count, _ROWS_AT_ONCE)]


def most_covering(covers: Sequence[Int[Tensor, " n_i"]], number: int) -> list[int]:
    """Which `number` of the sets cover most together, chosen greedily; the first of equals.

    Greedy choice covers at least 63 % of what the best choice does (Nemhauser et al. 1978), and a gain never grows, so
    that most sets need not be looked at again. Stops early when nothing new is left to cover.

    Args:
        covers: each set as numbers, such as the `cell_keys` that a view sees; any order, repeats allowed.
        number: at most so many are chosen.
    """
    if not covers or number < 1:
        return []
    universe, members = torch.unique(torch.cat(list(covers)), return_inverse=True)
    sets = [torch.unique(each) for each in members.split([len(cover) for cover in covers])]
    covered = torch.zeros(len(universe), dtype=torch.bool, device=universe.device)
    queue = [(-len(each), i) for i, each in enumerate(sets)]
    heapq.heapify(queue)
    chosen: list[int] = []
    while queue and len(chosen) < number:
        believed, i = heapq.heappop(queue)
        gain = int((~covered[sets[i]]).sum())
        if gain == 0:
            continue
        if -believed == gain:
            covered[sets[i]] = True
            chosen.append(i)
        else:
            heapq.heappush(queue, (-gain, i))
    return chosen


def first_in_cell(depth: Float[Tensor, " n"], cells: Int[Tensor, " n"], num_cells: int) -> Float[Tensor, " n"]:
    """For each sample the depth of the nearest one in its cell of the picture: a z-buffer, read back."""
    nearest = torch.full((num_cells,), torch.inf, dtype=depth.dtype, device=depth.device)
    return nearest.scatter_reduce_(0, cells, depth, "amin")[cells]
