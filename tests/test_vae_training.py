"""The benchmark that trains two autoencoders side by side: what it compares is comparable, and both do train."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tools are no package that is installed

from genworld.train.optim import OptimConfig, build_optimizer
from genworld.types import ClipShape, Pack, Sample
from tools.benchmarks import vae_training as bench


def pack(size: int = 16) -> Pack:
    """Two clips of a square that moves."""
    samples = []
    for position in range(2):
        pixels = torch.full((3, 5, size, size), -0.5)
        for frame in range(5):
            pixels[position, frame, 4:12, frame : frame + 8] = 0.5
        samples.append(Sample(position, ClipShape(5, size, size, 8.0), "", pixels=pixels))
    return Pack(tuple(samples))


def test_pairs_are_equal_in_what_they_say() -> None:
    def sizes(pair: str, count) -> tuple[float, float]:
        jobs = (bench.Job(name, bench.PAIRS[pair], 0, 1.0) for name in ("ours", "Wan"))
        return tuple(map(count, jobs))

    ours, wan = sizes("flops", bench.count_flops)
    assert ours == pytest.approx(wan, rel=0.1)
    ours, wan = sizes("weights", lambda job: bench.count_weights(bench.build(job)[0].vae))
    assert ours == pytest.approx(wan, rel=0.05)


def test_both_have_the_same_strides_and_learn_with_all_their_weights() -> None:
    pair = bench.PAIRS["flops"]
    for name in ("ours", "Wan"):
        task, rate = bench.build(bench.Job(name, pair, 0, 1.0))
        assert (task.vae.time_stride, task.vae.space_stride, task.vae.latent_channels) == (4, 8, 24)
        losses, seen = [], set()
        optimizer = build_optimizer(task.networks(), OptimConfig(learning_rate=rate, weight_decay=0.0))
        for step in range(6):
            losses.append(task(pack(), 0, step).loss.item())
            bench.advance(task, [pack()], optimizer, step)
            seen |= {
                key
                for key, p in task.vae.named_parameters()
                if p in optimizer.state and optimizer.state[p]["exp_avg"].any()
            }
        assert losses[-1] < 0.95 * losses[0]
        assert seen == {key for key, _ in task.vae.named_parameters()}


def test_the_clock_stands_still_while_a_network_is_measured() -> None:
    watch = bench.Stopwatch()
    with watch.stopped():
        shown = watch.seconds
        torch.randn(300, 300) @ torch.randn(300, 300)
        assert watch.seconds == shown
    assert watch.seconds < shown + 1.0


def test_the_picture(tmp_path: Path) -> None:
    points = [bench.Point(0.0, 0, 20.0), bench.Point(1.0, 10, 30.0)]
    curves = {name: bench.Curve(1000, 2e4, 1e-3, points) for name in ("ours", "Wan")}
    bench.draw(curves, "equal FLOPs", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
