"""Exact shortest ways over free ground.

The free cells of a map are a polygon, and the shortest way between two places in it runs straight from corner to corner
of the obstacles (Lozano-Pérez and Wesley 1979). So distances come from a graph of the corners that see each other, not
from steps between cells, which would add up to 8 % of detour. `cell_distances` (eight neighbours) is the slow twin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from genworld.world.navigation.occupancy import OccupancyMap

Place = tuple[float, float]
"""x and y, metres, scene axes."""

_TOUCH = 1e-7  # cells: what goes so little into a blocked cell only touches it
_PAIRS = 1 << 20  # pairs of corners that are looked at together
_STUB = 3.0  # cells: lines are tried this far from both ends before they are tried whole
_FIRST = 24  # corners that a place is tried to see, the most promising first, where none is known from beside it


class Geodesics:
    """Shortest ways on one map. Building it takes about as long as ten of its fields; keep it.

    Attributes:
        map: the ground.
    """

    def __init__(self, map: OccupancyMap) -> None:
        self.map = map

    @cached_property
    def corners(self) -> tuple[Int[np.ndarray, "K 2"], Int[np.ndarray, "K 2"]]:
        """Corners of obstacles, in cells, and the signs of the direction in which the obstacle lies."""
        blocked = ~self.map.free
        quarters = [blocked[:-1, :-1], blocked[1:, :-1], blocked[:-1, 1:], blocked[1:, 1:]]
        single = sum(quarter.astype(np.int8) for quarter in quarters) == 1
        places, ways = [], []
        for quarter, way in zip(quarters, ((-1, -1), (1, -1), (-1, 1), (1, 1)), strict=True):
            found = np.argwhere(single & quarter) + 1
            places.append(found)
            ways.append(np.tile(way, (len(found), 1)))
        return np.concatenate(places), np.concatenate(ways)

    @cached_property
    def graph(self) -> sparse.csr_matrix:
        """Lengths, in cells, of the lines between corners that a shortest way may take."""
        places, ways = self.corners
        count = len(places)
        rows, columns = [], []
        for start in range(0, count, max(1, _PAIRS // max(count, 1))):
            stop = min(count, start + max(1, _PAIRS // count))
            offset = places[None] - places[start:stop, None]
            later = np.arange(count)[None] > np.arange(start, stop)[:, None]
            taut = _taut(offset, ways[start:stop, None]) & _taut(offset, ways[None]) & later
            i, j = np.nonzero(taut)
            rows.append(i + start)
            columns.append(j)
        i, j = (np.concatenate(each) if each else np.zeros(0, dtype=int) for each in (rows, columns))
        seen = sees(self.map, places[i].astype(float), places[j].astype(float))
        i, j = i[seen], j[seen]
        lengths = np.hypot(*(places[i] - places[j]).T.astype(float))
        return sparse.coo_matrix((lengths, (i, j)), shape=(count, count)).tocsr()

    def toward(self, goals: Sequence[Place]) -> Field:
        """Distances to the nearest of some places, metres.

        Raises:
            ValueError: a goal is not on free ground.
        """
        for x, y in goals:
            if not self.map.is_free(x, y):
                raise ValueError(f"the goal ({x:.2f}, {y:.2f}) is not on free ground: take the nearest place, see snap")
        return Field(self, np.array(goals, dtype=float).reshape(-1, 2))

    def distance(self, start: Place, goal: Place) -> float:
        """Length of the shortest way between two places, metres; infinite if there is none."""
        return self.toward([goal]).distance(*start)

    def path(self, start: Place, goal: Place) -> Float[np.ndarray, "K 2"]:
        """Start, turning points and goal of the shortest way, metres.

        Raises:
            ValueError: there is none.
        """
        return self.toward([goal]).path(*start)


class Field:
    """Distances to the nearest of some goals; see `Geodesics.toward`.

    Attributes:
        goals: metres.
    """

    def __init__(self, geodesics: Geodesics, goals: Float[np.ndarray, "G 2"]) -> None:
        self.map, self.goals = geodesics.map, goals
        corners, ways = geodesics.corners
        self._places = np.concatenate([self.map.grid(goals), corners.astype(float)])
        self._ways = ways
        count = len(self._places)
        nearest = np.full(len(corners), np.inf)
        via = np.full(len(corners), -1)
        for number, goal in enumerate(self._places[: len(goals)]):
            offset = corners - goal
            chosen = np.nonzero(_taut(offset, ways))[0]
            chosen = chosen[sees(self.map, np.tile(goal, (len(chosen), 1)), corners[chosen].astype(float))]
            length = np.hypot(*offset[chosen].T)
            better = length < nearest[chosen]
            nearest[chosen[better]], via[chosen[better]] = length[better], number
        self._left, self._next = np.zeros(count), np.full(count, -1)
        self._last = 0  # the first on the way from where it was asked last: from beside that, it often is again
        if len(corners):
            self._spread(geodesics.graph, nearest, via, len(goals))

    def _spread(self, graph: sparse.csr_matrix, nearest: np.ndarray, via: np.ndarray, num_goals: int) -> None:
        """Dijkstra from one more node, which is joined to the corners that see a goal."""
        seen = np.nonzero(np.isfinite(nearest))[0]
        edges = graph.tocoo()
        rows, columns = np.append(edges.row + 1, np.zeros_like(seen)), np.append(edges.col, seen) + 1
        lengths = np.append(edges.data, nearest[seen].clip(1e-12))  # a length of exactly 0 would be no edge
        whole = sparse.coo_matrix((lengths, (rows, columns)), shape=(len(nearest) + 1,) * 2).tocsr()
        left, before = dijkstra(whole, directed=False, indices=0, return_predecessors=True)
        self._left[num_goals:] = left[1:]
        before = before[1:]
        self._next[num_goals:] = np.where(before > 0, before - 1 + num_goals, np.where(before == 0, via, -1))

    def distance(self, x: float, y: float) -> float:
        """Length of the shortest way from a place, metres; infinite if there is none, or the place is not free."""
        found = self._first(x, y)
        return math.inf if found is None else found[1] * self.map.cell

    def path(self, x: float, y: float) -> Float[np.ndarray, "K 2"]:
        """The place, turning points and a goal, metres.

        Raises:
            ValueError: there is no way.
        """
        found = self._first(x, y)
        if found is None:
            raise ValueError(f"no way leads from ({x:.2f}, {y:.2f}) to {self.goals.tolist()}")
        way, node = [self.map.grid(np.array([x, y]))], found[0]
        while node >= 0:
            way.append(self._places[node])
            node = int(self._next[node])
        return self.map.metres(np.stack(way))

    def turn(self, x: float, y: float) -> tuple[Place, float] | None:
        """Where to walk to in a straight line, and the length of the whole way; None if there is none; metres."""
        found = self._first(x, y)
        if found is None:
            return None
        place = self.map.metres(self._places[found[0]])
        return (float(place[0]), float(place[1])), found[1] * self.map.cell

    def _first(self, x: float, y: float) -> tuple[int, float] | None:
        """The first goal or corner on the way, and the length of the way in cells."""
        if not self.map.is_free(x, y):
            return None
        here = self.map.grid(np.array([x, y]))
        offset = self._places - here
        # No way through a place is shorter than this, so the first that is seen, in rising order, is the shortest.
        bound = np.hypot(offset[:, 0], offset[:, 1]) + self._left
        goals = len(self.goals)
        useful = np.isfinite(bound)
        useful[goals:] &= _taut(offset[goals:], self._ways)
        nodes = np.nonzero(useful)[0]
        nodes = nodes[np.argsort(bound[nodes], kind="stable")]
        again = np.nonzero(nodes == self._last)[0]
        start, some = 0, int(again[0]) + 1 if len(again) else _FIRST
        while start < len(nodes):
            tried = nodes[start : start + some]
            seen = _clear(self.map, np.broadcast_to(here, (len(tried), 2)), self._places[tried])
            if seen.any():
                self._last = int(tried[np.argmax(seen)])
                return self._last, float(bound[self._last])
            start, some = start + some, max(_FIRST, 4 * some)
        return None


def sees(
    map: OccupancyMap,
    one: Float[np.ndarray, "S 2"],
    other: Float[np.ndarray, "S 2"],
) -> Bool[np.ndarray, " S"]:
    """Whether straight lines stay on free ground; touching a blocked cell is allowed. All in cells."""
    length = np.maximum(np.abs(other - one).max(-1, initial=0), 1e-12)
    part = (_STUB / length).clip(max=1)[:, None]
    clear = np.ones(len(one), dtype=bool)
    ends = ((one, one + part * (other - one)), (other, other + part * (one - other)), (one, other))
    for number, (a, b) in enumerate(ends):
        left = np.nonzero(clear & (part[:, 0] < 1))[0] if number else np.arange(len(one))
        clear[left] = _clear(map, a[left], b[left])
    return clear


def _clear(map: OccupancyMap, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`sees` in one go: every column (or row, of steep lines) that a line crosses, with the one or two cells there."""
    rows = map.free.shape[1]
    offset = other - one
    steep = np.abs(offset[:, 1]) > np.abs(offset[:, 0])
    m, n = np.where(steep, one[:, 1], one[:, 0]), np.where(steep, one[:, 0], one[:, 1])
    dm, dn = np.where(steep, offset[:, 1], offset[:, 0]), np.where(steep, offset[:, 0], offset[:, 1])
    slope = dn / np.where(dm == 0, 1.0, dm)
    back = dm < 0
    m, n, dm = np.where(back, m + dm, m), np.where(back, n + dn, n), np.abs(dm)
    first = np.floor(m + _TOUCH).astype(np.int64)
    count = (np.ceil(m + dm - _TOUCH).astype(np.int64) - first).clip(0)
    line = np.repeat(np.arange(len(one)), count)
    column = np.arange(len(line)) - (np.cumsum(count) - count)[line] + first[line]
    start, slope = m[line], slope[line]
    base = n[line] - slope * start
    left = base + slope * np.maximum(column, start)
    right = base + slope * np.minimum(column + 1, start + dm[line])
    low = np.floor(np.minimum(left, right) + _TOUCH).astype(np.int64)
    high = np.ceil(np.maximum(left, right) - _TOUCH).astype(np.int64) - 1
    across, along = np.where(steep, rows, 1)[line], np.where(steep, 1, rows)[line] * column
    flat = map.free.reshape(-1)
    free_low, free_high = flat[along + low * across], flat[along + high * across]
    # A line along an edge (high < low) is blocked where both sides are; any other where one of its cells is.
    good = np.where(high < low, free_low | free_high, free_low & free_high)
    return np.bincount(line, weights=~good, minlength=len(one)) == 0


def _taut(offset: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Whether a string could run along `offset` round a corner: neither into the obstacle nor straight away from it."""
    return (offset[..., 0] * ways[..., 0]) * (offset[..., 1] * ways[..., 1]) <= _TOUCH


def cell_distances(map: OccupancyMap, starts: Sequence[Place]) -> Float[np.ndarray, "X Y"]:
    """Lengths of the ways over eight neighbours from the middles of the nearest place's cell, metres.

    No corner is cut. Infinite where no way leads.
    """
    free = map.free
    number = np.full(free.shape, -1)
    number[free] = np.arange(int(free.sum()))
    edges, lengths = [], []
    for di, dj in ((1, 0), (0, 1), (1, 1), (1, -1)):
        here = (slice(0, free.shape[0] - di), slice(max(0, -dj), free.shape[1] - max(0, dj)))
        there = (slice(di, None), slice(max(0, dj), free.shape[1] + min(0, dj)))
        open_ = free[here] & free[there]
        if di and dj:
            open_ = open_ & free[here[0], there[1]] & free[there[0], here[1]]
        edges.append(np.stack([number[here][open_], number[there][open_]]))
        lengths.append(np.full(edges[-1].shape[1], math.hypot(di, dj) * map.cell))
    count = int(free.sum())
    graph = sparse.coo_matrix((np.concatenate(lengths), tuple(np.concatenate(edges, axis=1))), shape=(count, count))
    first = [int(number[map.index(*start)]) for start in starts]
    found = np.full(free.shape, np.inf)
    found[free] = dijkstra(graph.tocsr(), directed=False, indices=first, min_only=True)
    return found


class CellField:
    """`Field` by `cell_distances`: up to 8 % too long, but cheaper than corners on maps that change at every step."""

    def __init__(self, map: OccupancyMap, goals: Sequence[Place]) -> None:
        self.map = map
        self._left = cell_distances(map, goals)

    def distance(self, x: float, y: float) -> float:
        """See `Field.distance`."""
        return float(self._left[self.map.index(x, y)]) if self.map.is_free(x, y) else math.inf

    def turn(self, x: float, y: float) -> tuple[Place, float] | None:
        """See `Field.turn`: down the distances for as long as the start is seen."""
        left = self.distance(x, y)
        if math.isinf(left):
            return None
        (i, j), way = self.map.index(x, y), []
        while self._left[i, j] > 0:
            around = self._left[i - 1 : i + 2, j - 1 : j + 2]
            di, dj = divmod(int(np.argmin(around)), 3)
            i, j = i + di - 1, j + dj - 1
            way.append((i + 0.5, j + 0.5))
        if not way:
            return (x, y), left
        cells = np.array(way)
        seen = sees(self.map, np.tile(self.map.grid(np.array([x, y])), (len(cells), 1)), cells)
        last = len(cells) - 1 if seen.all() else max(int(np.argmin(seen)) - 1, 0)
        place = self.map.metres(cells[last])
        return (float(place[0]), float(place[1])), left


class Ways(Protocol):
    """What a walker needs to know: `Field` or `CellField`."""

    def distance(self, x: float, y: float) -> float:
        """Metres left from a place; infinite if no way leads from there."""
        ...

    def turn(self, x: float, y: float) -> tuple[Place, float] | None:
        """Where to walk to in a straight line, and metres left; None if no way leads from there."""
        ...
