"""Metrics: the Fréchet distance against scipy's sqrtm, and what it takes to measure 256 videos of the world.

- The distance of 2,048 features of width 400 from their moments, and of 256 of width 1,408 (fewer than dimensions) from
  the features themselves, against `scipy.linalg.sqrtm` of the product of the covariances. Both sides in turns, one
  thread, processor seconds; the values must agree within 1e-6.
- 256 videos of 17x64x64 end to end, two ways in one fresh process: from .mp4 files (and 256 real ones to compare with)
  to a written card with CLIP score, frame consistency and Fréchet distance of the encoder that comes with genworld,
  intervals included; and from the search for cases to the scores, ceilings and floors of the world benchmark. Rendering
  and writing the files, and sampling (which is the model's time), are outside. Processor seconds over both cores.
- Peak memory of the same with 256 against 64 videos.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import scipy.linalg
import torch
from torch import Tensor

from genworld.eval.frechet import covariance_of, frechet_distance, low_rank_frechet_distance, mean_of, moments_of
from genworld.ops.random import generator
from genworld.types import ClipShape
from tools.benchmarks.stream import in_fresh_process, row

ROUNDS = 5
FASTER, SECONDS, CORES, MEMORY = 3.0, 180.0, 2, 1.10
NUM, FEW = 256, 64
SCENES = 32
"""Different videos; those beyond are the same in other light, so that rendering is not what is measured."""
BATCH = 8
SHAPE = ClipShape(17, 64, 64, 8.0)


def run(num: int = NUM, few: int = FEW) -> Iterator[dict[str, Any]]:
    """Distances, then evaluations."""
    yield from distances()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), num)
        card, bench, memory = in_fresh_process(measure, folder, num)
        *_, reference = in_fresh_process(measure, folder, few)
    parts = f"files to card {card / CORES:.0f} s, world benchmark {bench / CORES:.0f} s"
    name = f"metrics: {num} videos of 17x64x64 end to end ({parts})"
    wall = row(name, (card + bench) / CORES, SECONDS, "s on two cores", 1.0)
    yield {**wall, "reference": None, "ratio": None, "target": f"<= {SECONDS:g} s"}
    yield row(f"metrics: peak memory, {num} against {few} videos", memory, reference, "MiB", MEMORY)


def distances() -> Iterator[dict[str, Any]]:
    """Both ways of ours against sqrtm."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one, two = features(2048, 400, 0), features(2048, 400, 1)
    moments = [(mean_of(m), covariance_of(m, "biased")) for m in (moments_of(one), moments_of(two))]
    yield compare("metrics: Fréchet, d 400, 2,048 videos", lambda: frechet_distance(*moments[0], *moments[1]), moments)
    one, two = features(256, 1408, 2), features(256, 1408, 3)
    moments = [(mean_of(m), covariance_of(m, "biased")) for m in (moments_of(one), moments_of(two))]
    ours = lambda: low_rank_frechet_distance(one, two, "biased")  # noqa: E731 - named to be short
    yield compare("metrics: Fréchet, d 1,408, 256 videos", ours, moments, rounds=1)
    torch.set_num_threads(threads)


def features(num: int, width: int, seed: int) -> Tensor:
    """Correlated, as those of networks are."""
    chance = generator("metrics benchmark", seed)
    mix = torch.randn(width, width, generator=chance, dtype=torch.float64) / width**0.5
    return torch.randn(num, width, generator=chance, dtype=torch.float64) @ mix + 0.1 * seed


def compare(
    name: str, ours: Callable[[], Tensor], moments: Sequence[tuple[Tensor, Tensor]], rounds: int = ROUNDS
) -> dict[str, Any]:
    """Times of both in turns, and whether they agree."""
    (mean_a, cov_a), (mean_b, cov_b) = moments

    def reference() -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the root of a singular matrix may not exist
            root = scipy.linalg.sqrtm((cov_a @ cov_b).numpy())
        cross = torch.from_numpy(root.real).trace()
        return (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross

    times = [(_seconds(ours), _seconds(reference)) for _ in range(rounds)]
    apart = abs(float(ours() / reference()) - 1)
    ratio = statistics.median(theirs / mine for mine, theirs in times)
    return {
        "name": f"{name} ({apart:.0e} apart)",
        "ours": statistics.median(mine for mine, _ in times),
        "reference": statistics.median(theirs for _, theirs in times),
        "ratio": ratio,
        "unit": "cpu-s",
        "target": f">= {FASTER:g}, within 1e-6",
        "holds": ratio >= FASTER and apart <= 1e-6,
    }


def _seconds(work: Callable[[], Tensor]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def write(folder: Path, num: int) -> None:
    """Videos of the world with their captions as files: real ones, and others in their place."""
    from genworld.data.writer import write_video
    from genworld.world import WorldConfig, sample_clip

    config = WorldConfig(max_objects=1, sizes=("large",), cameras=("stand",), occluders=0.0)
    clips = [sample_clip(seed, config, SHAPE).clip for seed in range(SCENES)]
    for i in range(num):
        clip = clips[i % SCENES]
        real = ((clip.pixels + 1) * (1 - i // SCENES / 40)) - 1
        for side, pixels in (("real", real), ("made", real.roll(1, dims=-1))):
            write_video(folder / side / f"{i:03}.mp4", pixels, clip.fps)
            (folder / side / f"{i:03}.txt").write_text(clip.text)


def measure(folder: str, num: int) -> tuple[float, float, float]:
    """Processor seconds from files to a card and of the world benchmark, and the peak memory of this process in MiB."""
    from genworld.eval.worldbench_cases import cases
    from genworld.pipelines.benchmark import Court
    from genworld.pipelines.card import write_card
    from genworld.pipelines.catalogue import Options
    from genworld.pipelines.evaluation_videos import evaluate_videos
    from tools.benchmarks.stream import peak_memory

    root, start = Path(folder), time.process_time()
    options = Options(metrics=("clip_score", "fd"), num=num, batch=BATCH, of_world=True)
    evaluation = evaluate_videos(root / "made", options, real_folder=root / "real")
    write_card(evaluation, root / f"card-{num}", {"commit": "", "date": ""})
    between = time.process_time()
    court = Court("single", cases("single", num), ("prompt", "frames", "camera"))
    for first in range(0, num, BATCH):
        positions = range(first, min(first + BATCH, num))
        part = [court.cases[i].afresh() for i in positions]
        court.judge(positions, part, [case.pixels.roll(1, dims=-1) for case in part], [case.pixels for case in part])
    court.result()
    return between - start, time.process_time() - between, peak_memory()
