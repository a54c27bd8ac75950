"""Measures of pixels that need no weights."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

RANGE = 2.0
"""Pixels lie in [-1, 1]."""


def psnr(real: Float[Tensor, "B 3 F H W"], other: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio of each clip in dB, from its squared error over all frames; at most 100."""
    error = (real.float() - other.float()).square().mean(dim=(1, 2, 3, 4))
    return 10.0 * torch.log10(RANGE**2 / error.clamp_min(RANGE**2 * 1e-10))
