"""Classifier-free guidance as a velocity function made from others; samplers do not know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genworld.flow.rectified import align_time
from genworld.flow.samplers import Velocity

VelocityPair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`both(x, t)` -> (conditional, unconditional) velocity, each like `x`."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """How strongly to follow the prompt, and at which times.

    `scale` 1 is none. Guidance acts where `interval[0] < t <= interval[1]`; away from the ends of the path it does
    most of its good, and early on (t near 1) most of its harm (Kynkäänniemi et al. 2024, "Applying Guidance in a
    Limited Interval").
    """

    scale: float = 5.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Check both."""
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"interval must satisfy 0 <= low < high <= 1, got {self.interval}")
        if self.scale < 0:
            raise ValueError(f"scale must not be negative, got {self.scale}; 1 is no guidance")


def guided(config: GuidanceConfig, conditional: Velocity, both: VelocityPair) -> Velocity:
    """The velocity `uncond + scale (cond - uncond)` (Ho & Salimans 2022, eq. 6), of every token inside the interval.

    The unconditional branch costs as much as the conditional one, so `both` is called only when some token needs it:
    never at scale 1, and at no step that lies outside the interval for all tokens. Given tokens (t = 0) never need it.

    Args:
        config: scale and interval.
        conditional: velocity under the prompt.
        both: velocities with and without the prompt; best from one call of the network, both packed into one sequence.
    """
    if config.scale == 1:
        return conditional
    low, high = config.interval

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        inside = (t > low) & (t <= high)
        if not bool(inside.any()):
            return conditional(x, t)
        with_prompt, without = both(x, t)
        return torch.where(align_time(inside, x), torch.lerp(without, with_prompt, config.scale), with_prompt)

    return velocity
