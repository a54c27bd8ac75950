import math
from itertools import pairwise

import pytest
import torch

from genworld.flow.rectified import ConstantShift, FlowConfig, TokenShift, schedule
from genworld.flow.samplers import SAMPLERS, SamplerConfig, euler, heun, multistep, sample
from genworld.ops.random import normal

ORDERS = [("euler", 1), ("heun", 2), ("multistep", 2)]


def even_times(num_steps: int) -> torch.Tensor:
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)


def shifted_times(num_steps: int) -> torch.Tensor:
    return schedule(FlowConfig(shift=ConstantShift(alpha=3.0)), num_steps, 1).double()


def decay(x, t):
    return 1.5 * x


def rotation(x, t):
    return 2 * torch.stack([-x[..., 1], x[..., 0]], dim=-1)


def driven(x, t):
    return torch.cos(3 * t) * x + t


EQUATIONS = {
    "decay": (decay, lambda x: x * math.exp(-1.5)),
    "rotation": (
        rotation,
        lambda x: x @ torch.tensor([[math.cos(2), -math.sin(2)], [math.sin(2), math.cos(2)]]).double(),
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("times", [even_times(3), shifted_times(5), torch.tensor([1.0, 0.9, 0.2, 0.0]).double()])
def test_a_straight_path_is_followed_exactly(name, times) -> None:
    x, noise = normal((2, 6, 3), 0, "straight").double()
    torch.testing.assert_close(SAMPLERS[name](lambda *_: noise - x, noise, times), x)


@pytest.mark.parametrize("times", [even_times, shifted_times])
@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_order_of_convergence(name, order, equation, times) -> None:
    field, solution = EQUATIONS[equation]
    start = normal((4, 2), 1, "order").double()
    errors = [(SAMPLERS[name](field, start, times(n)) - solution(start)).norm().item() for n in (64, 128, 256)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_order_with_a_field_that_depends_on_time(name, order) -> None:
    start = normal((4, 2), 1, "order").double()
    truth = heun(driven, start, even_times(4_000))
    errors = [(SAMPLERS[name](driven, start, shifted_times(n)) - truth).norm().item() for n in (64, 128)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_multistep_is_exact_for_velocities_linear_in_time_on_uneven_steps() -> None:
    times = torch.tensor([1.0, 0.8, 0.75, 0.3, 0.1, 0.0]).double()
    result = multistep(lambda x, t: x * 0 + 2 * t, torch.ones(3, 2).double(), times)
    # x = t^2, but for the first step, which is Euler's: its error stays and no other is added.
    torch.testing.assert_close(result, torch.full((3, 2), -(0.2**2)).double())


@pytest.mark.parametrize(("name", "calls"), [("euler", 10), ("heun", 19), ("multistep", 10)])
def test_the_field_is_never_asked_at_zero(name, calls) -> None:
    seen = []

    def field(x, t):
        seen.append(t.item())
        return x

    done: list[int] = []
    SAMPLERS[name](field, torch.ones(2, 2), even_times(10), done.append)
    assert len(seen) == calls
    assert min(seen) > 0
    assert done == list(range(1, 11))


GAUSS_MEAN, GAUSS_STD = torch.tensor([1.5, -0.5]), torch.tensor([0.5, 0.2])


def gaussian_velocity(x, t):
    """The exact velocity field whose data are normal with the mean and deviation above: E[noise - data | x_t]."""
    t = t.reshape(t.shape + (1,) * (x.ndim - t.ndim)).to(x)
    mean, var = GAUSS_MEAN.to(x), GAUSS_STD.to(x) ** 2
    spread = (1 - t) ** 2 * var + t**2
    return (t - (1 - t) * var) / spread * (x - (1 - t) * mean) - mean


@pytest.mark.parametrize(("name", "steps"), [("euler", 100), ("heun", 25), ("multistep", 40)])
def test_a_gaussian_is_reached(name, steps) -> None:
    times = schedule(FlowConfig(), steps, num_tokens=100)
    result = SAMPLERS[name](gaussian_velocity, normal((20_000, 2), 3, "gauss"), times)
    torch.testing.assert_close(result.mean(0), GAUSS_MEAN, atol=0.01, rtol=0)
    torch.testing.assert_close(result.std(0), GAUSS_STD, atol=0, rtol=0.04)


def test_second_order_beats_euler_at_equal_cost() -> None:
    noise = normal((500, 2), 4, "gauss").double()
    truth = GAUSS_MEAN + GAUSS_STD * noise  # the flow of a Gaussian is this map

    def error(name: str, steps: int) -> float:
        result = SAMPLERS[name](gaussian_velocity, noise, schedule(FlowConfig(), steps, 100))
        return (result - truth).abs().mean().item()

    assert error("multistep", 30) < error("euler", 30) / 4
    assert error("heun", 15) < error("euler", 30) / 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_token_follows_its_own_times(name) -> None:
    """Tokens with different schedules, pauses and late starts give what each gives alone."""
    columns = torch.tensor(
        [
            [1.0, 0.8, 0.6, 0.5, 0.2, 0.0],
            [1.0, 1.0, 0.7, 0.7, 0.1, 0.0],
            [0.5, 0.4, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ]
    ).double()
    x = normal((4, 2), 5, "tokens").double()
    together = SAMPLERS[name](gaussian_velocity, x, columns.T)
    for i in range(4):
        torch.testing.assert_close(together[i], SAMPLERS[name](gaussian_velocity, x[i : i + 1], columns[i])[0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_given_tokens_are_never_touched(name) -> None:
    x = normal((6, 3), 6, "given")
    given = torch.tensor([True, False, True, False, False, True])
    times = even_times(7).float()[:, None] * ~given

    def field(x, t):
        return torch.where(given[:, None], torch.nan, x + t[:, None])

    result = SAMPLERS[name](field, x, times)
    assert torch.equal(result[given], x[given])
    assert result.isfinite().all()
    assert not torch.isclose(result[~given], x[~given]).any(dim=1).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_state_is_kept_in_float32(name) -> None:
    result = SAMPLERS[name](lambda x, t: (x * 0 + 1).bfloat16(), torch.ones(3, 2).bfloat16(), even_times(1000).float())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.zeros(3, 2), atol=1e-4, rtol=0)


def test_sample_chooses_by_name() -> None:
    x = normal((4, 2), 7, "front")
    for name, sampler in SAMPLERS.items():
        expected = sampler(decay, x, even_times(5))
        assert torch.equal(sample(SamplerConfig(method=name, num_steps=5), decay, x, even_times(5)), expected)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SamplerConfig(num_steps=0)


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_euler_equals_diffusers(alpha) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=alpha)
    theirs.set_timesteps(sigmas=[1 - i / 8 for i in range(8)])
    times = schedule(FlowConfig(shift=ConstantShift(alpha=alpha)), 8, num_tokens=100)
    torch.testing.assert_close(times, theirs.sigmas)

    x = noise = normal((5, 3), 8, "diffusers")
    for t, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        x = theirs.step(driven(x, sigma), t, x).prev_sample
    torch.testing.assert_close(euler(driven, noise, times), x)


def test_dynamic_shift_equals_diffusers() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    theirs.set_timesteps(sigmas=[1 - i / 8 for i in range(8)], mu=0.5 + (1024 - 256) / (4096 - 256) * 0.65)
    flux = TokenShift(curve="exponential", low_alpha=math.exp(0.5), high_alpha=math.exp(1.15))
    torch.testing.assert_close(schedule(FlowConfig(shift=flux), 8, num_tokens=1024), theirs.sigmas)
