"""Scaled dot-product attention over packed sequences: one signature, several kernels, one reference.

Queries, keys and values are `[tokens, heads, head width]` with no batch dimension; a mask says which tokens belong
together. Every backend agrees with "math" or raises.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.ops.precision import as_autocast, without_autocast
from genworld.ops.ragged import Segments
from genworld.ops.segment_attention import attend_segments

log = logging.getLogger(__name__)

Backend = Literal["math", "sdpa", "segments", "varlen", "flex", "xformers"]
BackendChoice = Literal["auto", "math", "sdpa", "segments", "varlen", "flex", "xformers"]


@dataclass(frozen=True)
class SelfSegments:
    """A token sees every token of its own segment."""

    segments: Segments

    @property
    def queries(self) -> Segments:
        """Segments of the queries."""
        return self.segments

    @property
    def keys(self) -> Segments:
        """Segments of the keys."""
        return self.segments


@dataclass(frozen=True)
class CrossSegments:
    """A query of segment i sees every key of segment i."""

    queries: Segments
    keys: Segments

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.keys):
            raise ValueError(f"{len(self.queries)} segments of queries cannot attend to {len(self.keys)} of keys")


@dataclass(frozen=True)
class CausalSegments(SelfSegments):
    """A token sees itself and what comes before it in its own segment."""


@dataclass(frozen=True)
class FrameCausalSegments(SelfSegments):
    """A token sees its own frame and earlier frames of its segment.

    `frames` are the tokens per frame over the whole pack; frames do not straddle segments.
    """

    frames: Segments

    def __post_init__(self) -> None:
        ends = set(self.frames.offsets().tolist())
        if self.frames.total != self.segments.total or not ends.issuperset(self.segments.offsets().tolist()):
            raise ValueError(
                f"frames of {self.frames.lengths} tokens do not divide segments of {self.segments.lengths}"
            )


Mask = SelfSegments | CrossSegments | CausalSegments | FrameCausalSegments


@torch.compiler.disable  # segment lengths are Python numbers: compiling them in would compile again for every pack
def attention(
    q: Float[Tensor, "L N K"],
    k: Float[Tensor, "S N K"],
    v: Float[Tensor, "S N K"],
    *,
    mask: Mask,
    backend: BackendChoice = "auto",
) -> Float[Tensor, "L N K"]:
    """Softmax attention within segments, scaled by 1 / sqrt(K).

    Args:
        q: queries of all segments, end to end.
        k: keys.
        v: values.
        mask: which keys a query sees.
        backend: the kernel; "auto" takes the fastest for the device and type (see `resolve_backend`).

    Raises:
        ValueError: the mask does not fit the tensors, or the backend cannot do what is asked.
    """
    if len(q) != mask.queries.total or len(k) != mask.keys.total or len(v) != len(k):
        raise ValueError(
            f"the mask describes {mask.queries.total} queries and {mask.keys.total} keys, "
            f"got {len(q)} queries, {len(k)} keys and {len(v)} values"
        )
    q, k, v = as_autocast(q, k, v)
    if backend == "auto":
        backend = resolve_backend(q.device.type, q.dtype, frame_causal=isinstance(mask, FrameCausalSegments))
    return _KERNELS[backend](q, k, v, mask)


@functools.cache
def resolve_backend(device_type: str, dtype: torch.dtype, frame_causal: bool = False) -> Backend:
    """The backend that "auto" stands for. Decided once for each combination, and logged."""
    # Flash kernels need 16 bits and the Ampere generation (8.0) or later.
    old = torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0)
    half = dtype in (torch.float16, torch.bfloat16) and not old
    if device_type != "cuda":
        choice: Backend = "segments"
    elif frame_causal:
        choice = "flex"
    elif half and importlib.util.find_spec("torch.nn.attention.varlen") is not None:
        choice = "varlen"
    elif half and importlib.util.find_spec("xformers") is not None:
        choice = "xformers"
    else:
        choice = "segments"
    log.info("attention on %s in %s%s: %s", device_type, dtype, ", frame-causal" if frame_causal else "", choice)
    return choice


def dense_mask(mask: Mask, device: torch.device | str) -> Bool[Tensor, "L S"]:
    """What `mask` means: True where query (row) sees key (column)."""
    q, k = mask.queries.ids(device)[:, None], mask.keys.ids(device)[None, :]
    if isinstance(mask, FrameCausalSegments):
        frame = mask.frames.ids(device)
        return (q == k) & (frame[:, None] >= frame[None, :])
    return (q == k).tril() if isinstance(mask, CausalSegments) else q == k


def _math(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    with without_autocast(q):
        scores = torch.einsum("l n k, s n k -> n l s", q.float(), k.float()) * q.shape[-1] ** -0.5
        scores = scores.masked_fill(~dense_mask(mask, q.device), float("-inf"))
        return torch.einsum("n l s, s n k -> l n k", scores.softmax(-1), v.float()).to(q.dtype)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=dense_mask(mask, q.device))[0].transpose(0, 1)


def _segments(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    frames = mask.frames if isinstance(mask, FrameCausalSegments) else None
    causal = isinstance(mask, CausalSegments)
    return attend_segments(q, k, v, mask.queries, mask.keys, causal=causal, frames=frames)


def _varlen(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    _check_flash("varlen", q, mask)
    from torch.nn.attention.varlen import varlen_attn

    offsets = mask.queries.offsets(q.device), mask.keys.offsets(q.device)
    window = (-1, 0) if isinstance(mask, CausalSegments) else (-1, -1)
    out = varlen_attn(q, k, v, *offsets, mask.queries.longest, mask.keys.longest, window_size=window)
    assert isinstance(out, Tensor)
    return out


def _flex(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    kernel = _compiled_flex()
    if q.device.type != "cuda":
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            raise ValueError(f"attention backend flex has no gradient on {q.device.type}: use segments or math")
        kernel, q, k, v = _plain_flex(), q.detach(), k.detach(), v.detach()
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return kernel(q, k, v, block_mask=_block_mask(mask, q.device))[0].transpose(0, 1)


def _xformers(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    _check_flash("xformers", q, mask)
    if importlib.util.find_spec("xformers") is None:
        raise ValueError("attention backend xformers needs the package: pip install 'genworld[xformers]'")
    from xformers.ops import memory_efficient_attention
    from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask, BlockDiagonalMask

    kind = BlockDiagonalCausalMask if isinstance(mask, CausalSegments) else BlockDiagonalMask
    bias = kind.from_seqlens(list(mask.queries.lengths), list(mask.keys.lengths), device=q.device)
    return memory_efficient_attention(q[None], k[None], v[None], attn_bias=bias)[0]


def _check_flash(backend: str, q: Tensor, mask: Mask) -> None:
    if q.device.type != "cuda" or q.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"attention backend {backend} runs in float16 or bfloat16 on a CUDA device, got {q.dtype} on "
            f"{q.device.type}: use auto"
        )
    if isinstance(mask, FrameCausalSegments):
        raise ValueError(f"attention backend {backend} knows no frame-causal mask: use flex, segments or auto")


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(_plain_flex(), dynamic=True)


def _plain_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@functools.lru_cache(maxsize=8)  # one mask serves all layers of a forward pass
def _block_mask(mask: Mask, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    q_ids, k_ids = mask.queries.ids(device), mask.keys.ids(device)
    frame = mask.frames.ids(device) if isinstance(mask, FrameCausalSegments) else None
    causal = isinstance(mask, CausalSegments)

    def seen(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same = q_ids[q] == k_ids[k]
        if frame is not None:
            return same & (frame[q] >= frame[k])
        return same & (q >= k) if causal else same

    return create_block_mask(seen, None, None, mask.queries.total, mask.keys.total, device=str(device))


_KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Mask], Tensor]] = {
    "math": _math,
    "sdpa": _sdpa,
    "segments": _segments,
    "varlen": _varlen,
    "flex": _flex,
    "xformers": _xformers,
}
