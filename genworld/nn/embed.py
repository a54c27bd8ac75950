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


class RayEmbedding(nn.Module):
    """A vector for a viewing ray in Plücker coordinates: the numbers themselves and their waves at five octaves.

    Cameras turn by a few degrees from frame to frame, which a linear layer on the bare numbers hardly sees: with them a
    model had not learnt to use its camera after 4,000 samples (Mildenhall et al. 2020, section 5.1, tell why). Moments
    are lengths, counted in units of `MOMENT_UNIT` metres, so that their waves are as long as those of directions.

    `out` should start at zero, so that a model which learns about cameras late begins where it was.
    """

    OCTAVES = (0.5, 1.0, 2.0, 4.0, 8.0)
    MOMENT_UNIT = 8.0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(6 * (1 + 2 * len(self.OCTAVES)) + 1, width, bias=False)

    def forward(self, rays: Float[Tensor, "L 7"]) -> Float[Tensor, "L D"]:
        """Embed directions, moments (metres) and whether they are known (1 or 0); what is not known is zero."""
        with without_autocast(rays):
            values, known = rays.float().split((6, 1), dim=-1)
            values = values / values.new_tensor((1.0,) * 3 + (self.MOMENT_UNIT,) * 3)
            angles = (values[..., None] * (2 * math.pi * values.new_tensor(self.OCTAVES))).flatten(1)
            features = torch.cat((values, angles.cos(), angles.sin(), known), dim=-1) * known
        return self.out(features.to(self.out.weight.dtype))
