"""The plain pre-norm transformer block, for encoders that are small and see whole sequences."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.ops.attention import SelfSegments, attention
from genworld.ops.ragged import Segments


class EncoderBlock(nn.Module):
    """Attention and MLP, each after a norm; both start as the identity.

    Args:
        width: features of a token.
        num_heads: heads; must divide the width.
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for last in (self.out, self.down):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Float[Tensor, "S D"], segments: Segments) -> Float[Tensor, "S D"]:
        """Every token of a segment sees the whole segment."""
        q, k, v = rearrange(self.qkv(self.norm_1(x)), "s (three n k) -> three s n k", three=3, n=self.num_heads)
        x = x + self.out(rearrange(attention(q, k, v, mask=SelfSegments(segments)), "s n k -> s (n k)"))
        return x + self.down(F.silu(self.up(self.norm_2(x))))


def block_flops(width: int, length: int) -> int:
    """Operations (a multiply-add is two) of an `EncoderBlock` for one segment of `length` tokens."""
    return length * (24 * width**2 + 4 * length * width)
