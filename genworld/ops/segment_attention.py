"""Attention segment by segment, with as few calls as the lengths allow; the fast path of a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.ops.ragged import Segments

PADDING_LIMIT = 1.5
"""Keys of unequal lengths are padded into one call as long as that makes at most this many times the scores."""
KEY_MULTIPLE = 32
"""Padded keys are a multiple of this: a CPU's softmax falls back to scalar code on rows that are no whole vectors."""
SCORE_LIMIT = 2**27
"""Most scores that are kept in memory at a time (256 MB); beyond, the fused kernel, which keeps none."""


def attend_segments(
    q: Float[Tensor, "L N K"],
    k: Float[Tensor, "S N K"],
    v: Float[Tensor, "S N K"],
    queries: Segments,
    keys: Segments,
    *,
    causal: bool = False,
    frames: Segments | None = None,
) -> Float[Tensor, "L N K"]:
    """Attend within each segment.

    Equal segments are one batched call. Equal queries with short keys of similar lengths (captions) are one call on
    masked padding that nothing outside can see. All else is a loop.

    Args:
        q: queries.
        k: keys.
        v: values.
        queries: tokens per segment of `q`.
        keys: tokens per segment of `k` and `v`.
        causal: token i sees tokens up to i of its segment.
        frames: tokens per frame over the whole pack, for a mask that is causal over frames.
    """
    structured = causal or frames is not None
    if queries.equal and keys.equal and frames is None:
        seen = _causal_mask(keys.longest, q.device) if causal else None
        return _batched(q, k, v, len(queries), seen)
    if queries.equal and not structured and keys.longest * len(keys) <= PADDING_LIMIT * keys.total:
        return _padded(q, k, v, len(queries), keys)
    outputs, first_frame = [], 0
    sizes = list(queries.lengths), list(keys.lengths)
    for a, b, c in zip(q.split(sizes[0]), k.split(sizes[1]), v.split(sizes[1]), strict=True):
        seen = _causal_mask(len(b), q.device) if causal else None
        if frames is not None:
            seen, first_frame = _frame_mask(frames, first_frame, len(b), q.device)
        outputs.append(_batched(a, b, c, 1, seen))
    return torch.cat(outputs)


def _batched(q: Tensor, k: Tensor, v: Tensor, count: int, seen: Tensor | None) -> Tensor:
    q, k, v = (x.unflatten(0, (count, -1)).transpose(1, 2) for x in (q, k, v))
    return _attend(q, k, v, seen).transpose(1, 2).flatten(0, 1)


def _padded(q: Tensor, k: Tensor, v: Tensor, count: int, keys: Segments) -> Tensor:
    length = torch.tensor(keys.lengths, device=q.device)[:, None]
    longest = -(-keys.longest // KEY_MULTIPLE) * KEY_MULTIPLE
    place = torch.arange(longest, device=q.device)[None]
    seen = place < length
    # Padding repeats a real token of the pack rather than zeros: masked out either way, and one gather does it.
    rows = (keys.offsets(q.device)[:-1, None] + place.minimum(length - 1)).flatten()
    k, v = (x.index_select(0, rows) for x in (k, v))
    return _batched(q, k, v, count, seen[:, None, None])


def _attend(
    q: Float[Tensor, "B N L K"], k: Float[Tensor, "B N S K"], v: Float[Tensor, "B N S K"], seen: Tensor | None
) -> Float[Tensor, "B N L K"]:
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[:-1].numel() * k.shape[-2] <= SCORE_LIMIT:
        # The fused kernel with its backward is 2 to 4 times slower than plain products here.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if seen is not None:
            scores = scores.masked_fill(~seen, float("-inf"))
        return scores.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def _causal_mask(length: int, device: torch.device) -> Bool[Tensor, "L L"]:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def _frame_mask(frames: Segments, first: int, length: int, device: torch.device) -> tuple[Tensor, int]:
    """The mask of the segment of `length` tokens that starts at frame `first`, and the next segment's first frame."""
    last, left = first, length
    while left > 0:
        left -= frames.lengths[last]
        last += 1
    frame = Segments(frames.lengths[first:last]).ids(device)
    return frame[:, None] >= frame[None, :], last
