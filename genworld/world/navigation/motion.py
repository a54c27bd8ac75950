"""How an agent moves: the actions of VLN-CE on the free ground of a map, with collisions and sliding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from genworld.world.navigation.occupancy import OccupancyMap

Angle = TypeVar("Angle", float, np.ndarray)

_OFF = 1e-4  # metres that the agent keeps from what it ran into
_PIECE = 0.025  # metres in which it slides


class Action(IntEnum):
    """The actions of VLN-CE (Krantz et al. 2020), and the looks of RxR-CE, under Habitat's numbers."""

    STOP = 0
    FORWARD = 1
    LEFT = 2
    RIGHT = 3
    LOOK_UP = 4
    LOOK_DOWN = 5


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """What an action does; the defaults are those of R2R-CE.

    Attributes:
        forward: metres of a step forward.
        turn: degrees of a turn; 30 in RxR-CE.
        look: degrees of a look up or down, at most two of them from level.
        sliding: whether an agent that runs into something goes on along it; not so in RxR-CE.
    """

    forward: float = 0.25
    turn: float = 15.0
    look: float = 30.0
    sliding: bool = True

    def __post_init__(self) -> None:
        if not (self.forward > 0 and 0 < self.turn <= 180 and 0 < self.look <= 45):
            raise ValueError(f"expected forward > 0 metres, turn in (0, 180] and look in (0, 45] degrees, got {self}")


class Stance(NamedTuple):
    """Where an agent is and where it looks.

    Attributes:
        x: metres, scene axes.
        y: metres.
        heading: radians, 0 along +x, growing towards +y (to the left).
        pitch: radians, positive upwards.
    """

    x: float
    y: float
    heading: float
    pitch: float = 0.0


class Mover:
    """An agent's legs on one map.

    Attributes:
        map: the ground.
        config: what actions do.
    """

    def __init__(self, map: OccupancyMap, config: MotionConfig | None = None) -> None:
        self.map, self.config = map, config or MotionConfig()
        self._normals: Float[np.ndarray, "2 X Y"] | None = None

    def act(self, stance: Stance, action: Action) -> tuple[Stance, bool]:
        """Where one action other than STOP leads, and whether the agent ran into something."""
        turn, look = math.radians(self.config.turn), math.radians(self.config.look)
        if action == Action.FORWARD:
            return self.walk(stance, self.config.forward)
        if action in (Action.LEFT, Action.RIGHT):
            return turned(stance, turn if action == Action.LEFT else -turn), False
        assert action in (Action.LOOK_UP, Action.LOOK_DOWN), action
        pitch = stance.pitch + (look if action == Action.LOOK_UP else -look)
        return stance._replace(pitch=min(max(pitch, -2 * look), 2 * look)), False

    def walk(self, stance: Stance, length: float) -> tuple[Stance, bool]:
        """Straight ahead by `length` metres, or up to what is in the way (and on along it, if the agent slides)."""
        dx, dy = math.cos(stance.heading) * length, math.sin(stance.heading) * length
        part = free_part(self.map, (stance.x, stance.y), (dx, dy))
        if part >= 1:
            return stance._replace(x=stance.x + dx, y=stance.y + dy), False
        part = max(0.0, part - _OFF / length)
        x, y = stance.x + part * dx, stance.y + part * dy
        if not self.map.is_free(x, y):  # the rounding of a place at the very edge
            x, y, part = stance.x, stance.y, 0.0
        if self.config.sliding:
            x, y = self._slide(x, y, (1 - part) * dx, (1 - part) * dy)
        return stance._replace(x=x, y=y), True

    def _slide(self, x: float, y: float, dx: float, dy: float) -> tuple[float, float]:
        """Along the obstacle by what is left of a step, stepping off its stairs of cells where it runs askew."""
        nx, ny = self._normal(x, y)
        into = min(0.0, dx * nx + dy * ny)
        dx, dy = dx - into * nx, dy - into * ny
        length = math.hypot(dx, dy)
        count = math.ceil(length / _PIECE)
        left = self.map.cell  # it steps away from the obstacle by a cell in all
        for _ in range(count):
            px, py = x + dx / count, y + dy / count
            for off in (0.0, left / 2, left):
                if self.map.is_free(px + off * nx, py + off * ny):
                    x, y, left = px + off * nx, py + off * ny, left - off
                    break
            else:
                break
        return x, y

    def _normal(self, x: float, y: float) -> tuple[float, float]:
        """Away from the obstacle: unit length, or 0 where that is not clear."""
        if self._normals is None:
            distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(self.map.free), 1.0)
            self._normals = np.stack(np.gradient(distance))
        nx, ny = self._normals[(slice(None), *self.map.index(x, y))].tolist()
        length = math.hypot(nx, ny)
        return (nx / length, ny / length) if length > 1e-6 else (0.0, 0.0)


def turned(stance: Stance, angle: float) -> Stance:
    """Turned to the left by `angle` radians; the heading stays in [-pi, pi)."""
    return stance._replace(heading=wrap(stance.heading + angle))


def wrap(angle: Angle) -> Angle:
    """The same direction in [-pi, pi), or directions."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def free_part(map: OccupancyMap, start: tuple[float, float], offset: tuple[float, float]) -> float:
    """How much of a step, 0 to 1, stays on free ground: cell by cell (Amanatides and Woo 1987)."""
    x, y = ((s - o) / map.cell for s, o in zip(start, map.origin, strict=True))
    dx, dy = offset[0] / map.cell, offset[1] / map.cell
    i, j = math.floor(x), math.floor(y)
    rows, cells = map.free.shape[1], map.cells
    di, dj = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    # The border of a map is never free, so that no index leaves it.
    next_x = ((i + (dx > 0)) - x) / dx if dx else math.inf
    next_y = ((j + (dy > 0)) - y) / dy if dy else math.inf
    gap_x, gap_y = (abs(1 / dx) if dx else math.inf), (abs(1 / dy) if dy else math.inf)
    while True:
        if next_x < next_y:
            part, i, next_x = next_x, i + di, next_x + gap_x
        else:
            part, j, next_y = next_y, j + dj, next_y + gap_y
        if part >= 1:
            return 1.0
        if not cells[i * rows + j]:
            return max(0.0, part)
