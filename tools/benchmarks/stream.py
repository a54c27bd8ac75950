"""Streaming: seconds per frame and peak memory of one and two minutes against those of ten seconds.

The smallest model, untrained, in a fresh process for each length; frames are written to an .mp4 as they come. Processor
seconds on one thread (those of the video encoder apart), so that it does not matter what else runs. All frames of the
longest video would take 169 MiB, a fifth of what the process does: were they kept, it would show.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from genworld.data.writer import VideoWriter
from genworld.experiment import build_task, load_experiment
from genworld.pipelines.stream import Shot, stream
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.text_to_video import TextToVideo

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke" / "text_to_video.yaml"
PROMPT = "a red ball rolls to the left"
LENGTHS = ((80, 8.0), (480, 8.0), (3600, 30.0))
"""Frames and rates: ten seconds, one minute, two minutes."""
MEMORY, SECONDS = 1.10, 1.15
"""The most that a long video may need of what the first of `LENGTHS` does, per frame for seconds."""


def run(lengths: Sequence[tuple[int, float]] = LENGTHS) -> Iterator[dict[str, Any]]:
    """Stream videos of several lengths; the first is the reference of the others."""
    seconds, memory = in_fresh_process(measure, *lengths[0])
    for frames, fps in lengths[1:]:
        mine, peak = in_fresh_process(measure, frames, fps)
        name = f"stream: {frames} frames at {fps:g} fps"
        yield row(f"{name}, seconds a frame", mine, seconds, "cpu-s", SECONDS)
        yield row(f"{name}, peak memory", peak, memory, "MiB", MEMORY)


def measure(frames: int, fps: float) -> tuple[float, float]:
    """Processor seconds for each frame (the median of the windows) and the peak memory of this process in MiB."""
    torch.set_num_threads(1)
    generator = smallest_generator()
    for _ in stream(generator, [Shot(PROMPT, generator.trained.num_frames)], fps=fps):
        pass  # the first window warms up
    made, times = 0, []
    with tempfile.TemporaryDirectory() as folder, VideoWriter(Path(folder) / "stream.mp4", fps) as writer:
        start = time.process_time()
        for chunk in stream(generator, [Shot(PROMPT, frames)], fps=fps):
            writer.append(chunk)
            now = time.process_time()
            times.append((now - start) / chunk.shape[1])
            made, start = made + chunk.shape[1], now
    assert made == frames, f"made {made} of {frames} frames"
    return statistics.median(times), peak_memory()


def smallest_generator() -> VideoGenerator:
    """The model of the smoke config at 17 frames of 64x64, untrained, with a camera."""
    sample = "task.sample={size: [64, 64], frames: 17, fps: 8, sampler: {num_steps: 4}}"
    experiment = load_experiment(SMOKE, [sample, "task.dit.camera=true"])
    task = build_task(experiment).eval()
    assert isinstance(task, TextToVideo)
    task.text.fit([PROMPT])
    return VideoGenerator(experiment, task)


def in_fresh_process(function: Callable[..., tuple[float, float]], *args: Any) -> tuple[float, float]:
    """Call a function where nothing was allocated before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def peak_memory() -> float:
    """The most memory that this process has had so far, in MiB. Linux only."""
    # getrusage would count the memory of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def row(name: str, ours: float, reference: float, unit: str, most: float) -> dict[str, Any]:
    """A line of the table that holds when ours is at most `most` times the reference."""
    ratio = ours / reference
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "unit": unit,
        "target": f"<= {most:.2f}",
        "holds": ratio <= most,
    }
