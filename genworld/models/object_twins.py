"""Queries that became the same object: one of them speaks for all."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.models.connector_parts import SceneObjects
from genworld.ops.boxes import intersection_over_union
from genworld.ops.precision import without_autocast

_SAME = 0.25
"""Intersection over union from which two boxes are of one object."""
_LEAST = 1e-3
"""How sure the others are then, and how unsure the surest still is."""


def without_twins(objects: SceneObjects, keep: Bool[Tensor, "B Q"]) -> SceneObjects:
    """The same objects, where of several at one place the surest is as sure as all together, and the others are not.

    Queries share out which of them becomes an object, and where they cannot agree, none is sure: of the objects that
    are missed, half have a right box. What one is sure of adds up, as only one of them can be right; boxes and words
    stay.

    Args:
        objects: of the last step.
        keep: which queries are real.
    """
    with without_autocast(objects.sure):
        lower, upper, sure = objects.lower.float(), objects.upper.float(), objects.sure.float()
        group = _groups(lower, upper, sure, keep)
        together = torch.einsum("bij,bj->bi", group, sure.sigmoid()).clamp(_LEAST, 1 - _LEAST).logit()
        alone = group.sum(dim=-1) == 1
        return objects._replace(sure=torch.where(alone, sure, together))


@torch.no_grad()
def _groups(lower: Tensor, upper: Tensor, sure: Float[Tensor, "B Q"], keep: Tensor) -> Float[Tensor, "B Q Q"]:
    """Which queries (last axis) each one speaks for, itself included; none for those that another speaks for."""
    alike = intersection_over_union(lower[:, :, None], upper[:, :, None], lower[:, None], upper[:, None]) > _SAME
    alike |= torch.eye(sure.shape[1], dtype=torch.bool, device=sure.device)
    group, free = torch.zeros_like(alike), keep.clone()
    rows = torch.arange(len(sure), device=sure.device)
    for query in sure.masked_fill(~keep, -torch.inf).argsort(dim=1, descending=True, stable=True).unbind(dim=1):
        mine = alike[rows, query] & free & free[rows, query, None]
        group[rows, query] = mine
        free &= ~mine
    return group.to(sure)
