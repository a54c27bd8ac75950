import pytest
import torch

from genworld.flow.guidance import GuidanceConfig, guided
from genworld.flow.samplers import euler
from genworld.ops.random import normal


class Field:
    """A velocity that counts its calls."""

    def __init__(self, target: float) -> None:
        self.target, self.calls = target, 0

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x - self.target


def make(scale: float, interval=(0.0, 1.0)):
    cond, uncond = Field(2.0), Field(-1.0)
    config = GuidanceConfig(scale=scale, interval=interval)
    return cond, uncond, guided(config, cond, lambda x, t: (cond(x, t), uncond(x, t)))


def test_scale_one_is_no_guidance_and_costs_nothing() -> None:
    cond, uncond, velocity = make(1.0)
    x, times = normal((5, 2), 0, "x"), torch.linspace(1, 0, 6)
    assert torch.equal(euler(velocity, x, times), euler(cond, x, times))
    assert uncond.calls == 0


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_the_formula(scale) -> None:
    cond, uncond, velocity = make(scale)
    x, t = normal((5, 2), 0, "x"), torch.tensor(0.4)
    expected = uncond(x, t) + scale * (cond(x, t) - uncond(x, t))
    torch.testing.assert_close(velocity(x, t), expected)


def test_the_interval_is_honoured_and_costs_nothing_outside() -> None:
    _, uncond, velocity = make(3.0, interval=(0.2, 0.6))
    x = normal((5, 2), 0, "x")
    for t, inside in [(1.0, False), (0.7, False), (0.6, True), (0.4, True), (0.2, False), (0.1, False)]:
        before = uncond.calls
        result = velocity(x, torch.tensor(t))
        assert uncond.calls - before == int(inside)
        assert torch.equal(result, x - 2.0) is not inside


def test_tokens_are_guided_by_their_own_time() -> None:
    _, _, velocity = make(3.0, interval=(0.2, 0.6))
    x, t = normal((4, 2), 0, "x"), torch.tensor([0.9, 0.5, 0.0, 0.3])
    target = torch.tensor([2.0, 8.0, 2.0, 8.0])  # guided: -1 + 3 * (2 - -1)
    torch.testing.assert_close(velocity(x, t), x - target[:, None])


def test_given_tokens_do_not_ask_for_guidance() -> None:
    _, uncond, velocity = make(3.0, interval=(0.0, 0.8))
    velocity(normal((3, 2), 0, "x"), torch.tensor([0.0, 0.9, 0.9]))
    assert uncond.calls == 0


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="0 <= low < high <= 1"):
        GuidanceConfig(interval=(0.6, 0.2))
    with pytest.raises(ValueError, match="1 is no guidance"):
        GuidanceConfig(scale=-1)
