"""The light in rooms: one lamp under each ceiling, soft shade where things stand, grain, gloss and floor patterns."""

from __future__ import annotations

import torch
from torch import Tensor

from genworld.ops.masks import true_rows
from genworld.world.primitives import Vec
from genworld.world.rooms.stage import CELL, MARGIN, RoomStage

_AMBIENT, _UPWARD, _LAMP = 0.50, 0.08, 0.62
_REACH2 = 14.0  # square metres: the lamp's light is halved at the root of this
_SHADED, _SHADE_HEIGHT = 0.62, 0.30  # how dark it gets beside things, and up to what height in metres
_GRAIN = 0.13  # metres per wave


def shade(stage: RoomStage, point: Vec, direction: Vec, depth: Tensor, part: Tensor, normal: Vec) -> Tensor:
    """Linear colours [3 P] of surfaces.

    Args:
        stage: the floor.
        point: where, world axes, metres.
        direction: of the rays that see it, any length.
        depth: metres from the camera: patterns fade with it.
        part: row of `RoomStage.albedo`.
        normal: outward unit normals.
    """
    room = _lookup(stage.rooms, point.x + 0.1 * normal.x, point.y + 0.1 * normal.y)
    lamp = Vec(*stage.lamps.T.contiguous().index_select(1, room))
    to_lamp = Vec(*(a - b for a, b in zip(lamp, point, strict=True)))
    distance2 = to_lamp.dot(to_lamp)
    way = to_lamp.scaled(torch.rsqrt(distance2.clamp_min(0.04)))
    falloff = _REACH2 / (_REACH2 + distance2)
    facing = normal.dot(way).clamp_min(0) * falloff
    near_floor = torch.exp(point.z.clamp_min(0) * (-1 / _SHADE_HEIGHT))
    open_ = 1 - _SHADED * _smooth(stage.shade, point.x, point.y) * near_floor
    light = (_AMBIENT + _UPWARD * normal.z + _LAMP * facing) * open_
    on_floor = true_rows(part == len(stage))
    # One table for all: of walls and floors, each room has its own row, after those of all parts.
    row = torch.where(part < stage.num_walls, room + len(stage.albedo), part)
    below = room.index_select(0, on_floor)
    row.index_copy_(0, on_floor, below + (len(stage.albedo) + len(stage.walls)))
    colour = torch.cat([stage.albedo, stage.walls, stage.floors]).T.contiguous().index_select(1, row)
    pattern = _pattern(stage, point.pick(on_floor), below, depth.index_select(0, on_floor))
    light.index_copy_(0, on_floor, light.index_select(0, on_floor) * pattern)
    grain = true_rows(stage.wooden.index_select(0, part))
    wood = _wood(stage, point.pick(grain), part.index_select(0, grain), depth.index_select(0, grain))
    light.index_copy_(0, grain, light.index_select(0, grain) * wood)
    colour *= light
    shiny = true_rows(stage.gloss.index_select(0, part))
    half = Vec(*(a - b for a, b in zip(way.pick(shiny), direction.pick(shiny).unit(), strict=True))).unit()
    glint = normal.pick(shiny).dot(half).clamp_min(0).pow(36) * (0.38 * falloff.index_select(0, shiny))
    colour.index_copy_(1, shiny, colour.index_select(1, shiny) + glint)
    return colour


def _cells(grid: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = grid.shape
    return (
        (x + MARGIN).mul_(1 / CELL).clamp_(0, rows - 1.001),
        (y + MARGIN).mul_(1 / CELL).clamp_(0, columns - 1.001),
    )


def _lookup(grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    row, column = _cells(grid, x, y)
    return grid.reshape(-1).index_select(0, row.int().mul_(grid.shape[1]).add_(column.int()))


def _smooth(grid: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear lookup; a cell's value is that of its middle."""
    row, column = _cells(grid, x - CELL / 2, y - CELL / 2)
    i, j = row.floor().clamp_max_(grid.shape[0] - 2), column.floor().clamp_max_(grid.shape[1] - 2)
    a, b = row.sub_(i), column.sub_(j)
    flat, first = grid.reshape(-1), i.int().mul_(grid.shape[1]).add_(j.int())
    top = torch.lerp(flat.index_select(0, first), flat.index_select(0, first + 1), b)
    first += grid.shape[1]
    return torch.lerp(top, torch.lerp(flat.index_select(0, first), flat.index_select(0, first + 1), b), a)


def _pattern(stage: RoomStage, point: Vec, room: Tensor, depth: Tensor) -> Tensor:
    """Planks or tiles."""
    fade = 1 / (1 + 0.06 * depth * depth)
    tile = torch.sin(torch.pi / 0.45 * point.x) * torch.sin(torch.pi / 0.45 * point.y)
    plank = torch.sin(torch.floor(point.x * (1 / 0.16)) * 12.9898) * 0.6
    tiled = stage.tiled.index_select(0, room)
    return 1 + 0.09 * fade * torch.lerp(plank, (6 * tile).clamp(-1, 1), tiled)


def _wood(stage: RoomStage, point: Vec, part: Tensor, depth: Tensor) -> Tensor:
    """Stripes across the thing's own x axis and, upright, its z axis."""
    turn = stage.rotation[:, :2, 0].T.contiguous().index_select(1, part)
    across = turn[0] * point.x + turn[1] * point.y + 0.35 * point.z
    return 1 - 0.20 / (1 + 0.03 * depth * depth) * (1 + torch.sin((2 * torch.pi / _GRAIN) * across))
