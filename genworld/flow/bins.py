"""Bins of time in which the loss of rectified flow is told apart on held-out clips.

Times fall into `NUM_BINS` bins of equal width, and every clip is judged once in each, at a time and with noise that are
functions of (seed, position, bin). So two checkpoints differ by what they learned alone, and bins by their times alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.ops.random import uniform
from genworld.types import ClipShape

NUM_BINS = 5


def bin_times(seed: int, position: int) -> Float[Tensor, " bins"]:
    """A time in each bin, uniform within it; a function of the two alone."""
    return (torch.arange(NUM_BINS) + uniform((NUM_BINS,), seed, "flow time", position)) / NUM_BINS


def shape_name(shape: ClipShape) -> str:
    """Such as `flow/17x64x64_8fps`; of letters that TensorBoard takes."""
    return f"flow/{shape.num_frames}x{shape.height}x{shape.width}_{shape.fps:g}fps"


def bin_names(shape: ClipShape) -> list[str]:
    """Such as `flow/17x64x64_8fps/t0.1`, by the middle of each bin."""
    return [f"{shape_name(shape)}/t{(i + 0.5) / NUM_BINS:g}" for i in range(NUM_BINS)]


def sums_by_bin(
    losses: Float[Tensor, "n bins"], shapes: Sequence[ClipShape], units: Sequence[int]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Mean losses of clips as sums over their units, and how many units these are, by `bin_names`.

    Args:
        losses: of each clip in each bin, per unit.
        shapes: of the clips.
        units: of the clips, such as tokens.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for row, shape, num in zip(losses, shapes, units, strict=True):
        for name, value in zip(bin_names(shape), row, strict=True):
            sums[name] = sums.get(name, value.new_zeros(())) + num * value
            counts[name] = counts.get(name, 0) + num
    return sums, counts


def blind_loss(times: Float[Tensor, " n"], deviations: Float[Tensor, " C"] | float = 1.0) -> Float[Tensor, " n"]:
    """The least loss, at given times, of one who knows the mean and deviation of each channel and nothing of the clip.

    For values of deviation s and noise of deviation 1, what is left of `noise - x` once the best linear guess from
    `(1 - t) x + t noise` is taken away is s^2 / ((1 - t)^2 s^2 + t^2). A network that does worse has learned nothing.
    """
    t, variance = times[:, None].double(), torch.as_tensor(deviations, dtype=torch.float64).reshape(-1).square()
    return (variance / ((1 - t) ** 2 * variance + t**2)).mean(dim=1)
