"""An exponential moving average of weights, for everything that is sampled or measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genworld.train.dtensor import local


def warmed_decay(decay: float, num_updates: int) -> float:
    """`decay`, but less while there is little to average: min(decay, (1 + i) / (10 + i)) after `i` updates."""
    return min(decay, (1 + num_updates) / (10 + num_updates))


class EMA:
    """Averages of the trainable parameters of some networks; frozen ones and buffers are taken as they are.

    The average of a weight that stops changing on the way (no gradient any more) goes on towards it: every update
    leaves `decay` of what was between them, so that a tenth is left after 460 updates at 0.995.
    The averages are kept in float32 (or better) and sharded as the parameters are. A parameter that two networks or
    two names share is averaged once.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the averaged weights must be in [0, 1), got {decay}")
        self.decay = decay
        self._networks = dict(networks)
        trainable = {id(p): p for network in networks.values() for p in network.parameters() if p.requires_grad}
        self._parameters = list(trainable.values())
        self._averages = [_float(parameter.detach().clone()) for parameter in self._parameters]
        self._by_id = dict(zip(trainable, self._averages, strict=True))

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the averages towards the weights. `num_updates` counts the calls before this one."""
        weight = 1 - warmed_decay(self.decay, num_updates)
        averages = [local(average) for average in self._averages]
        torch._foreach_lerp_(averages, [local(p).to(a.dtype) for p, a in self._pairs()], weight)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the averages in place of the weights for the length of a `with` block."""
        with torch.no_grad():
            weights = [local(parameter).clone() for parameter in self._parameters]
            for parameter, average in self._pairs():
                local(parameter).copy_(local(average))
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weight in zip(self._parameters, weights, strict=True):
                    local(parameter).copy_(weight)

    def state(self, network: str) -> dict[str, Tensor]:
        """The state dict of one network with averages in place of weights. Tensors are not copies."""
        state = self._networks[network].state_dict(keep_vars=True)
        return {key: self._by_id.get(id(value), value) for key, value in state.items()}

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self._parameters, self._averages, strict=True)


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
