"""How fast furnished floors are made: drawing, views and questions, on one core."""

from __future__ import annotations

import statistics
import time

import torch

from genworld.world.rooms import Floor, sample_floor
from genworld.world.rooms.language import questions

# Asked for, per cpu-second: views of 128x128; floors and questions so many that drawing them costs less than viewing.
_VIEWS, _DRAWN, _ASKED = 30.0, 4.0, 150.0
_ROUNDS, _FLOORS = 3, 8


def run() -> list[dict]:
    """Per second of processor time, on one thread; medians of rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds = [_round(first) for first in range(0, (_ROUNDS + 1) * _FLOORS, _FLOORS)][1:]  # the first one warms up
    finally:
        torch.set_num_threads(threads)
    floors, views, asked = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    return [
        _row("views", views, _VIEWS, "views of 128x128 with depth per cpu-second"),
        _row("floors", floors, _DRAWN, "floors drawn per cpu-second"),
        _row("questions", asked, _ASKED, "questions per cpu-second"),
    ]


def _row(name: str, ours: float, reference: float, unit: str) -> dict:
    return {
        "name": f"rooms: {name}",
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "unit": unit,
        "target": f">= {reference:g}",
        "holds": ours >= reference,
    }


def _round(first: int) -> tuple[float, float, float]:
    begin = time.process_time()
    floors = [sample_floor(seed) for seed in range(first, first + _FLOORS)]
    drawn = time.process_time()
    views = sum(_views(floor) for floor in floors)
    seen = time.process_time()
    asked = sum(len(questions(floor)) for floor in floors)
    return len(floors) / (drawn - begin), views / (seen - drawn), asked / (time.process_time() - seen)


def _views(floor: Floor) -> int:
    pixels, depth = floor.render()
    assert len(pixels) == len(depth) == len(floor.poses)
    return len(pixels)
