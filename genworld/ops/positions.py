"""3D-LLM's position encodings of voxels: sine tables per axis, and its three ways to bring them in."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

PositionStyle = Literal["add", "tokens", "channels"]
"""`add`: a hundredth of them is added (its T5 code); `tokens`: they follow the features as further tokens (its OPT code
and older T5 code); `channels`: they stand beside them (its paper)."""

ADDED_SHARE = 0.01
TABLE_ROWS = 256


def sine_table(rows: int, width: int) -> Float[Tensor, "rows width"]:
    """Sines and cosines in turn, of `row * 10000^(-2 i / w)`, w being the width made even; cut to the width.

    This is `PositionalEncoding1D` of the package positional-encodings.
    """
    even = width + width % 2
    waves = 10000.0 ** (-torch.arange(0, even, 2).float() / even)
    angles = torch.arange(rows).float()[:, None] * waves
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def voxel_positions(voxels: Int[Tensor, "*n 3"], width: int, rows: int = TABLE_ROWS) -> Float[Tensor, "*n width"]:
    """Encodings of x, y and z side by side, a third of the width each; what is left of the width is 0.

    Raises:
        ValueError: a voxel is outside the table.
    """
    if voxels.numel() and (voxels.min() < 0 or voxels.max() >= rows):
        raise ValueError(f"voxels must be 0 to {rows - 1}, got {int(voxels.min())} to {int(voxels.max())}")
    table = sine_table(rows, width // 3).to(voxels.device)
    encoded = table[voxels].flatten(-2)
    return F.pad(encoded, (0, width - encoded.shape[-1]))


def with_positions(
    features: Float[Tensor, "*n P D"], voxels: Int[Tensor, "*n P 3"], style: PositionStyle, rows: int = TABLE_ROWS
) -> Float[Tensor, "*n rows columns"]:
    """Features of points with the encodings of their voxels, in one of 3D-LLM's ways; `rows` are those of the table."""
    positions = voxel_positions(voxels, features.shape[-1], rows).to(features)
    if style == "add":
        return features + ADDED_SHARE * positions
    return torch.cat([features, positions], dim=-2 if style == "tokens" else -1)
