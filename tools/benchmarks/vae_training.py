"""Our autoencoder and Wan's trained side by side on the world for the same time: PSNR on held-out clips.

    python -m tools.benchmarks.vae_training --pair flops --seconds 600 --out out/vae_training

Two processes of one core each start together and see the same clips in the same order, with the same losses (L1 and a
very small divergence), the same optimiser and schedule, in bfloat16. The clock stops while a network is measured; what
ours does before its first step (fitting its linear path) counts. Wan is `diffusers.AutoencoderKLWan` as it comes, by
its public `encode` and `decode`, with latents of the same strides and channels as ours. Writes the curves as JSON and
as a picture. By `tools/bench.py` the first two pairs are run for ten minutes each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genworld.data.loader import Loader, WorldData, build_source, clip_infos
from genworld.data.packing import PackOrder
from genworld.experiment import load_experiment
from genworld.models.vae import CausalVAEConfig, DiffusersVAE, VideoVAE, flops_per_pixel
from genworld.ops.quality import psnr
from genworld.tasks.autoencode import Autoencode, AutoencodeConfig
from genworld.train.optim import OptimConfig, ScheduleConfig, build_optimizer, set_learning_rate
from genworld.types import ClipShape, Pack, Pick

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "vae" / "world.yaml"
SECONDS = 600.0
MARKS = 10  # measurements on the way, at equal distances in time
HELD_OUT = 50
CLIPS_PER_STEP = 4
SEED = 0
SCHEDULE = ScheduleConfig(kind="cosine", warmup_steps=20)


@dataclass(frozen=True)
class Pair:
    """Two networks to compare: ours as `configs/vae/world.yaml` has it (or at its default size), and Wan's.

    Attributes:
        what: what is equal about them.
        base_dim: Wan's width; its default is 96.
        rate: Wan's learning rate; ours has that of the YAML.
        default: whether ours has its default size.
    """

    what: str
    base_dim: int
    rate: float
    default: bool = False


# Wan's rates: in 100 steps its network of equal FLOPs came to 18.50, 18.60 and 18.64 dB at 5e-4, 2e-3 and 4e-3 (eight
# held-out clips), so hardly any of it is the rate. The other two were not compared; `--rate` tries another.
PAIRS = {
    "flops": Pair("equal FLOPs", base_dim=6, rate=2e-3),
    "weights": Pair("equal weights", base_dim=16, rate=1e-3),
    "default": Pair("default widths", base_dim=96, rate=2e-4, default=True),
}


@dataclass(frozen=True)
class Job:
    """One network's training."""

    name: str
    pair: Pair
    core: int
    seconds: float

    @property
    def is_ours(self) -> bool:
        """Whose network it is."""
        return self.name == "ours"


@dataclass(frozen=True)
class Point:
    """Where a network is after some seconds of training."""

    seconds: float
    steps: int
    psnr: float


@dataclass(frozen=True)
class Curve:
    """How a network got on, and what it is."""

    weights: int
    flops_per_pixel: float
    learning_rate: float
    points: list[Point]


def run() -> list[dict]:
    """Both pairs that two cores can train to something in ten minutes."""
    return [compare(name, PAIRS[name], SECONDS, Path("out") / "vae_training") for name in ("flops", "weights")]


def compare(name: str, pair: Pair, seconds: float, out: Path) -> dict:
    """Train both networks of a pair at the same time; write `<name>.json` and `<name>.png` into the folder `out`."""
    context = multiprocessing.get_context("spawn")
    jobs = [Job(whose, pair, core, seconds) for core, whose in enumerate(("ours", "Wan"))]
    barrier = context.Barrier(len(jobs), timeout=300)
    with ProcessPoolExecutor(len(jobs), context, initializer=_meet, initargs=(barrier,)) as pool:
        curves = dict(zip((job.name for job in jobs), pool.map(train, jobs), strict=True))
    out.mkdir(parents=True, exist_ok=True)
    record = {"pair": pair.what, "seconds": seconds, "held_out": HELD_OUT, "clips_per_step": CLIPS_PER_STEP}
    record |= {"curves": {whose: asdict(curve) for whose, curve in curves.items()}}
    (out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(curves, pair.what, out / f"{name}.png")
    ours, reference = (curves[whose].points[-1].psnr for whose in ("ours", "Wan"))
    return {
        "name": f"vae_training: {pair.what}, {seconds:g} s",
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "unit": f"dB on {HELD_OUT} held-out clips",
        "target": ">= 1",
        "holds": ours >= reference,
    }


def train(job: Job) -> Curve:
    """Train one network in this process, on one core, from the moment that the other is ready too."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[job.core % len(cores)]})
    task, rate = build(job)
    data, interval = world_data(), job.seconds / MARKS
    source = build_source(data)
    order = PackOrder(clip_infos(source), task.grid, data.packing, SEED)
    held_out = list(read_held_out(data))
    _started.wait()
    watch = Stopwatch()
    picks = (pick for number in itertools.count() for pack in order.step(number) for pick in pack)
    task.prepare(source, list(itertools.islice(picks, task.prepare_clips)))
    optimizer = build_optimizer(task.networks(), OptimConfig(learning_rate=rate, weight_decay=0.0))
    points: list[Point] = []
    next_mark = 0.0
    for step, packs in enumerate(Loader.for_rank(source, order, data, 0, 1).steps()):
        if watch.seconds >= next_mark:
            with watch.stopped():
                points.append(Point(watch.seconds, step, measure(task.vae, held_out)))
            if watch.seconds >= job.seconds:
                return Curve(count_weights(task.vae), count_flops(job), rate, points)
            next_mark = min((watch.seconds // interval + 1) * interval, job.seconds)
        set_learning_rate(optimizer, rate * SCHEDULE.factor(step, watch.seconds / job.seconds))
        advance(task, packs, optimizer, step)
    raise AssertionError("the order of clips has no end")


def build(job: Job) -> tuple[Autoencode, float]:
    """The task of training one of the networks, and its learning rate."""
    torch.manual_seed(SEED)
    experiment = load_experiment(CONFIG)
    config = AutoencodeConfig(vae=our_config(job.pair), l1_weight=1.0, mse_weight=0.0, kl_weight=1e-6)
    task = Autoencode(config)
    if not job.is_ours:
        task.vae = build_wan(job.pair)
    return task, experiment.train.optim.learning_rate if job.is_ours else job.pair.rate


def our_config(pair: Pair) -> CausalVAEConfig:
    """The sizes of our network."""
    task = load_experiment(CONFIG).task
    assert isinstance(task, AutoencodeConfig)
    assert isinstance(task.vae, CausalVAEConfig)
    return CausalVAEConfig() if pair.default else task.vae


def build_wan(pair: Pair) -> DiffusersVAE:
    """The reference, with as many latent channels as ours, in the memory layout that is fastest for it on a CPU."""
    from diffusers import AutoencoderKLWan

    channels = our_config(pair).latent_channels
    network: Any = AutoencoderKLWan(
        base_dim=pair.base_dim, z_dim=channels, latents_mean=[0.0] * channels, latents_std=[1.0] * channels
    )
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    return DiffusersVAE(network)


def world_data() -> WorldData:
    """The clips of the YAML, all clips of a step in one pack."""
    data = load_experiment(CONFIG).data
    assert isinstance(data, WorldData)
    tokens = data.packing.tokens_per_pack * data.packing.packs_per_step
    cache = ROOT / data.cache if data.cache else None
    return replace(data, cache=cache, packing=replace(data.packing, tokens_per_pack=tokens, packs_per_step=1))


def read_held_out(data: WorldData) -> Iterator[Float[Tensor, "1 3 F H W"]]:
    """Clips that nobody trains on."""
    source, (shape,) = build_source(data, "validation"), data.packing.shapes
    assert shape.size is not None
    assert shape.fps is not None
    for index in range(HELD_OUT):
        pick = Pick(index, index, ClipShape(shape.frames, *shape.size, shape.fps), 0.0)
        yield source.read(pick).need_pixels()[None]


def advance(task: Autoencode, packs: Sequence[Pack], optimizer: torch.optim.Optimizer, step: int) -> None:
    """One optimiser step."""
    units = sum(map(task.units, packs))
    for pack in packs:
        with torch.autocast("cpu", torch.bfloat16):
            loss = task(pack, SEED, step).loss / units
        loss.backward()
    nn.utils.clip_grad_norm_(task.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def measure(vae: VideoVAE, clips: Sequence[Float[Tensor, "1 3 F H W"]]) -> float:
    """Mean PSNR of reconstructions from mean latents."""
    with torch.autocast("cpu", torch.bfloat16):
        return sum(psnr(x, vae.decode(vae.encode(x).mean).clamp(-1.0, 1.0)).item() for x in clips) / len(clips)


def count_weights(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(job: Job) -> float:
    """Operations of encoding and decoding per pixel of a clip of 17x64x64."""
    with torch.device("meta"):
        return sum(flops_per_pixel(build(job)[0].vae, 17, 64))


def draw(curves: Mapping[str, Curve], title: str, picture: Path) -> None:
    """PSNR against seconds of training."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, curve in curves.items():
        label = f"{name}: {curve.weights / 1e6:.2f} M weights, {curve.flops_per_pixel / 1e3:.0f} kFLOP/pixel"
        axes.plot([p.seconds for p in curve.points], [p.psnr for p in curve.points], marker=".", label=label)
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("seconds of training on one core")
    axes.set_ylabel(f"PSNR of {HELD_OUT} held-out clips, dB")
    axes.legend(fontsize="small")
    figure.savefig(picture, dpi=110)


class Stopwatch:
    """Seconds since it was made, less those it was stopped for."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()
        self._stopped_at: float | None = None

    @property
    def seconds(self) -> float:
        """What it shows."""
        return (self._stopped_at or time.perf_counter()) - self._zero

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stands still for the length of a `with` block."""
        self._stopped_at = time.perf_counter()
        yield
        self._zero += time.perf_counter() - self._stopped_at
        self._stopped_at = None


_started: Barrier


def _meet(barrier: Barrier) -> None:
    """Give a new process what both wait for; a barrier can only be inherited."""
    global _started
    _started = barrier


def main() -> None:
    """Compare one pair and print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=PAIRS, default="flops", help="which networks (flops)")
    parser.add_argument("--rate", type=float, help="another learning rate for Wan, to see whether it would do better")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of training, each (600)")
    parser.add_argument("--out", type=Path, default=Path("out") / "vae_training", help="folder for JSON and picture")
    args = parser.parse_args()
    pair = replace(PAIRS[args.pair], rate=args.rate or PAIRS[args.pair].rate)
    print(json.dumps(compare(args.pair, pair, args.seconds, args.out), indent=2))


if __name__ == "__main__":
    main()
