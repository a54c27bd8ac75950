"""How far a long video drifts: its last second against its first, fed chunk by chunk."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from genworld.ops.quality import RANGE

BINS = 64
"""Of each channel's histogram, over [-1, 1]."""
PLAIN = 1e-6
"""Added to gradient energies, so that plain frames can be compared; one grey level between neighbours has 6e-5."""


@dataclass(frozen=True)
class Drift:
    """The last second of a video against its first.

    Attributes:
        colour: how far colour values must move to make the one histogram the other, as a part of their range, the mean
            of the three channels; 0 is no drift, 1 from black to white.
        sharpness: `gradient_energy` of the last second over that of the first; 1 is no drift, below 1 is blurred.
    """

    colour: float
    sharpness: float

    def __str__(self) -> str:
        return f"colours moved by {self.colour:.3f} of their range, sharpness times {self.sharpness:.2f}"


class DriftMeter:
    """Measures `Drift` of a video of any length; keeps 193 numbers for each frame of a second, and no frames.

    Example:
        >>> meter = DriftMeter(fps=8.0)
        >>> for _ in range(4):
        ...     meter.update(torch.zeros(3, 12, 32, 32))
        >>> meter.compute().colour
        0.0
    """

    def __init__(self, fps: float) -> None:
        """Begin a video of `fps` frames per second; a second is that many frames, rounded, and at least one."""
        second = max(round(fps), 1)
        self._first: list[Tensor] = []
        self._last: deque[Tensor] = deque(maxlen=second)
        self._second = second

    def update(self, pixels: Float[Tensor, "3 n H W"]) -> None:
        """Add the next frames, in [-1, 1]."""
        numbers = torch.cat([histograms(pixels), gradient_energy(pixels)[:, None]], dim=1).cpu()
        self._first += [each.clone() for each in numbers[: self._second - len(self._first)]]
        self._last.extend(each.clone() for each in numbers[-self._second :])  # a view would keep all of the chunk

    def compute(self) -> Drift:
        """What was found so far; in a video shorter than two seconds the first and the last one overlap.

        Raises:
            ValueError: no frame came yet.
        """
        if not self._first:
            raise ValueError("drift of an empty video: add frames first")
        first, last = (torch.stack(list(part)).mean(dim=0) for part in (self._first, self._last))
        sharpness = (last[-1] + PLAIN) / (first[-1] + PLAIN)
        return Drift(histogram_distance(first[:-1], last[:-1]), sharpness.item())


def histograms(pixels: Float[Tensor, "3 n H W"]) -> Float[Tensor, "n channel_bins"]:
    """The histogram of every channel of every frame, each of which adds up to 1."""
    channels, count, height, width = pixels.shape
    bins = ((pixels.float().clamp(-1, 1) + 1) * (BINS / RANGE)).long().clamp_max(BINS - 1)
    bins = rearrange(bins, "c n h w -> n c (h w)")
    counts = torch.zeros(count, channels, BINS, device=pixels.device)
    counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=counts.dtype))
    return rearrange(counts / (height * width), "n c bins -> n (c bins)")


def histogram_distance(one: Float[Tensor, " channel_bins"], two: Float[Tensor, " channel_bins"]) -> float:
    """The earth mover's distance of two histograms: the mean gap between their cumulative sums, over all channels.

    `1 / (3 (BINS - 1)) sum_c sum_k |F_c(k) - G_c(k)|`, where F and G are cumulative. Unlike a distance bin by bin, a
    small change of brightness is a small distance.
    """
    gap = rearrange(one - two, "(c bins) -> c bins", bins=BINS).cumsum(dim=1).abs()
    return gap.sum(dim=1).mean().item() / (BINS - 1)


def gradient_energy(pixels: Float[Tensor, "3 n H W"]) -> Float[Tensor, " n"]:
    """How sharp each frame is: `mean (d_x p)^2 + mean (d_y p)^2`, d being the difference of neighbours."""
    across, down = pixels.float().diff(dim=3), pixels.float().diff(dim=2)
    return reduce(across.square(), "c n h w -> n", "mean") + reduce(down.square(), "c n h w -> n", "mean")
