"""Sharded tensors seen as whole ones. Every function takes ordinary tensors too, so that callers need no branch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """The part of `tensor` that lives on this rank, sharing its storage."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


@torch.no_grad()
def full(tensor: Tensor) -> Tensor:
    """A contiguous copy of the whole `tensor` on the CPU. Collective: every rank must call it, in the same order."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.to("cpu", copy=True).contiguous()


def assign(target: Tensor, whole: Tensor) -> None:
    """Copy `whole` into `target`, each rank its own shard. Keeps the memory format and dtype of `target`."""
    if isinstance(target, DTensor):
        # No source rank: every rank has read the whole tensor, so nothing needs to be sent.
        whole = distribute_tensor(
            whole.to(target.device), target.device_mesh, target.placements, src_data_rank=None
        ).to_local()
    local(target).copy_(whole)


def is_sharded(module: nn.Module) -> bool:
    """Whether any part of `module` is split over ranks by FSDP2."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def reshard(module: nn.Module) -> None:
    """Forget the gathered weights of `module`, so that the next forward pass gathers them anew.

    FSDP2 keeps the root's weights gathered after a forward pass that no backward pass follows. Whoever changes the
    shards after that (swapping averaged weights in or out) must call this, or the change would not be seen.
    """
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Whole weights for the length of a `with` block, for code that calls parts of `module` on their own."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.unshard()
    try:
        yield
    finally:
        reshard(module)


def total_norm(tensors: list[Tensor]) -> Tensor:
    """The 2-norm of all `tensors` as one vector; float32 and whole on every rank."""
    if not tensors:
        return torch.zeros(())
    norm = torch.nn.utils.get_total_norm(tensors)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).float()
