"""Adaptive layer norm with one noise level per token (adaLN-single, Chen et al. 2023, section 2.3).

Shifts, scales and gates depend on the level alone, so they are computed once for each *different* level of a pack and
spread over runs of tokens that share it. In training a run is a video, in streaming a frame; only when neighbouring
tokens differ does a run shrink to one token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LevelRuns:
    """A pack as R runs of equally many tokens with one level each.

    Attributes:
        index: which of the different levels each run has.
        length: tokens per run; R * length = L.
    """

    index: Int[Tensor, " R"]
    length: int

    def spread(self, values: Float[Tensor, "M D"]) -> Float[Tensor, "R 1 D"]:
        """The value of each run, ready to broadcast over its tokens."""
        return values.index_select(0, self.index)[:, None]

    def split(self, x: Float[Tensor, "L D"]) -> Float[Tensor, "R length D"]:
        """Tokens as runs."""
        return x.unflatten(0, (-1, self.length))


def find_runs(levels: Float[Tensor, " L"]) -> tuple[Float[Tensor, " M"], LevelRuns]:
    """The different levels of a pack, and the longest equal runs of tokens that share one.

    Needs the values, so it waits for the device: once per forward pass. On the meta device all levels count as equal.
    """
    if levels.is_meta:
        return levels[:1], LevelRuns(torch.zeros(1, dtype=torch.long, device=levels.device), len(levels))
    values, counts = torch.unique_consecutive(levels, return_counts=True)
    length = math.gcd(*counts.tolist())
    distinct, index = torch.unique(values, return_inverse=True)
    return distinct, LevelRuns(index.repeat_interleave(counts // length), length)


def modulate(
    x: Float[Tensor, "L D"], shift: Float[Tensor, "M D"], scale: Float[Tensor, "M D"], runs: LevelRuns
) -> Float[Tensor, "L D"]:
    """Return x * (1 + scale) + shift, with each token's own shift and scale."""
    return (runs.split(x) * runs.spread(1 + scale) + runs.spread(shift)).flatten(0, 1)


def add_gated(
    x: Float[Tensor, "L D"], update: Float[Tensor, "L D"], gate: Float[Tensor, "M D"], runs: LevelRuns
) -> Float[Tensor, "L D"]:
    """Return x + gate * update, with each token's own gate; keeps the type of x."""
    return x + (runs.split(update) * runs.spread(gate)).flatten(0, 1).to(x.dtype)
