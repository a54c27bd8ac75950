"""Boxes along the axes, as lower and upper corners."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def intersection_over_union(
    lower: Float[Tensor, "*#n 3"],
    upper: Float[Tensor, "*#n 3"],
    other_lower: Float[Tensor, "*#n 3"],
    other_upper: Float[Tensor, "*#n 3"],
) -> Float[Tensor, "*n"]:
    """Of the volumes of boxes and others, broadcast against each other; 0 where both are empty."""
    shared = (torch.minimum(upper, other_upper) - torch.maximum(lower, other_lower)).clamp(min=0).prod(dim=-1)
    union = (upper - lower).prod(dim=-1) + (other_upper - other_lower).prod(dim=-1) - shared
    return torch.where(union > 0, shared / union.where(union > 0, 1.0), 0.0)


def nearest_box(
    lower: Float[Tensor, " 3"], upper: Float[Tensor, " 3"], lowers: Float[Tensor, "N 3"], uppers: Float[Tensor, "N 3"]
) -> tuple[int, float] | None:
    """The box whose corners lie nearest: its number, and the mean distance along an axis; None where there is none."""
    if not len(lowers):
        return None
    away = torch.cat([lowers - lower, uppers - upper], dim=1).abs().mean(dim=1)
    return int(away.argmin()), float(away.min())
