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
