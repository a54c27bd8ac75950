"""The held-out flow loss: bins of time, sums over their own units, and the bound of one who sees nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_generator import random_clip, tiny_generator

from genworld.eval.flow_loss import FlowLoss
from genworld.experiment import load_experiment, train
from genworld.flow.bins import NUM_BINS, bin_names, bin_times, blind_loss, shape_name, sums_by_bin
from genworld.train.log import draw_losses, read_losses
from genworld.train.state import mean_by_name
from genworld.types import ClipShape, Pack, Sample

SHORT, LONG = ClipShape(5, 32, 32, 8.0), ClipShape(17, 32, 32, 8.0)
SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke" / "text_to_video.yaml"


def test_one_time_in_each_bin_that_depends_on_seed_and_position_alone() -> None:
    times = torch.stack([bin_times(0, position) for position in range(200)])
    assert torch.equal((times * NUM_BINS).long(), torch.arange(NUM_BINS).expand(200, -1))
    assert torch.equal(bin_times(0, 7), times[7])
    assert not torch.equal(bin_times(1, 7), times[7])
    assert (times - (torch.arange(NUM_BINS) + 0.5) / NUM_BINS).mean().abs() < 0.01


def test_names_say_shape_and_time() -> None:
    assert bin_names(LONG) == [f"flow/17x32x32_8fps/t{t}" for t in ("0.1", "0.3", "0.5", "0.7", "0.9")]


def test_a_mean_has_its_own_units() -> None:
    """Two ranks, one of which saw the long shape twice and the other not at all."""
    losses = torch.tensor([[1.0] * NUM_BINS, [3.0] * NUM_BINS, [5.0] * NUM_BINS])
    shares = [sums_by_bin(losses, [LONG, SHORT, LONG], [10, 4, 30]), sums_by_bin(losses[:1] * 7, [SHORT], [4])]
    ranks = [
        {name: value.item() for name, value in sums.items()} | {f"{name}#units": n for name, n in units.items()}
        for sums, units in shares
    ]
    means = mean_by_name([ranks[0] | {"loss": 6.0}, ranks[1] | {"loss": 6.0}], 48.0)
    assert means["loss"] == 0.25
    for name in bin_names(LONG):
        assert means[name] == (10 * 1 + 30 * 5) / 40
    for name in bin_names(SHORT):
        assert means[name] == (4 * 3 + 4 * 7) / 8
    assert not any(name.endswith("units") for name in means)


def test_a_mean_of_nothing_is_left_out() -> None:
    """Such as names of found things, where none was found."""
    assert mean_by_name([{"named": 0.0, "named#units": 0, "loss": 2.0}], 4.0) == {"loss": 0.5}


@pytest.mark.parametrize("deviation", [1.0, 0.3])
@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 1.0])
def test_the_blind_bound_is_what_least_squares_leaves(t: float, deviation: float) -> None:
    chance = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 400_000, dtype=torch.float64, generator=chance) * torch.tensor([[deviation], [1.0]])
    seen, velocity = (1 - t) * x + t * noise, noise - x
    left = velocity - seen * (seen @ velocity) / (seen @ seen)
    expected = blind_loss(torch.tensor([t]), torch.tensor([deviation])).item()
    assert left.square().mean().item() == pytest.approx(expected, rel=0.01)


def test_the_metric_keeps_clips_and_shapes_apart() -> None:
    metric = FlowLoss([LONG, SHORT, LONG])
    times = torch.stack([bin_times(0, 0), bin_times(0, 1)])
    metric.update(torch.full((2, NUM_BINS), 2.0), times, LONG, [0, 1])
    metric.update(torch.full((1, NUM_BINS), 5.0), times[:1], SHORT, [2])
    means = metric.means()
    assert list(means) == [LONG, SHORT]
    torch.testing.assert_close(
        means[LONG], torch.stack([torch.full((5,), 2.0), blind_loss(times.flatten()).view(2, 5).mean(0).float()])
    )
    assert (means[SHORT][0] == 5).all()
    with pytest.raises(ValueError, match="expected clips of 17x32x32@8, 5x32x32@8, got 1x32x32@8"):
        metric.update(torch.ones(1, NUM_BINS), times[:1], ClipShape(1, 32, 32, 8.0), [3])


def clips(num: int, shape: ClipShape, first: int = 0) -> list[Sample]:
    size = (shape.height, shape.width)
    return [Sample(first + i, shape, "a red ball", random_clip(shape.num_frames, first + i, size)) for i in range(num)]


def test_a_clip_has_its_loss_whatever_it_is_packed_with() -> None:
    task = tiny_generator().task
    samples = clips(2, SHORT) + clips(2, LONG, 2)
    together = task.flow_losses(samples, seed=3)
    for item, row in zip(samples, together, strict=True):
        torch.testing.assert_close(task.flow_losses([item], seed=3)[0], row, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(task.flow_losses(samples, seed=4), together)


def test_a_network_that_says_nothing_has_the_loss_of_the_velocity_itself() -> None:
    """Mean of (noise - x)^2: 1 for the noise and the latents' own square."""
    task = tiny_generator().task
    for parameter in task.dit.parameters():
        torch.nn.init.zeros_(parameter)
    samples = clips(4, LONG)
    square = torch.stack(task.latents(samples)).square().mean().item()
    assert task.flow_losses(samples, seed=0).mean().item() == pytest.approx(1 + square, rel=0.05)


def test_validation_logs_bins_and_training_does_not() -> None:
    task = tiny_generator().task
    pack = Pack(tuple(clips(2, SHORT) + clips(1, LONG, 2)))
    output = task(pack, seed=0, step=0)
    alone = task.flow_losses(pack, seed=0)
    name = bin_names(LONG)[2]
    assert output.logs[name] / output.units[name] == pytest.approx(alone[2, 2].item(), rel=1e-4)
    assert output.units[name] == task.grid.num_tokens(LONG)
    name = bin_names(SHORT)[4]
    assert output.logs[name] / output.units[name] == pytest.approx(alone[:2, 4].mean().item(), rel=1e-4)
    assert not task.train()(pack, seed=0, step=0).logs


def test_a_run_writes_them_beside_its_loss(tmp_path: Path) -> None:
    shapes = "data.packing.shapes=[{size: [32, 32], frames: 5, fps: 8}, {size: [32, 32], frames: 9, fps: 8}]"
    settings = ["train.threads=1", "train.steps=2", "train.validate_every=2", "train.save_every=0", "data.num_clips=4"]
    train(load_experiment(SMOKE, [*settings, shapes, f"run={tmp_path}"]))
    rows = {name: value for _, name, value in read_losses(tmp_path / "log" / "losses.csv")}
    for shape in (SHORT, ClipShape(9, 32, 32, 8.0)):
        values = [rows[f"validation/{name}"] for name in bin_names(shape)]
        assert all(0.3 < value < 5 for value in values), shape_name(shape)
    assert {"validation/loss", "train/loss"} <= rows.keys()
    assert not any(name.startswith("train/flow") or "#" in name for name in rows)
    assert draw_losses(tmp_path / "log" / "losses.csv", tmp_path / "losses.png").stat().st_size > 1000
