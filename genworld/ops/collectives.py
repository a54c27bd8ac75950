"""Rows from all processes, for losses that compare every sample of a global batch with every other."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def world_size() -> int:
    """Number of processes that work together; 1 where there are no others."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(x: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "N ..."]:
    """The rows of all ranks, in the order of ranks, on every rank; each may have any number of them.

    Differentiable: the gradient of a row is the sum of the gradients that it has on all ranks. Every rank must call it,
    as often and in the same order, and backward must pass through it on all ranks or none.
    """
    if world_size() == 1:
        return x
    return _GatherRows.apply(x) if x.requires_grad else _gather(x, _counts(x))


class _GatherRows(torch.autograd.Function):
    """torch's own differentiable all-gather wants equal numbers of rows, and an all-to-all that gloo lacks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.counts = _counts(x)
        return _gather(x, ctx.counts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        first = sum(ctx.counts[: dist.get_rank()])
        return grad[first : first + ctx.counts[dist.get_rank()]]


def _counts(x: Tensor) -> list[int]:
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    return [int(count) for count in counts]


def _gather(x: Tensor, counts: list[int]) -> Tensor:
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
