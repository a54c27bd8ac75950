"""A scene lifted to points with features, and few points that stand for many."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genworld.ops.scene_codec import SceneCodec, tokens_in_text, tokens_to_text
from genworld.types import PointSet

_ROWS = re.compile(r"(?:<loc\d+>\s*)+")


@dataclass(frozen=True)
class LiftedScene:
    """What a model is told of a scene, and how its location tokens are read.

    Attributes:
        name: of the scene.
        points: of it.
        codec: between metres and location tokens.
    """

    name: str
    points: PointSet
    codec: SceneCodec

    def place_text(self, point: Float[Tensor, " 3"]) -> str:
        """A point in metres as location tokens; what lies beyond the codec's box is moved to its edge."""
        return tokens_to_text(self.codec.voxels(point.double()).tolist())

    def box_text(self, lower: Float[Tensor, " 3"], upper: Float[Tensor, " 3"]) -> str:
        """A box in metres as the location tokens of its two corners, cut off at the edge of the codec's box."""
        corners = self.codec.voxels(torch.stack([lower, upper]).double())
        return tokens_to_text([*corners.amin(dim=0).tolist(), *corners.amax(dim=0).tolist()])

    def boxes_in(self, text: str) -> list[Float[Tensor, "2 3"]]:
        """The boxes that a text names, lower and upper corner in metres: every six location tokens in a row are one.

        Tokens that stand for no cell, and what is left of a row that is no multiple of six, name none.
        """
        found = []
        for row in _ROWS.findall(text):
            numbers = tokens_in_text(row)
            for start in range(0, len(numbers) - 5, 6):
                six = numbers[start : start + 6]
                if max(six) < self.codec.cells:
                    found.append(torch.stack(self.codec.boxes(torch.tensor(six))).float())
        return found


def covering_points(places: Float[Tensor, "P D"], count: int) -> Int[Tensor, " k"]:
    """Indices of at most `count` places, so that none is far from one that was taken; in rising order.

    The farthest place from all taken before is taken next (Gonzalez 1985), from the one nearest to the middle on: what
    is small but stands apart is not lost, as it would be by chance. The places decide alone, not their order, up to
    ties.
    """
    if len(places) <= count:
        return torch.arange(len(places), device=places.device)
    first = int((places - places.mean(dim=0)).square().sum(dim=1).argmin())
    x = np.ascontiguousarray(places.detach().cpu().numpy().T)  # an axis after the other: sums run along rows
    taken, away = np.empty(count, dtype=np.int64), np.full(x.shape[1], np.inf, dtype=x.dtype)
    gaps, squares = np.empty_like(x), np.empty_like(away)
    for i in range(count):
        taken[i] = last = first if i == 0 else away.argmax()
        # NumPy, without new arrays: five times as fast as PyTorch's calls for so little.
        np.subtract(x, x[:, last, None], out=gaps)
        np.add.reduce(np.multiply(gaps, gaps, out=gaps), axis=0, out=squares)
        np.minimum(away, squares, out=away)
    return torch.from_numpy(np.sort(taken)).to(places.device)


def seen_from_above(
    points: Float[Tensor, "P 3"], colours: Float[Tensor, "P 3"], side: int = 128
) -> Float[Tensor, "3 side side"]:
    """A picture of points from above in [-1, 1], x to the right and y up, the highest point of each pixel in front."""
    low, high = points[:, :2].amin(dim=0), points[:, :2].amax(dim=0)
    scale = (side - 5) / (high - low).max().clamp(min=1e-6)
    place = ((points[:, :2] - low) * scale).long() + 1
    picture = points.new_ones(3, side, side)
    for index in points[:, 2].argsort().tolist():
        x, y = place[index].tolist()
        picture[:, side - 3 - y : side - y, x - 1 : x + 2] = colours[index, :, None, None] * 2 - 1
    return picture
