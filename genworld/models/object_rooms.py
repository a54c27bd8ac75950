"""Which objects share a room: no wall stands between them. Geometry alone; nothing is learned."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.models.point_batch import PointBatch
from genworld.ops.precision import without_autocast

_FEET, _TOP = 0.3, 0.15
"""Metres above the lowest and below the highest point between which a point may belong to a wall."""
_MARGIN = 0.08
"""Metres around a box within which points are its own."""
_REACH = 0.8
"""Metres from the line between two objects within which points on both of its sides are taken for a wall across it."""
_DOUBT = 0.08
"""The weight of a wall at which what two objects share has fallen by a factor of e."""


@torch.no_grad()
def rooms_of(
    batch: PointBatch, walls: Bool[Tensor, "B P"], lower: Tensor, upper: Tensor, real: Bool[Tensor, "B Q"]
) -> Float[Tensor, "B Q Q"]:
    """How surely two objects are in one room, 0 to 1.

    A wall crosses the line between two objects where, seen from above, it has points on both sides of the line; how
    much is told by how near the farther of these is. Points of a wall lie apart, so it is missed now and then, and
    corners are taken for walls; so two objects are said to be together as far as they are with the same others.

    Args:
        batch: scenes, z up.
        walls: which points may belong to walls, as far as their features tell.
        lower: corners of boxes, B x Q x 3, metres.
        upper: greatest corners.
        real: which of the boxes are objects; the others are with nothing.
    """
    found = torch.zeros(*lower.shape[:2], lower.shape[1], device=lower.device)
    for number in range(len(lower)):
        mine, points = real[number].nonzero()[:, 0], batch.points[number][walls[number] & batch.keep[number]]
        if not len(mine):
            continue
        low, high = lower[number, mine].float(), upper[number, mine].float()
        with without_autocast(low):
            walled = _upright(points, batch.points[number][batch.keep[number]], low, high)
            shared = torch.exp(-_crossed((low + high)[:, :2] / 2, walled) / _DOUBT)
            shared = shared / shared.norm(dim=1, keepdim=True)
            found[number, mine[:, None], mine] = shared @ shared.T
    return found


def _upright(points: Tensor, every: Tensor, lower: Tensor, upper: Tensor) -> Float[Tensor, "W 2"]:
    """Those between floor and ceiling that are in no box, seen from above."""
    least, most = every[:, 2].aminmax()
    inside = ((points[:, None] >= lower - _MARGIN) & (points[:, None] <= upper + _MARGIN)).all(dim=-1).any(dim=-1)
    return points[~inside & (points[:, 2] > least + _FEET) & (points[:, 2] < most - _TOP), :2]


def _crossed(places: Float[Tensor, "N 2"], walls: Float[Tensor, "W 2"]) -> Float[Tensor, "N N"]:
    """How much wall crosses the line between two places: 1 where points of it lie on the line, on both sides."""
    if not len(walls):
        return places.new_zeros(len(places), len(places))
    first, second = torch.triu_indices(len(places), len(places), 1, device=places.device)  # either way is the same line
    way, begin = places[second] - places[first], places[first]
    far = way.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    along = _measured(way / far.square(), begin, walls)
    aside = _measured(way.flip(-1) * way.new_tensor([1.0, -1.0]) / far, begin, walls)
    near = (1 - aside.abs() / _REACH).clamp(min=0) * ((along > 0) & (along < 1))
    right, left = torch.where(aside > 0, near, -near).aminmax(dim=-1)
    crossed = places.new_zeros(len(places), len(places))
    crossed[first, second] = crossed[second, first] = torch.minimum(left.clamp(min=0), (-right).clamp(min=0))
    return crossed


def _measured(axes: Float[Tensor, "P 2"], begin: Float[Tensor, "P 2"], x: Float[Tensor, "W 2"]) -> Float[Tensor, "P W"]:
    """How far along axes, each from a point of its own, places lie."""
    return torch.addmm(-(axes * begin).sum(dim=-1, keepdim=True), axes, x.T)
