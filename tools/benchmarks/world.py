"""How fast the procedural world makes clips: sampling, physics, caption and picture, on one core."""

from __future__ import annotations

import statistics
import time

import torch

from genworld.types import ClipShape
from genworld.world import sample_clip

_REFERENCE = 20.0  # clips per cpu-second asked for
_ROUNDS, _CLIPS = 5, 24


def run() -> list[dict]:
    """Clips of 17x64x64 with the default config per second of processor time, on one thread; median of rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates = [_round(first) for first in range(0, (_ROUNDS + 1) * _CLIPS, _CLIPS)][1:]  # the first one warms up
    finally:
        torch.set_num_threads(threads)
    ours = statistics.median(rates)
    return [
        {
            "name": "world",
            "ours": ours,
            "reference": _REFERENCE,
            "ratio": ours / _REFERENCE,
            "unit": "clips of 17x64x64 per cpu-second",
            "target": ">= 20",
            "holds": ours >= _REFERENCE,
        }
    ]


def _round(first: int) -> float:
    shape = ClipShape(17, 64, 64, 8.0)
    begin = time.process_time()
    for seed in range(first, first + _CLIPS):
        clip = sample_clip(seed, shape=shape).clip
        assert clip.shape == shape
        assert clip.text
    return _CLIPS / (time.process_time() - begin)
