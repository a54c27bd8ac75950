"""Samplers: from noise to data along a velocity field, by following `dx/dt = velocity(x, t)` from t = 1 to t = 0.

All take the same arguments: a velocity function, the state, and the times to visit, which may differ from token to
token. A token whose time does not change is left bit for bit as it is, whatever the velocity says there: that is how
given tokens stay given.

None evaluates the velocity of a moving token at t = 0, where a network knows tokens only as given and predicts nothing.
Gradients flow; call them under `torch.inference_mode()` to save memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.flow.rectified import align_time

Velocity = Callable[[Tensor, Tensor], Tensor]
"""`velocity(x, t)` -> like `x`; `t` is one entry of the times: a scalar, or one time for each token."""

Progress = Callable[[int], None]
"""Called with the number of steps done, after each step."""


class Sampler(Protocol):
    """What the samplers below are."""

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor, progress: Progress | None = None) -> Tensor:
        """Follow the velocity through `times`."""
        ...


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How to follow the flow.

    `euler` and `multistep` call the network once a step, `heun` twice; `multistep` is as accurate as `heun`.
    """

    method: Literal["euler", "heun", "multistep"] = "euler"
    num_steps: int = 30

    def __post_init__(self) -> None:
        """Check the number of steps."""
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")


def sample(
    config: SamplerConfig,
    velocity: Velocity,
    x: Float[Tensor, "L ..."],
    times: Float[Tensor, "*times"],
    progress: Progress | None = None,
) -> Float[Tensor, "L ..."]:
    """Follow `velocity` through `times` (see `flow.rectified.schedule`) with the sampler that `config` names.

    Args:
        config: the method; `times` must have its number of steps.
        velocity: `(x, t) -> velocity`.
        x: the state at the first time, kept in at least float32.
        times: `[steps + 1]` for the whole state, or `[steps + 1, L]` for every token its own.
        progress: called after each step with the number of steps done.
    """
    assert len(times) == config.num_steps + 1, (len(times), config.num_steps)
    return SAMPLERS[config.method](velocity, x, times, progress)


def euler(
    velocity: Velocity,
    x: Float[Tensor, "L ..."],
    times: Float[Tensor, "*times"],
    progress: Progress | None = None,
) -> Float[Tensor, "L ..."]:
    """First order: `x + (t' - t) v(x, t)`. One call a step."""
    x, times = _prepare(x, times)
    for step, (now, then) in enumerate(pairwise(times), start=1):
        x = _move(x, then - now, velocity(x, now).to(x))
        _report(progress, step)
    return x


def heun(
    velocity: Velocity,
    x: Float[Tensor, "L ..."],
    times: Float[Tensor, "*times"],
    progress: Progress | None = None,
) -> Float[Tensor, "L ..."]:
    """Second order: the mean of the velocities at both ends of an Euler step (Karras et al. 2022, algorithm 1).

    Two calls a step; the step into t = 0 is an Euler step, as in the paper, which keeps the order.
    """
    x, times = _prepare(x, times)
    for step, (now, then) in enumerate(pairwise(times), start=1):
        start = velocity(x, now).to(x)
        there = _move(x, then - now, start)
        if bool((then > 0).any()):
            end = velocity(there, then).to(x)
            mean = torch.where(align_time(then > 0, x), (start + end) / 2, start)
            there = _move(x, then - now, mean)
        x = there
        _report(progress, step)
    return x


def multistep(
    velocity: Velocity,
    x: Float[Tensor, "L ..."],
    times: Float[Tensor, "*times"],
    progress: Progress | None = None,
) -> Float[Tensor, "L ..."]:
    """Second order from one call a step: two-step Adams-Bashforth for steps of any size.

    The velocity is extrapolated linearly from the last two to the middle of the step:
    `x + h ((1 + r/2) v - r/2 v_before)` with `r = h / h_before`. A token's first step, and its first after a pause,
    is an Euler step.
    """
    x, times = _prepare(x, times)
    before, size_before = torch.zeros_like(x), torch.zeros_like(times[0])
    for step, (now, then) in enumerate(pairwise(times), start=1):
        size = then - now
        here = velocity(x, now).to(x)
        moved = size_before != 0
        half = torch.where(moved, size / torch.where(moved, size_before, 1), 0) / 2
        slope = align_time(half, x) * torch.where(align_time(moved, x), here - before, 0)  # 0 times nan is nan
        x = _move(x, size, here + slope)
        before, size_before = here, size
        _report(progress, step)
    return x


SAMPLERS: dict[str, Sampler] = {"euler": euler, "heun": heun, "multistep": multistep}


def _prepare(x: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The state in at least float32, since many small steps are added to it, and the times beside it."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    assert times.ndim == 1 or times.shape[1:] in ((1,), x.shape[:1]), (times.shape, x.shape)
    return x, times.to(x)


def _move(x: Tensor, size: Tensor, velocity: Tensor) -> Tensor:
    """One straight step; where its size is 0 the result is `x` itself, even beside an infinite velocity."""
    size = align_time(size, x)
    return torch.where(size == 0, x, x + size * velocity)


def _report(progress: Progress | None, step: int) -> None:
    if progress is not None:
        progress(step)
