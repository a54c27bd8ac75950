"""Walking through a furnished floor: where there is room to stand, routes between places, and cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from genworld.world.rooms.boxes import Box
from genworld.world.rooms.furniture import Thing
from genworld.world.rooms.plan import FloorPlan, Rectangle

CELL = 0.1
"""Metres per cell of the grid of free places."""
EYE = 1.45
"""Height of cameras, metres."""

_BODY = 0.2  # metres around a person that must be free
_LOW = 1.7  # what hangs higher is in nobody's way


@dataclass(frozen=True)
class Ground:
    """Where a person can stand.

    Attributes:
        free: cells that are free and can be reached from one another.
    """

    free: Bool[np.ndarray, "X Y"]

    def places(self) -> Float[np.ndarray, "K 2"]:
        """Middles of all free cells, metres."""
        return (np.argwhere(self.free) + 0.5) * CELL

    def within(self, area: Rectangle) -> Float[np.ndarray, "K 2"]:
        """Those in a rectangle."""
        places = self.places()
        x, y = places.T
        return places[(x > area.x0) & (x < area.x1) & (y > area.y0) & (y < area.y1)]

    def route(self, stops: Sequence[tuple[float, float]]) -> Float[np.ndarray, "K 2"]:
        """The shortest way over free cells (eight neighbours) past all stops, metres."""
        number = np.full(self.free.shape, -1)
        number[self.free] = np.arange(int(self.free.sum()))
        rows, columns, lengths = [], [], []
        for di, dj in ((1, 0), (0, 1), (1, 1), (1, -1)):
            one = self.free[: self.free.shape[0] - di, max(0, -dj) : self.free.shape[1] - max(0, dj)]
            other = self.free[di:, max(0, dj) : self.free.shape[1] + min(0, dj)]
            i, j = np.nonzero(one & other)
            j = j + max(0, -dj)
            rows.append(number[i, j])
            columns.append(number[i + di, j + dj])
            lengths.append(np.full(len(i), math.hypot(di, dj) * CELL))
        graph = sparse.coo_matrix(
            (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))), shape=(number.max() + 1,) * 2
        ).tocsr()
        at = [int(number[int(x // CELL), int(y // CELL)]) for x, y in stops]
        places = self.places()
        way = [places[at[0]]]
        _, before = dijkstra(graph, directed=False, indices=at[1:] or at, return_predecessors=True)
        for leg, start in enumerate(at[:-1]):
            cell = start
            while cell != at[leg + 1]:
                cell = int(before[leg, cell])
                way.append(places[cell])
        return np.array(way)


def free_ground(plan: FloorPlan, things: Sequence[Thing]) -> Ground | None:
    """The free cells; None when furniture cuts a room or a door off."""
    shape = tuple(math.ceil(size / CELL) for size in plan.outline.size)
    x, y = ((np.arange(count) + 0.5) * CELL for count in shape)
    free = np.ones(shape, dtype=bool)

    def block(box: Box, by: float) -> None:
        columns = (x > box.lower[0] - by) & (x < box.upper[0] + by)
        rows = (y > box.lower[1] - by) & (y < box.upper[1] + by)
        free[np.ix_(columns, rows)] = False

    for slab in plan.walls:
        if slab.box.lower[2] == 0 and not slab.frame:
            block(slab.box, _BODY)
    for thing in things:
        if thing.kind != "rug" and thing.position[2] < _LOW:
            block(thing.box, _BODY)
    labels, count = ndimage.label(free)
    if not count:
        return None
    largest = int(np.argmax(np.bincount(labels.reshape(-1))[1:])) + 1
    ground = Ground(labels == largest)
    for room in range(len(plan.rooms)):
        inside = plan.interior(room)
        columns, rows = (x > inside.x0) & (x < inside.x1), (y > inside.y0) & (y < inside.y1)
        part = ground.free[np.ix_(columns, rows)]
        if part.sum() * CELL**2 < 1.2:
            return None
    return ground


def look(
    eye: tuple[float, float], target: Sequence[float] | np.ndarray, height: float = EYE
) -> Float[np.ndarray, "4 4"]:
    """Pose of a camera (OpenCV axes) above a point of the floor that looks at a point of space."""
    heading = math.atan2(target[1] - eye[1], target[0] - eye[0])
    fall = math.atan2(height - target[2], math.hypot(target[0] - eye[0], target[1] - eye[1]))
    c, s, cp, sp = math.cos(heading), math.sin(heading), math.cos(fall), math.sin(fall)
    pose = np.eye(4)
    pose[:3, 0] = s, -c, 0  # right
    pose[:3, 1] = -c * sp, -s * sp, -cp  # down
    pose[:3, 2] = c * cp, s * cp, -sp  # forward
    pose[:3, 3] = *eye, height
    return pose


def intrinsics(size: tuple[int, int], half_fov: float) -> Float[np.ndarray, "3 3"]:
    """Pinhole matrix in pixels; `half_fov` (radians) is across the shorter side."""
    focal = 0.5 * min(size) / math.tan(half_fov)
    return np.array([[focal, 0.0, size[1] / 2], [0.0, focal, size[0] / 2], [0.0, 0.0, 1.0]])
