"""Point clouds of a floor: points spread evenly over all surfaces that are not inside something else."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genworld.ops.masks import true_rows
from genworld.ops.random import generator
from genworld.world.primitives import KINDS
from genworld.world.rooms.plan import CEILING, FloorPlan
from genworld.world.rooms.stage import CELL, MARGIN, RoomStage

_INSIDE = 2e-3  # metres: how deep a point may lie in another primitive
_SPARE = 2  # so many points are drawn per point wanted, because some lie inside something


def sample_surfaces(
    stage: RoomStage, plan: FloorPlan, count: int, seed: int
) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 3"], Int[Tensor, " P"]]:
    """Points in metres, display colours in [0, 1] without light, and ids (0: building, 1 + index: a thing).

    The floor is sampled, the ceiling is not. A function of its arguments.

    Args:
        stage: what is sampled.
        plan: its rooms.
        count: how many points.
        seed: of the random numbers.
    """
    chance = generator(seed, "surfaces")
    areas = torch.cat([_areas(stage), torch.tensor([plan.outline.size[0] * plan.outline.size[1]])])
    which = torch.multinomial(areas, _SPARE * count, replacement=True, generator=chance)
    u = torch.rand(len(which), 3, generator=chance)
    points = torch.empty(len(which), 3)
    on_floor = which == len(stage)
    x0, y0, x1, y1 = plan.outline
    points[on_floor] = torch.stack(
        [x0 + (x1 - x0) * u[on_floor, 0], y0 + (y1 - y0) * u[on_floor, 1], torch.zeros(int(on_floor.sum()))], dim=-1
    )
    for number, name in enumerate(KINDS):
        rows = true_rows((which < len(stage)) & (stage.kind[which.clamp_max(len(stage) - 1)] == number))
        part = which[rows]
        local = _DRAW[name](u[rows], stage.dims[part])
        points[rows] = torch.einsum("pij,pj->pi", stage.rotation[part], local) + stage.centre[part]
    keep = ~_covered(stage, points, which) & (points[:, 2] > -1e-4) & (points[:, 2] < CEILING + 1e-4)
    inner = (points[:, 0] > x0) & (points[:, 0] < x1) & (points[:, 1] > y0) & (points[:, 1] < y1)
    kept = (keep & inner).nonzero()[:count, 0]
    points, which = points[kept], which[kept]
    return points, _colours(stage, points, which), stage.owner[which]


def _areas(stage: RoomStage) -> Tensor:
    a, b, c = stage.dims.T
    by_kind = torch.stack(
        [
            4 * math.pi * a * a,
            8 * (a * b + b * c + c * a),
            2 * math.pi * a * (a + 2 * c),
            math.pi * a * (a + torch.hypot(a, 2 * c)),
            4 * math.pi**2 * a * b,
        ]
    )
    return by_kind.gather(0, stage.kind[None])[0]


def _colours(stage: RoomStage, points: Tensor, which: Tensor) -> Tensor:
    colour = stage.albedo[which].clone()
    x = ((points[:, 0] + MARGIN) / CELL).long().clamp(0, stage.rooms.shape[0] - 1)
    y = ((points[:, 1] + MARGIN) / CELL).long().clamp(0, stage.rooms.shape[1] - 1)
    room = stage.rooms[x, y]
    for rows, table in ((which < stage.num_walls, stage.walls), (which == len(stage), stage.floors)):
        colour[rows] = table[room[rows]]
    return colour.sqrt()


def _covered(stage: RoomStage, points: Tensor, which: Tensor) -> Tensor:
    """Whether points lie inside a primitive that is not their own."""
    hidden = torch.zeros(len(points), dtype=torch.bool)
    for part in range(len(stage)):
        local = (points - stage.centre[part]) @ stage.rotation[part]
        inside = _depth(KINDS[int(stage.kind[part])], local, stage.dims[part]) > _INSIDE
        hidden |= inside & (which != part)
    return hidden


def _depth(name: str, p: Tensor, dims: Tensor) -> Tensor:
    """How deep points lie in a primitive, about: positive inside."""
    a, b, c = dims
    if name == "sphere":
        return a - p.norm(dim=-1)
    if name == "cube":
        return (dims - p.abs()).amin(-1)
    around = torch.hypot(p[:, 0], p[:, 1])
    if name == "torus":
        return b - torch.hypot(around - a, p[:, 2])
    side = a if name == "cylinder" else a * (c - p[:, 2]) / (2 * c)
    return torch.minimum(side - around, c - p[:, 2].abs())


def _sphere(u: Tensor, dims: Tensor) -> Tensor:
    z, turn = 2 * u[:, 0] - 1, 2 * math.pi * u[:, 1]
    flat = (1 - z * z).clamp_min(0).sqrt()
    return dims[:, :1] * torch.stack([flat * turn.cos(), flat * turn.sin(), z], dim=-1)


def _cube(u: Tensor, dims: Tensor) -> Tensor:
    a, b, c = dims.T
    shares = torch.stack([b * c, a * c, a * b], dim=-1)
    edges = (shares / shares.sum(-1, keepdim=True)).cumsum(-1)
    axis = (u[:, :1] > edges).sum(-1).clamp_max(2)
    previous = torch.cat([torch.zeros_like(edges[:, :1]), edges], dim=-1)
    low, high = (previous.gather(1, (axis + i)[:, None])[:, 0] for i in (0, 1))
    way = (u[:, 0] - low) / (high - low)  # what is left of the number says which side
    rest = 2 * u[:, 1:] - 1
    side = torch.where(way < 0.5, -1.0, 1.0)
    signs = torch.empty(len(u), 3)
    rows = torch.arange(len(u))
    signs[rows, axis] = side
    signs[rows, (axis + 1) % 3] = rest[:, 0]
    signs[rows, (axis + 2) % 3] = rest[:, 1]
    return signs * dims


def _disc(radius: Tensor, u: Tensor, turn: Tensor, z: Tensor) -> Tensor:
    r = radius * u.sqrt()
    return torch.stack([r * turn.cos(), r * turn.sin(), z], dim=-1)


def _cylinder(u: Tensor, dims: Tensor) -> Tensor:
    radius, height = dims[:, 0], dims[:, 2]
    turn = 2 * math.pi * u[:, 1]
    side = torch.stack([radius * turn.cos(), radius * turn.sin(), height * (2 * u[:, 2] - 1)], dim=-1)
    part = u[:, 0] * (radius + 2 * height)
    cap = _disc(radius, u[:, 2], turn, torch.where(part < radius / 2, -height, height))
    return torch.where((part < radius)[:, None], cap, side)


def _cone(u: Tensor, dims: Tensor) -> Tensor:
    radius, height = dims[:, 0], dims[:, 2]
    turn, way = 2 * math.pi * u[:, 1], u[:, 2].sqrt()
    side = torch.stack([radius * way * turn.cos(), radius * way * turn.sin(), height * (1 - 2 * way)], dim=-1)
    base = u[:, 0] < radius / (radius + torch.hypot(radius, 2 * height))
    return torch.where(base[:, None], _disc(radius, u[:, 2], turn, -height), side)


def _torus(u: Tensor, dims: Tensor) -> Tensor:
    ring, tube = dims[:, 0], dims[:, 1]
    turn, around = 2 * math.pi * u[:, 0], 2 * math.pi * u[:, 1]
    out = ring + tube * around.cos()
    return torch.stack([out * turn.cos(), out * turn.sin(), tube * around.sin()], dim=-1)


_DRAW = {"sphere": _sphere, "cube": _cube, "cylinder": _cylinder, "cone": _cone, "torus": _torus}
