"""Two linear layers with a non-linearity between them."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Activation = Literal["gelu", "gelu_tanh"]


class MLP(nn.Module):
    """Up, activate, down.

    "gelu_tanh" is the approximation that Wan was trained with; on a CPU the exact "gelu" is four times faster.
    """

    def __init__(self, width: int, hidden: int, out: int, activation: Activation = "gelu_tanh") -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, out)
        self.approximate = "tanh" if activation == "gelu_tanh" else "none"

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """Map the last dimension from `width` to `out`."""
        return self.down(F.gelu(self.up(x), approximate=self.approximate))
