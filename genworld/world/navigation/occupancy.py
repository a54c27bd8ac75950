"""Where an agent can stand: a grid of free ground seen from above."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """The body that has to fit. The defaults for radius and cells are those of RxR-CE.

    Attributes:
        radius: of the upright cylinder, metres.
        height: what hangs higher than this above the floor is in nobody's way, metres.
        step: what is lower than this is walked over, metres.
        cell: side of a cell of the map, metres.
    """

    radius: float = 0.18
    height: float = 1.5
    step: float = 0.15
    cell: float = 0.05

    def __post_init__(self) -> None:
        if not (self.radius >= 0 and 0 <= self.step < self.height and self.cell > 0):
            raise ValueError(f"expected radius >= 0, 0 <= step < height and cell > 0 in metres, got {self}")

    @property
    def clearance(self) -> float:
        """Metres that the middle of a free cell is away from obstacles: the radius, less a quarter of a cell.

        Blocked cells stick out of the round shapes that they stand for. With this quarter, ways round corners are as
        long as the exact ones on average (within 0.3 cells; without it up to 0.8 cells too long).
        """
        return max(0.0, self.radius - self.cell / 4)


@dataclass(frozen=True, eq=False)
class OccupancyMap:
    """A place from above; cell [i, j] spans `cell` metres from `origin + cell * (i, j)` along x and y.

    Two free cells that meet in a corner only, between two blocked ones, do not occur (see `make_map`): nobody cuts a
    corner, and whatever is joined is joined across an edge.

    Attributes:
        origin: x and y of the corner of cell [0, 0], metres, scene axes.
        cell: side of a cell, metres.
        floor: height of the floor, metres.
        occupied: something stands there, between the agent's step and its height.
        known: floor or obstacle was seen there.
        free: the agent's middle can be there. Never at the border.
    """

    origin: tuple[float, float]
    cell: float
    floor: float
    occupied: Bool[np.ndarray, "X Y"]
    known: Bool[np.ndarray, "X Y"]
    free: Bool[np.ndarray, "X Y"]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and y."""
        return self.free.shape[0], self.free.shape[1]

    @cached_property
    def cells(self) -> bytes:
        """`free`, flat: reading one byte is much faster than indexing an array."""
        return self.free.tobytes()

    @cached_property
    def areas(self) -> Int[np.ndarray, "X Y"]:
        """Number of the joined free area that each cell belongs to, from 1; 0 where it is not free."""
        return ndimage.label(self.free)[0]

    def grid(self, places: Float[np.ndarray, "*P 2"]) -> Float[np.ndarray, "*P 2"]:
        """Metres to cells: the first cell spans 0 to 1."""
        return (places - np.array(self.origin)) / self.cell

    def metres(self, cells: Float[np.ndarray, "*P 2"]) -> Float[np.ndarray, "*P 2"]:
        """The inverse of `grid`."""
        return cells * self.cell + np.array(self.origin)

    def index(self, x: float, y: float) -> tuple[int, int]:
        """The cell of a place; may lie outside the map."""
        return int((x - self.origin[0]) // self.cell), int((y - self.origin[1]) // self.cell)

    def is_free(self, x: float, y: float) -> bool:
        """Whether the agent's middle can be at a place, metres."""
        i, j = self.index(x, y)
        columns, rows = self.free.shape
        return 0 <= i < columns and 0 <= j < rows and bool(self.cells[i * rows + j])

    def area(self, x: float, y: float) -> int:
        """Number of the free area of a place, 0 if it is not free."""
        return int(self.areas[self.index(x, y)]) if self.is_free(x, y) else 0

    def snap(self, x: float, y: float, area: int | None = None) -> tuple[float, float]:
        """The place itself if it is free, or else the middle of the nearest free cell.

        Args:
            x: metres.
            y: metres.
            area: only places of this free area will do.

        Raises:
            ValueError: nothing is free.
        """
        if self.area(x, y) if area is None else self.area(x, y) == area:
            return x, y
        allowed = self.free if area is None else self.areas == area
        if not allowed.any():
            raise ValueError(f"no place is free for the agent on a map of {self.shape[0]}x{self.shape[1]} cells")
        middles = self.metres(np.argwhere(allowed) + 0.5)
        nearest = middles[np.argmin(((middles - (x, y)) ** 2).sum(-1))]
        return float(nearest[0]), float(nearest[1])

    def places(self) -> Float[np.ndarray, "K 2"]:
        """Middles of the free cells of the largest free area, metres."""
        counts = np.bincount(self.areas.reshape(-1))[1:]
        return self.metres(np.argwhere(self.areas == 1 + int(np.argmax(counts))) + 0.5)


def make_map(
    origin: tuple[float, float],
    cell: float,
    floor: float,
    occupied: Bool[np.ndarray, "X Y"],
    known: Bool[np.ndarray, "X Y"],
    free: Bool[np.ndarray, "X Y"],
) -> OccupancyMap:
    """A map whose border is not free and in which free cells never touch by a corner only.

    Raises:
        ValueError: nothing is free.
    """
    free = free.copy()
    free[[0, -1]] = False
    free[:, [0, -1]] = False
    _close_pinches(free)
    if not free.any():
        reason = "there is no floor" if not known.any() else "obstacles leave no room for the agent"
        raise ValueError(f"nowhere to stand on a map of {free.shape[0]}x{free.shape[1]} cells: {reason}")
    return OccupancyMap(origin, cell, floor, occupied, known, free)


def inflate(occupied: Bool[np.ndarray, "X Y"], cell: float, radius: float) -> Bool[np.ndarray, "X Y"]:
    """Cells whose middle is nearer than `radius` to the middle of an occupied one, and those themselves."""
    if not occupied.any():
        return occupied.copy()
    return occupied | (ndimage.distance_transform_edt(~occupied) * cell < radius)


def _close_pinches(free: Bool[np.ndarray, "X Y"]) -> None:
    """Block both free cells wherever two of them meet only in a corner, until there are none such."""
    while True:
        a, b, c, d = free[:-1, :-1], free[1:, :-1], free[:-1, 1:], free[1:, 1:]
        one, other = a & d & ~b & ~c, b & c & ~a & ~d
        if not (one.any() or other.any()):
            return
        for i, j in np.argwhere(one | other).tolist():
            free[i : i + 2, j : j + 2] = False
