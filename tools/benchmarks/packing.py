"""Packing: unfilled tokens and rank balance on 10,000 clips of a wide mix, against next-fit packs and padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from genworld.data.packing import PackingConfig, PackOrder, ShapeConfig, cost
from genworld.data.shapes import uniforms
from genworld.types import ClipInfo, TokenGrid

NUM_CLIPS = 10_000
BUDGET = 32_768
RANKS = 8
PADDED_BATCH = 8
COST_RATIO = 1 / (6 * 1152)  # 4 d / 24 d^2 at width 1152
GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)
RATIOS = (9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9)
IMAGES = 0.3
RESOLUTIONS = {  # pixels, most frames that the budget holds, weight
    "256p": (256 * 256, 121, 0.62),
    "480p": (480 * 854, 77, 0.20),
    "720p": (720 * 1280, 33, 0.18),
}


def mix() -> tuple[list[ClipInfo], PackingConfig]:
    """10,000 clips and their shapes: 30 % images, 1 to 121 frames; about 7.1k tokens on average, 4.0k in the middle."""
    ratios = np.array(RATIOS)[(uniforms(np.arange(NUM_CLIPS), 0) * len(RATIOS)).astype(int)]
    infos = [
        ClipInfo("", 240, round(1080 * ratio**0.5), round(1080 / ratio**0.5), 24.0, str(i))
        for i, ratio in enumerate(ratios)
    ]
    shapes = []
    for pixels, most, weight in RESOLUTIONS.values():
        lengths = range(5, most + 1, 4)
        shapes.append(ShapeConfig(pixels=pixels, weight=IMAGES * weight))
        share = (1 - IMAGES) * weight / len(lengths)
        shapes += [ShapeConfig(pixels=pixels, frames=frames, fps=24.0, weight=share) for frames in lengths]
    return infos, PackingConfig(shapes=shapes, tokens_per_pack=BUDGET, packs_per_step=RANKS)


def balance(steps: Iterable[Sequence[Sequence[int]]]) -> float:
    """Mean over steps of mean / max cost of the ranks' packs."""
    costs = [[cost(pack, COST_RATIO) for pack in step] for step in steps]
    return float(np.mean([np.mean(step) / max(step) for step in costs]))


def next_fit(tokens: Sequence[int]) -> list[list[int]]:
    """Packs filled in stream order; a new one is begun when a clip does not fit."""
    packs: list[list[int]] = [[]]
    for length in tokens:
        if sum(packs[-1]) + length > BUDGET:
            packs.append([])
        packs[-1].append(length)
    return packs


def padded(tokens: Sequence[int]) -> float:
    """Part of the tokens that is padding when batches of 8 are padded to their longest."""
    batches = np.array(tokens[: len(tokens) // PADDED_BATCH * PADDED_BATCH]).reshape(-1, PADDED_BATCH)
    return float(1 - batches.sum() / (batches.max(axis=1) * PADDED_BATCH).sum())


def run() -> list[dict[str, Any]]:
    """Pack the mix for about an epoch, ours and the references."""
    infos, config = mix()
    order = PackOrder(infos, GRID, config, seed=0, cost_ratio=COST_RATIO)
    steps: list[list[list[int]]] = []
    while order.position(len(steps)) < NUM_CLIPS:  # whole windows, until every clip has come once
        steps.append([[GRID.num_tokens(pick.shape) for pick in pack] for pack in order.step(len(steps))])
    ours = [pack for step in steps for pack in step]
    stream = order.draw(np.arange(sum(map(len, ours)))).tokens.tolist()
    reference = next_fit(stream)
    grouped = [reference[i : i + RANKS] for i in range(0, len(reference) - RANKS + 1, RANKS)]

    def result(name: str, values: tuple[float, float], unit: str, target: str, holds: bool) -> dict[str, Any]:
        ratio = values[0] / values[1] if values[1] else float("inf")
        return {
            "name": f"packing: {name}",
            "ours": values[0],
            "reference": values[1],
            "ratio": ratio,
            "unit": unit,
            "target": target,
            "holds": holds,
        }

    empty = 1 - sum(map(sum, ours)) / (BUDGET * len(ours))
    reference_empty = 1 - sum(map(sum, reference)) / (BUDGET * len(reference))
    even, reference_even = balance(steps), balance(grouped)
    note = f"mix of {np.mean(stream):.0f} tokens on average, median {np.median(stream):.0f}"
    return [
        result("unfilled tokens (next-fit)", (empty, reference_empty), f"fraction; {note}", "<= 0.015", empty <= 0.015),
        result(
            "unfilled tokens (padded batches of 8)", (empty, padded(stream)), "fraction", "<= 0.015", empty <= 0.015
        ),
        result("cost efficiency, 8 ranks (next-fit)", (even, reference_even), "mean / max", ">= 0.99", even >= 0.99),
    ]


if __name__ == "__main__":
    for entry in run():
        print(entry)
