"""Every video task: seconds and peak memory, against plain text to video of as many windows.

The smallest model, untrained, 17 frames of 64x64 a window, in a fresh process for each task. Processor seconds on one
thread, so that it does not matter what else runs. Beyond plain text to video a task costs the encoding of what is given
and the tokens of what is given away from the start.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from genworld.pipelines.keep import Keep
from genworld.pipelines.stream import Shot, stream
from genworld.pipelines.verbs import connect, edit, extend, inpaint, loop, outpaint
from genworld.pipelines.video import VideoGenerator
from genworld.types import Clip
from tools.benchmarks.stream import PROMPT, smallest_generator
from tools.measuring import in_fresh_process, peak_memory, row

PLAIN = "text to video"
REPEATS = 5
SECONDS, MEMORY = 2.0, 1.25
"""The most that a task may need of what text to video does."""

Action = Callable[[VideoGenerator, Clip], object]
ACTIONS: dict[str, tuple[int, Action]] = {
    PLAIN: (1, lambda make, clip: make(PROMPT)),
    "text to image": (1, lambda make, clip: make(PROMPT, frames=1)),
    "image to video": (1, lambda make, clip: make(PROMPT, keep=[Keep(clip.pixels[:, 0])])),
    "first and last frame": (
        1,
        lambda make, clip: make(PROMPT, keep=[Keep(clip.pixels[:, 0]), Keep(clip.pixels[:, 1], "end")]),
    ),
    "extend": (1, lambda make, clip: extend(make, PROMPT, clip, 12)),
    "extend backward": (1, lambda make, clip: extend(make, PROMPT, clip, 12, backward=True)),
    "connect": (1, lambda make, clip: connect(make, PROMPT, clip, clip, 7)),
    "loop": (2, lambda make, clip: loop(make, PROMPT, 17)),
    "edit": (1, lambda make, clip: edit(make, PROMPT, clip, 0.6)),
    "inpaint": (1, lambda make, clip: inpaint(make, PROMPT, clip, (16, 16, 32, 32))),
    "outpaint": (1, lambda make, clip: outpaint(make, PROMPT, Clip(clip.pixels[..., :48, :48], clip.fps), (64, 64))),
    "storyboard": (2, lambda make, clip: list(stream(make, [Shot(PROMPT, 17), Shot("a blue cube", 12)]))),
    "camera": (1, lambda make, clip: make(PROMPT, camera="orbit:+30deg")),
}
"""How many windows a task makes, and how."""


def run(names: Sequence[str] = tuple(ACTIONS)) -> Iterator[dict[str, Any]]:
    """Measure text to video, then each task."""
    seconds, memory = in_fresh_process(measure, PLAIN)
    for name in names:
        windows, _ = ACTIONS[name]
        mine, peak = (seconds, memory) if name == PLAIN else in_fresh_process(measure, name)
        yield row(f"tasks: {name}, seconds", mine, windows * seconds, "cpu-s", SECONDS)
        yield row(f"tasks: {name}, peak memory", peak, memory, "MiB", MEMORY)


def measure(name: str) -> tuple[float, float]:
    """Processor seconds of a task (median after one that warms up) and the peak memory of this process in MiB."""
    torch.set_num_threads(1)
    _, action = ACTIONS[name]
    generator = smallest_generator()
    clip = Clip(torch.rand(3, *generator.trained[:3], generator=torch.Generator().manual_seed(0)) * 2 - 1, 8.0)
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        action(generator, clip)
        times.append(time.process_time() - start)
    return statistics.median(times[1:]), peak_memory()
