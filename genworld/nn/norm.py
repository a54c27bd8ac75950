"""Normalisation in float32, whatever the type of the input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genworld.ops.precision import without_autocast


def layer_norm(x: Float[Tensor, "... D"], eps: float = 1e-6) -> Float[Tensor, "... D"]:
    """Zero mean and unit deviation over the last dimension, in float32, without weights."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps)


def rms_norm(x: Float[Tensor, "... D"], weight: Float[Tensor, " D"], eps: float = 1e-6) -> Float[Tensor, "... D"]:
    """Unit root mean square over the last dimension, times `weight`, in float32.

    See Zhang and Sennrich 2019, eq. 4.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        with without_autocast(x):
            return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps)
    return _RMSNorm.apply(x, weight, eps)


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` in float32; returns float32."""

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Normalise over the last dimension, then scale and shift."""
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight; returns float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Normalise over the last dimension, then scale."""
        return rms_norm(x, self.weight, self.eps)


class _RMSNorm(torch.autograd.Function):
    """The CPU path: torch 2.15 differentiates its own `rms_norm` there through nine passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = (length.square() / x.shape[-1] + eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (wide * inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        unit = x.float() * inverse
        weight_terms = grad * unit
        along = (weight_terms @ weight.float())[..., None] / x.shape[-1]
        grad_x = (grad * weight).addcmul_(unit, along, value=-1).mul_(inverse)
        return grad_x.to(x.dtype), weight_terms.flatten(0, -2).sum(0).to(weight.dtype), None
