"""Rectified flow: the straight path between data and noise, and the times it is trained and sampled at.

Time convention, stated here for the whole project: t in [0, 1], **t = 0 is data, t = 1 is noise**,
`x_t = (1 - t) x + t noise`, and the network predicts the velocity `dx_t/dt = noise - x`
(Liu et al. 2022, "Flow Straight and Fast", eq. 1). A token at t = 0 is *given*: it is never noised nor predicted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ConstantShift:
    """The same shift for clips of every size; 1 is none. Wan samples at 3 to 12."""

    kind: Literal["constant"] = "constant"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the value."""
        _check_positive("alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class TokenShift:
    """A shift that grows with the number of tokens of the clip, through two anchors.

    More tokens show the same thing more redundantly, so that more noise is needed to hide it, and more of the time has
    to be spent near t = 1 (Esser et al. 2024, "Scaling Rectified Flow Transformers", §5.3.2). Between the anchors and
    above them alpha is

    - `sqrt`: linear in the square root of the number of tokens (Stable Diffusion 3, eq. 23);
    - `linear`: linear in the number of tokens (Open-Sora 2);
    - `exponential`: the exponential of something linear in the number of tokens (Flux, LTX; use it within its anchors);

    below `low_tokens` it is `low_alpha`: with the defaults, tiny clips are not shifted.
    """

    kind: Literal["tokens"] = "tokens"
    curve: Literal["sqrt", "linear", "exponential"] = "sqrt"
    low_tokens: int = 256
    low_alpha: float = 1.0
    high_tokens: int = 4096
    high_alpha: float = 3.0

    def __post_init__(self) -> None:
        """Check the anchors."""
        _check_positive("low_alpha", self.low_alpha)
        if self.high_alpha < self.low_alpha:
            raise ValueError(f"high_alpha must be at least low_alpha ({self.low_alpha}), got {self.high_alpha}")
        if not 0 < self.low_tokens < self.high_tokens:
            raise ValueError(f"expected 0 < low_tokens < high_tokens, got {self.low_tokens} and {self.high_tokens}")


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Which times are trained, and how the steps of sampling are spread.

    Training times are logit-normal: `t = sigmoid(logit_mean + logit_std z)`, z standard normal, then shifted
    (Esser et al. 2024, eq. 19).
    """

    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: ConstantShift | TokenShift = field(default_factory=TokenShift)

    def __post_init__(self) -> None:
        """Check the deviation."""
        _check_positive("logit_std", self.logit_std)


def interpolate(x: Float[Tensor, "*x"], noise: Float[Tensor, "*x"], t: Float[Tensor, "*t"]) -> Float[Tensor, "*x"]:
    """The point `(1 - t) x + t noise` of the path.

    Args:
        x: data.
        noise: as `x`.
        t: one time, or times that match the leading dimensions of `x`, such as one for each token.
    """
    t = align_time(t, x)
    return (1 - t) * x + t * noise


def velocity(x: Float[Tensor, "*x"], noise: Float[Tensor, "*x"]) -> Float[Tensor, "*x"]:
    """The velocity `noise - x` of the path from `x` to `noise`: what the network learns to predict."""
    return noise - x


def align_time(t: Float[Tensor, "*t"], x: Float[Tensor, "*x"]) -> Float[Tensor, "*broadcast"]:
    """`t` with trailing dimensions of size one, so that it broadcasts over what follows its dimensions in `x`."""
    assert t.ndim <= x.ndim, (t.shape, x.shape)
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def shift_time(t: Float[Tensor, "*t"], alpha: float) -> Float[Tensor, "*t"]:
    """Move times towards noise, `alpha t / (1 + (alpha - 1) t)`; 0 and 1 stay (Esser et al. 2024, eq. 23)."""
    return alpha * t / (1 + (alpha - 1) * t)


def shift_for(config: FlowConfig, num_tokens: int) -> float:
    """The shift alpha of a clip of `num_tokens` transformer tokens (all of its frames together)."""
    shift = config.shift
    if isinstance(shift, ConstantShift):
        return shift.alpha
    if num_tokens <= shift.low_tokens:
        return shift.low_alpha
    low, high, here = shift.low_tokens, shift.high_tokens, num_tokens
    if shift.curve == "sqrt":
        return _between(shift.low_alpha, shift.high_alpha, _part(math.sqrt(low), math.sqrt(high), math.sqrt(here)))
    if shift.curve == "linear":
        return _between(shift.low_alpha, shift.high_alpha, _part(low, high, here))
    return math.exp(_between(math.log(shift.low_alpha), math.log(shift.high_alpha), _part(low, high, here)))


def sample_time(config: FlowConfig, num_tokens: int, generator: torch.Generator) -> Float[Tensor, ""]:
    """One training time for a clip of `num_tokens`: logit-normal, then shifted as in sampling.

    Args:
        config: the distribution.
        num_tokens: transformer tokens of the clip.
        generator: where the randomness comes from; a CPU generator gives the same time on every machine.
    """
    z = torch.randn((), generator=generator, device=generator.device)
    return shift_time(torch.sigmoid(config.logit_mean + config.logit_std * z), shift_for(config, num_tokens))


def schedule(config: FlowConfig, num_steps: int, num_tokens: int, start: float = 1.0) -> Float[Tensor, " steps"]:
    """The `num_steps + 1` times of sampling, down to exactly 0, with the shift used in training.

    Args:
        config: says the shift.
        num_steps: from one time to the next.
        num_tokens: transformer tokens of the clip.
        start: the first time, before the shift; 1 begins at noise.

    Raises:
        ValueError: fewer than one step.
    """
    if num_steps < 1:
        raise ValueError(f"sampling needs at least 1 step, got {num_steps}")
    even = torch.linspace(start, 0, num_steps + 1, dtype=torch.float64)
    return shift_time(even, shift_for(config, num_tokens)).float()


def token_times(
    config: FlowConfig, num_steps: int, start: Float[Tensor, "T H W"], stagger: int = 0
) -> Float[Tensor, "steps T H W"]:
    """The times of sampling for every token of a clip, each from its own start down to 0.

    A token that starts at less than the others waits until they have come down to its level; one that starts at 0 is
    given, and never moves.

    Args:
        config: says the shift.
        num_steps: in which the first of the moving frames goes all the way.
        start: the level, before the shift, at which each token begins.
        stagger: by how many steps every frame lags behind the one before; the number of steps grows accordingly.
    """
    times = schedule(config, num_steps, start.numel(), float(start.max()))
    moving = (start > 0).any(dim=(1, 2))
    lag = stagger * (moving.cumsum(0) - 1).clamp_min(0)
    steps = torch.arange(num_steps + int(lag.max()) + 1)
    frames = times[(steps[:, None] - lag.cpu()).clamp(0, num_steps)].to(start)
    own = shift_time(start, shift_for(config, start.numel()))
    return torch.minimum(frames[:, :, None, None], own)


def _part(low: float, high: float, here: float) -> float:
    """How far `here` is on the way from `low` to `high`."""
    return (here - low) / (high - low)


def _between(low: float, high: float, part: float) -> float:
    return low + (high - low) * part


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")
