"""Embeddings of numbers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genworld.ops.precision import without_autocast


def sinusoids(values: Float[Tensor, " M"], width: int, longest: float = 10_000.0) -> Float[Tensor, "M width"]:
    """Cosines, then sines, of each value at `width` / 2 frequencies from 1 down to 1 / `longest`, in float32."""
    steps = torch.arange(width // 2, dtype=torch.float32, device=values.device) / (width // 2)
    angles = values.float()[:, None] * torch.exp(-math.log(longest) * steps)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class LevelEmbedding(nn.Module):
    """A vector for a noise level: sinusoids of 1000 * level, then an MLP (Peebles and Xie 2023).

    Runs in float32 under autocast: there are few levels, and neighbouring ones must stay apart.
    """

    def __init__(self, width: int, num_sinusoids: int = 256) -> None:
        super().__init__()
        self.num_sinusoids = num_sinusoids
        self.up = nn.Linear(num_sinusoids, width)
        self.down = nn.Linear(width, width)

    def forward(self, levels: Float[Tensor, " M"]) -> Float[Tensor, "M D"]:
        """Embed levels in [0, 1]."""
        with without_autocast(levels):
            waves = sinusoids(1000.0 * levels.float(), self.num_sinusoids).to(self.up.weight.dtype)
            return self.down(F.silu(self.up(waves)))
