"""Multi-head attention over packed tokens, with queries and keys normalised across all heads (as in Wan)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from genworld.nn.norm import RMSNorm
from genworld.ops.attention import BackendChoice, CrossSegments, SelfSegments, attention
from genworld.ops.rope import apply_rope


class SelfAttention(nn.Module):
    """Attention among the tokens of a segment, with rotary positions.

    Args:
        width: features of a token.
        num_heads: heads; must divide the width.
        backend: attention kernel.
        eps: of the normalisation of queries and keys.
    """

    def __init__(self, width: int, num_heads: int, backend: BackendChoice = "auto", eps: float = 1e-6) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend: BackendChoice = backend
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q = RMSNorm(width, eps)
        self.norm_k = RMSNorm(width, eps)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "L D"], rope: tuple[Float[Tensor, "L half"], Float[Tensor, "L half"]], mask: SelfSegments
    ) -> Float[Tensor, "L D"]:
        """Attend within `mask`; `rope` is the table of the tokens' positions."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        heads = (self.num_heads, -1)
        q = apply_rope(self.norm_q(q).unflatten(-1, heads), *rope).to(v.dtype)
        k = apply_rope(self.norm_k(k).unflatten(-1, heads), *rope).to(v.dtype)
        return self.out(attention(q, k, v.unflatten(-1, heads), mask=mask, backend=self.backend).flatten(-2))


class CrossAttention(nn.Module):
    """Attention of tokens to the condition of their segment; see `SelfAttention` for the arguments."""

    def __init__(self, width: int, num_heads: int, backend: BackendChoice = "auto", eps: float = 1e-6) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend: BackendChoice = backend
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.norm_q = RMSNorm(width, eps)
        self.norm_k = RMSNorm(width, eps)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "L D"], condition: Float[Tensor, "S D"], mask: CrossSegments
    ) -> Float[Tensor, "L D"]:
        """Attend from `x` to `condition` within `mask`."""
        heads = (self.num_heads, -1)
        k, v = self.kv(condition).chunk(2, dim=-1)
        q = self.norm_q(self.q(x)).unflatten(-1, heads).to(v.dtype)
        k = self.norm_k(k).unflatten(-1, heads).to(v.dtype)
        return self.out(attention(q, k, v.unflatten(-1, heads), mask=mask, backend=self.backend).flatten(-2))
