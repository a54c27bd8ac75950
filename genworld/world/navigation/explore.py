"""A map that an agent makes of what it sees while it walks, and where it ends in the unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from genworld.world.navigation.camera import NEAR, CameraConfig, sight_lines
from genworld.world.navigation.geodesic import Place
from genworld.world.navigation.motion import Stance
from genworld.world.navigation.occupancy import AgentConfig, OccupancyMap, inflate, make_map

_GROW = 40  # cells by which the map grows at least
_SMALLEST = 4  # cells of a frontier worth going to


@dataclass(frozen=True, kw_only=True)
class MapperConfig:
    """How depth becomes a map.

    Attributes:
        reach: what is further away is not trusted, metres.
        stride: every so many columns and rows of a depth picture are used.
    """

    reach: float = 8.0
    stride: int = 2


class DepthMapper:
    """An occupancy map from depth and poses alone, as large as what was seen.

    Attributes:
        agent: the body that has to fit.
        camera: that took the depth.
        floor: height of the floor that the agent stands on, metres.
        config: how depth becomes a map.
    """

    def __init__(
        self, agent: AgentConfig, camera: CameraConfig, floor: float = 0.0, config: MapperConfig | None = None
    ) -> None:
        self.agent, self.camera, self.floor, self.config = agent, camera, floor, config or MapperConfig()
        self._first = np.zeros(2, dtype=np.int64)  # number of cell [0, 0], counted from the scene's origin
        self._known = np.zeros((0, 0), dtype=bool)
        self._hits = np.zeros((0, 0), dtype=np.int64)

    def add(self, depth: Float[np.ndarray, "H W"], stance: Stance) -> None:
        """Take in what is seen from a place: obstacles by their height, and the ground before them."""
        stride, cell = self.config.stride, self.agent.cell
        z = self.camera.readings(depth[::stride, ::stride])
        eye, direction = sight_lines(self.camera, stance, self.floor, stride)
        places = eye + direction * z[..., None]
        away = np.hypot(direction[..., 0], direction[..., 1]) * z
        height = places[..., 2] - self.floor
        valid = (z > NEAR) & (away < self.config.reach)
        solid = valid & (height > self.agent.step) & (height < self.agent.height)
        ground = valid & (np.abs(height) <= self.agent.step)
        swept = self._sweep(stance, direction, np.where(solid, away, np.inf), np.where(valid, away, 0.0))
        body = np.array(_disc(self.agent.radius / cell)) * cell + (stance.x, stance.y)
        seen = np.concatenate([places[ground][:, :2], swept, body])
        known = self._cells(np.concatenate([seen, places[solid][:, :2]]))
        self._grow(known)
        i, j = (known - self._first).T
        self._known[i, j] = True
        i, j = i[len(seen) :], j[len(seen) :]
        np.add.at(self._hits, (i, j), 1)

    def bump(self, stance: Stance) -> None:
        """Remember that something unseen was in the way."""
        ahead = self.agent.radius + self.agent.cell
        place = np.array([[stance.x + ahead * math.cos(stance.heading), stance.y + ahead * math.sin(stance.heading)]])
        cells = self._cells(place)
        self._grow(cells)
        i, j = (cells - self._first)[0]
        self._known[i, j] = True
        self._hits[i, j] += 1

    def map(self, stance: Stance, radius: float | None = None) -> OccupancyMap:
        """What is known by now; where the agent stands is free, whatever it saw there.

        Args:
            stance: where it stands.
            radius: metres that it keeps from obstacles, where not its own.
        """
        cell = self.agent.cell
        occupied = self._hits > 0
        free = self._known & ~inflate(occupied, cell, self.agent.radius if radius is None else radius)
        i, j = (self._cells(np.array([[stance.x, stance.y]])) - self._first)[0]
        free[i - 1 : i + 2, j - 1 : j + 2] = True
        origin = (float(self._first[0] * cell), float(self._first[1] * cell))
        return make_map(origin, cell, self.floor, occupied, self._known | occupied, free)

    def _sweep(self, stance: Stance, direction: np.ndarray, solid: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Places on the ground before the nearest obstacle of each column."""
        nearest = solid.min(0)
        reach = np.where(np.isfinite(nearest), nearest - self.agent.cell, seen.max(0))
        heading = np.arctan2(*direction[len(direction) // 2, :, 1::-1].T)
        steps = np.arange(0, self.config.reach, self.agent.cell / 2)
        column, step = np.nonzero(steps[None] < reach[:, None])
        x, y = (way(heading)[column] * steps[step] for way in (np.cos, np.sin))
        return np.stack([stance.x + x, stance.y + y], axis=1)

    def _cells(self, places: Float[np.ndarray, "P 2"]) -> Int[np.ndarray, "P 2"]:
        return np.floor(places / self.agent.cell + 1e-9).astype(np.int64)

    def _grow(self, cells: Int[np.ndarray, "P 2"]) -> None:
        """Make room for cells, with one more around them."""
        low, high = cells.min(0) - 2, cells.max(0) + 3
        first, last = self._first, self._first + self._known.shape
        if not self._known.size:
            first, last = low, low
        elif (low >= first).all() and (high <= last).all():
            return
        new_first = np.where(low < first, low - _GROW, first)
        new_last = np.where(high > last, high + _GROW, last)
        window = tuple(slice(a, b) for a, b in zip(first - new_first, last - new_first, strict=True))
        for name in ("_known", "_hits"):
            old = getattr(self, name)
            new = np.zeros(new_last - new_first, dtype=old.dtype)
            new[window] = old
            setattr(self, name, new)
        self._first = new_first


def frontiers(ground: OccupancyMap) -> list[Place]:
    """Places, one per frontier, at which free ground ends in the unknown (Yamauchi 1997); metres."""
    edge: Bool[np.ndarray, "X Y"] = ground.free & ndimage.binary_dilation(~ground.known, np.ones((3, 3)))
    labels, count = ndimage.label(edge, np.ones((3, 3)))
    found = []
    for number in range(1, count + 1):
        cells = np.argwhere(labels == number)
        if len(cells) >= _SMALLEST:
            middle = cells[np.argmin(((cells - cells.mean(0)) ** 2).sum(1))]
            x, y = ground.metres(middle + 0.5).tolist()
            found.append((x, y))
    return found


def _disc(radius: float) -> list[tuple[int, int]]:
    reach = math.ceil(radius)
    around = range(-reach, reach + 1)
    return [(i, j) for i in around for j in around if math.hypot(i, j) <= radius + 0.5]
