"""Streaming: seconds per frame and peak memory of one and two minutes against those of ten seconds.

The smallest model, untrained, in a fresh process for each length; frames are written to an .mp4 as they come. Processor
seconds on one thread (those of the video encoder apart), so that it does not matter what else runs. All frames of the
longest video would take 169 MiB, a fifth of what the process does: were they kept, it would show.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from genworld.data.writer import VideoWriter
from genworld.experiment import build_task, load_experiment
from genworld.pipelines.stream import Shot, stream
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.text_to_video import TextToVideo
from tools.measuring import in_fresh_process, peak_memory, row

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
