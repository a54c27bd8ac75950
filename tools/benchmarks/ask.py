"""How many questions about a scene are answered in a second, one at a time and sixteen at once."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch

from genworld.models.scene_llm import SceneLLM
from genworld.ops.random import normal, uniform
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.types import PointSet, Turn

_POINTS, _WIDTH = 1024, 64
_TOKENS = 4  # an answer of a word or two, with its end
_ROUNDS, _TURNS = 5, 32


def run() -> list[dict]:
    """Answers of `_TOKENS` tokens by a model of the default config with fresh weights, all points of a scene given."""
    config = replace(ConverseConfig(), max_tokens=_TOKENS)
    torch.manual_seed(0)
    task = Converse(config, SceneLLM(config.model, _WIDTH)).eval()
    turns = [_turn(number) for number in range(_TURNS)]
    task.model.fit_tokenizer([turn.prompt for turn in turns])
    rates = {batch: _rate(task, turns, batch) for batch in (1, 16)}
    return [_row(batch, rates) for batch in rates]


def _turn(number: int) -> Turn:
    points = PointSet(
        normal((_POINTS, _WIDTH), "ask", number),
        6 * uniform((_POINTS, 3), "ask", number, "points"),
        uniform((_POINTS, 3), "ask", number, "colours"),
        (256 * uniform((_POINTS, 3), "ask", number, "voxels")).long(),
    )
    return Turn(number, f"scene {number}", points, (), "How many red chairs are there?", "", "count", str(number))


def _rate(task: Converse, turns: list[Turn], batch: int) -> float:
    """The median over rounds, after one that warms up."""
    rates = []
    for _ in range(_ROUNDS + 1):
        begin = time.perf_counter()
        task.answer(turns, batch)
        rates.append(len(turns) / (time.perf_counter() - begin))
    return statistics.median(rates[1:])


def _row(batch: int, rates: dict[int, float]) -> dict:
    """Sixteen at once must not be slower than one at a time."""
    return {
        "name": f"ask: batch {batch}",
        "ours": rates[batch],
        "reference": rates[1],
        "ratio": rates[batch] / rates[1],
        "unit": "answers/s",
        "target": ">= batch 1",
        "holds": rates[batch] >= rates[1],
    }
