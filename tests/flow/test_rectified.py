import math
from itertools import pairwise

import pytest
import torch

from genworld.config import ConfigError, decode
from genworld.flow.rectified import (
    ConstantShift,
    FlowConfig,
    TokenShift,
    interpolate,
    sample_time,
    schedule,
    shift_for,
    shift_time,
    velocity,
)
from genworld.ops.random import generator


def test_the_path_runs_from_data_to_noise_at_constant_velocity() -> None:
    x, noise = torch.randn(2, 5, 3)
    torch.testing.assert_close(interpolate(x, noise, torch.tensor(0.0)), x)
    torch.testing.assert_close(interpolate(x, noise, torch.tensor(1.0)), noise)
    t = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], requires_grad=False)
    _, speed = torch.func.jvp(lambda t: interpolate(x, noise, t), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(speed, velocity(x, noise))


def test_times_are_per_token() -> None:
    x, noise = torch.randn(2, 4, 3)
    t = torch.tensor([0.0, 1.0, 0.25, 0.0])
    mixed = interpolate(x, noise, t)
    for i in range(4):
        torch.testing.assert_close(mixed[i], interpolate(x[i], noise[i], t[i]))


def test_shift_keeps_the_ends_and_moves_the_middle_towards_noise() -> None:
    t = torch.linspace(0, 1, 11)
    assert shift_time(t, 3.0)[0] == 0
    assert shift_time(t, 3.0)[-1] == 1
    torch.testing.assert_close(shift_time(torch.tensor(0.5), 3.0), torch.tensor(0.75))
    torch.testing.assert_close(shift_time(shift_time(t, 2.0), 3.0), shift_time(t, 6.0))
    torch.testing.assert_close(shift_time(t, 1.0), t)


@pytest.mark.parametrize("curve", ["sqrt", "linear", "exponential"])
def test_token_shift_goes_through_its_anchors_and_never_falls(curve) -> None:
    config = FlowConfig(shift=TokenShift(curve=curve, low_tokens=256, low_alpha=1.5, high_tokens=4096, high_alpha=3.0))
    assert shift_for(config, 256) == pytest.approx(1.5)
    assert shift_for(config, 4096) == pytest.approx(3.0)
    assert shift_for(config, 1) == 1.5
    alphas = [shift_for(config, n) for n in range(1, 9000, 50)]
    assert all(a <= b for a, b in pairwise(alphas))


def test_token_shift_is_the_published_one() -> None:
    # Flux: mu linear from 0.5 at 256 tokens to 1.15 at 4096, alpha = exp(mu).
    flux = TokenShift(curve="exponential", low_alpha=math.exp(0.5), high_alpha=math.exp(1.15))
    mu = 0.5 + (1024 - 256) / (4096 - 256) * 0.65
    assert shift_for(FlowConfig(shift=flux), 1024) == pytest.approx(math.exp(mu))
    # Stable Diffusion 3: alpha = sqrt(m / n), here n = 1024.
    sd3 = TokenShift(curve="sqrt", low_tokens=1024, low_alpha=1.0, high_tokens=4096, high_alpha=2.0)
    assert shift_for(FlowConfig(shift=sd3), 9 * 1024) == pytest.approx(3.0)
    # Open-Sora 2: linear, 1 at 256 tokens, 3 at 4096.
    assert shift_for(FlowConfig(shift=TokenShift(curve="linear")), 2176) == pytest.approx(2.0)


def test_tiny_clips_are_not_shifted_by_default() -> None:
    torch.testing.assert_close(schedule(FlowConfig(), 4, num_tokens=80), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


def test_schedule_ends_exactly_and_falls_strictly() -> None:
    times = schedule(FlowConfig(), 30, num_tokens=5000)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    with pytest.raises(ValueError, match="at least 1 step"):
        schedule(FlowConfig(), 0, num_tokens=80)


@pytest.mark.parametrize("num_tokens", [80, 5000])
def test_training_and_sampling_share_the_shift(num_tokens) -> None:
    """The median of the training times is the middle of the sampling times."""
    config, source = FlowConfig(logit_std=0.5), generator(0, "time")
    times = torch.stack([sample_time(config, num_tokens, source) for _ in range(4001)])
    assert times.median().item() == pytest.approx(schedule(config, 2, num_tokens)[1].item(), abs=0.015)


def test_times_are_logit_normal_and_repeatable() -> None:
    config = FlowConfig(logit_mean=0.3, logit_std=0.7, shift=ConstantShift(alpha=2.0))

    def draw() -> torch.Tensor:
        source = generator(7, "time")
        return torch.stack([sample_time(config, 80, source) for _ in range(4000)])

    times = draw()
    assert torch.equal(times, draw())
    assert ((times > 0) & (times < 1)).all()
    # logit(shift(t)) = logit(t) + log(alpha).
    assert torch.logit(times).mean().item() == pytest.approx(0.3 + math.log(2), abs=0.04)
    assert torch.logit(times).std().item() == pytest.approx(0.7, abs=0.04)


def test_config_from_yaml() -> None:
    config = decode(FlowConfig, {"logit_mean": 0.1, "shift": {"kind": "constant", "alpha": 3}})
    assert shift_for(config, 10**6) == 3.0
    with pytest.raises(ConfigError, match=r"shift: alpha must be positive, got -1"):
        decode(FlowConfig, {"shift": {"kind": "constant", "alpha": -1}})
    with pytest.raises(ConfigError, match="low_tokens < high_tokens"):
        decode(FlowConfig, {"shift": {"kind": "tokens", "low_tokens": 5000}})
