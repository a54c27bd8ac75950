"""A furnished floor as tensors: what the renderer of rooms takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from torch import Tensor

from genworld.world.primitives import KINDS as SHAPES
from genworld.world.rooms.furniture import AXES, TINTS, Part, Thing
from genworld.world.rooms.plan import CEILING, FloorPlan

CELL = 0.05
"""Metres per cell of the maps seen from above."""
MARGIN = 0.4
"""Metres by which the maps reach beyond the plan."""

_FLOORS = ((0.66, 0.52, 0.38), (0.58, 0.58, 0.60), (0.72, 0.68, 0.60), (0.50, 0.40, 0.32), (0.62, 0.66, 0.64))
_WALLS = ((0.90, 0.88, 0.82), (0.82, 0.87, 0.90), (0.88, 0.84, 0.88), (0.84, 0.89, 0.82), (0.90, 0.86, 0.80))
_DOOR_FRAME, _CEILING = (0.52, 0.38, 0.26), (0.95, 0.95, 0.94)
_BLUR = 0.11  # metres: how softly things shade the floor around them


@dataclass(frozen=True)
class RoomStage:
    """Primitives, first those of the building, then those of the things. Colours are linear.

    Two more rows follow the primitives in `albedo`, `gloss`, `wooden`, `own` and `owner`: floor and ceiling, which are
    planes.

    Attributes:
        kind: index in `genworld.world.primitives.KINDS`.
        dims, centre, rotation: of the primitives, world axes.
        owner: 0 for the building, 1 + index for a thing.
        albedo: linear colour; walls and floor take their room's instead.
        gloss: 1 where shiny.
        wooden: 1 where there is grain.
        own: 1 where a part shows its thing's colour.
        num_walls: how many primitives are walls, door frames not counted; these come first.
        num_building: how many belong to the building.
        rooms: index of the room at each cell of the map from above.
        shade: how much light things and walls take from the floor at each cell, 0 to 1.
        lamps: where light comes from, per room.
        floors, walls: linear colours per room.
        tiled: 1 where a room's floor is tiled, 0 where it is of planks.
    """

    kind: Int[Tensor, " N"]
    dims: Float[Tensor, "N 3"]
    centre: Float[Tensor, "N 3"]
    rotation: Float[Tensor, "N 3 3"]
    owner: Int[Tensor, " N+2"]
    albedo: Float[Tensor, "N+2 3"]
    gloss: Float[Tensor, " N+2"]
    wooden: Float[Tensor, " N+2"]
    own: Float[Tensor, " N+2"]
    rooms: Int[Tensor, "X Y"]
    shade: Float[Tensor, "X Y"]
    lamps: Float[Tensor, "R 3"]
    floors: Float[Tensor, "R 3"]
    walls: Float[Tensor, "R 3"]
    tiled: Float[Tensor, " R"]
    num_walls: int
    num_building: int

    def __len__(self) -> int:
        return len(self.kind)

    def map(self, change: Callable[[Tensor], Tensor]) -> RoomStage:
        """A copy with `change` applied to every tensor."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        tensors: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **tensors)


class _Row(NamedTuple):
    """A primitive; or, in `stage_floor`, an array of each field."""

    kind: Any
    dims: np.ndarray
    centre: np.ndarray
    rotation: np.ndarray
    owner: Any
    colour: Any
    gloss: Any = 0.0
    wooden: Any = 0.0
    own: Any = 0.0


def _row(thing: Thing, owner: int, part: Part) -> _Row:
    own = part.tint == "own"
    return _Row(
        SHAPES.index(part.shape),
        np.array(part.dims),
        thing.rotation @ part.centre + thing.position,
        thing.rotation @ AXES[part.axis],
        owner,
        TINTS[thing.colour if own else part.tint],
        float(own and thing.material == "shiny"),
        float(own and thing.material == "wooden"),
        float(own),
    )


def stage_floor(plan: FloorPlan, things: Sequence[Thing], chance: Random) -> RoomStage:
    """Everything as tensors; `chance` picks the colours of floors and walls."""
    rows = [
        _Row(SHAPES.index("cube"), slab.box.size / 2, slab.box.centre, np.eye(3), 0, _DOOR_FRAME)
        for slab in sorted(plan.walls, key=lambda slab: slab.frame)
    ]
    for index, thing in enumerate(things):
        rows += [_row(thing, index + 1, part) for part in thing.parts]
    none = np.zeros(3)
    planes = [_Row(-1, none, none, np.eye(3), 0, colour) for colour in (_FLOORS[0], _CEILING)]
    table = _Row(*(np.array(column) for column in zip(*rows, *planes, strict=True)))
    rooms, shade = _maps(plan, things)
    each = range(len(plan.rooms))
    floors, walls = (chance.sample(range(len(some)), len(plan.rooms)) for some in (_FLOORS, _WALLS))

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float32))

    return RoomStage(
        kind=torch.from_numpy(table.kind[:-2]),
        dims=tensor(table.dims[:-2]),
        centre=tensor(table.centre[:-2]),
        rotation=tensor(table.rotation[:-2]),
        owner=torch.from_numpy(table.owner),
        albedo=tensor(np.square(table.colour)),
        gloss=tensor(table.gloss),
        wooden=tensor(table.wooden),
        own=tensor(table.own),
        rooms=rooms,
        shade=shade,
        lamps=tensor([(*plan.rooms[i].centre, CEILING - 0.15) for i in each]),
        floors=tensor(np.square([_FLOORS[i] for i in floors])),
        walls=tensor(np.square([_WALLS[i] for i in walls])),
        tiled=tensor([float(i in (1, 4)) for i in floors]),
        num_walls=sum(not slab.frame for slab in plan.walls),
        num_building=len(plan.walls),
    )


def _maps(plan: FloorPlan, things: Sequence[Thing]) -> tuple[Int[Tensor, "X Y"], Float[Tensor, "X Y"]]:
    shape = tuple(int(np.ceil((size + 2 * MARGIN) / CELL)) for size in plan.outline.size)
    x = (np.arange(shape[0]) + 0.5) * CELL - MARGIN
    y = (np.arange(shape[1]) + 0.5) * CELL - MARGIN
    # The nearest room, so that points just inside a wall have one too.
    apart = [
        np.maximum(r.x0 - x, x - r.x1).clip(0)[:, None] + np.maximum(r.y0 - y, y - r.y1).clip(0)[None]
        for r in plan.rooms
    ]
    rooms = torch.from_numpy(np.argmin(np.stack(apart), axis=0))
    solid = np.zeros(shape, dtype=np.float32)
    low = [thing.box for thing in things if thing.position[2] < 0.1 and thing.kind != "rug"]
    low += [slab.box for slab in plan.walls if slab.box.lower[2] == 0 and not slab.frame]
    for box in low:
        columns = (x > box.lower[0]) & (x < box.upper[0])
        rows = (y > box.lower[1]) & (y < box.upper[1])
        solid[np.ix_(columns, rows)] = 1
    return rooms, torch.from_numpy(gaussian_filter(solid, _BLUR / CELL))
