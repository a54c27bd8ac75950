"""Large frames, one tile at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How to cut a large clip.

    `size` counts latent cells of a tile's own area; `frames` latent frames per chunk of the stream within a tile. A
    network of bounded reach gets all the context it needs around each tile, and the result equals the whole. For one
    of unbounded reach, tiles overlap by `overlap` cells on each side and are blended linearly there.
    """

    size: int = 32
    frames: int = 4
    overlap: int = 8

    def __post_init__(self) -> None:
        if self.size < 1 or self.frames < 1 or self.overlap < 0:
            raise ValueError(f"a tile needs size >= 1, frames >= 1 and overlap >= 0, got {self}")


@dataclass(frozen=True)
class _Span:
    """A tile along one axis, in cells: read [start, stop), weigh its results by `weight`."""

    start: int
    stop: int
    weight: Tensor


def tiled(
    function: Callable[[Tensor], Tensor],
    x: Float[Tensor, "B C T H W"],
    tiling: Tiling,
    cell_in: int,
    cell_out: int,
    halo: int | None,
) -> Float[Tensor, "B D U h w"]:
    """Apply `function` to tiles of `x` and join the results.

    Args:
        function: maps [B C T H W] to [B D U h w], `cell_in` pixels of H and W to `cell_out` pixels of h and w.
        x: the whole input.
        tiling: tile size and overlap, in cells.
        cell_in: input pixels per cell.
        cell_out: output pixels per cell.
        halo: cells beyond a tile that its result depends on; None: unknown, so overlap and blend.
    """
    rows = _spans(x.shape[3] // cell_in, tiling, halo, cell_out)
    columns = _spans(x.shape[4] // cell_in, tiling, halo, cell_out)
    joined: Tensor | None = None
    for row in rows:
        for column in columns:
            tile = x[..., row.start * cell_in : row.stop * cell_in, column.start * cell_in : column.stop * cell_in]
            result = function(tile)
            if joined is None:
                size = x.shape[3] // cell_in * cell_out, x.shape[4] // cell_in * cell_out
                joined = result.new_zeros(*result.shape[:3], *size)
            weight = torch.outer(row.weight, column.weight).to(result)
            part = joined[..., row.start * cell_out : row.stop * cell_out, :]
            part[..., column.start * cell_out : column.stop * cell_out].addcmul_(result, weight)
    assert joined is not None, "an empty frame has no tiles"
    return joined


def _spans(length: int, tiling: Tiling, halo: int | None, scale: int) -> list[_Span]:
    """Tiles of nearly equal size that cover `length` cells; their weights sum to one everywhere."""
    count = math.ceil(length / tiling.size)
    edges = [round(i * length / count) for i in range(count + 1)]
    margin = tiling.overlap if halo is None else halo
    # Ramps of neighbouring edges must not meet, or the weights would not sum to one.
    ramp = min(margin, length // count // 2) if halo is None else 0
    spans = []
    for low, high in pairwise(edges):
        start, stop = max(low - margin, 0), min(high + margin, length)
        centre = (torch.arange(start * scale, stop * scale) + 0.5) / scale
        rise = _ramp(centre, low, ramp) if low > 0 else torch.ones_like(centre)
        fall = 1.0 - _ramp(centre, high, ramp) if high < length else torch.ones_like(centre)
        spans.append(_Span(start, stop, rise * fall))
    return spans


def _ramp(x: Tensor, edge: int, half_width: int) -> Tensor:
    """0 before `edge`, 1 after it, linear within `half_width` cells of it."""
    if half_width == 0:
        return (x > edge).to(x.dtype)
    return ((x - edge) / (2 * half_width) + 0.5).clamp(0.0, 1.0)
