"""Scenes of different sizes in one batch: padded, with a mask that says which points are real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genworld.types import PointSet

_MIX = (-7046029254386353131, -4658895280553007687, -7723592293110705685)
"""Odd 64-bit numbers (of splitmix64) that spread the bits of a position."""


@dataclass(frozen=True)
class PointBatch:
    """Scenes as a connector takes them; see `PointSet` for what each holds.

    Attributes:
        features: of each point, float32; rows of padding are 0.
        points: metres, scene axes.
        voxels: cells of each scene's codec.
        colours: in [0, 1].
        keep: which points are real.
    """

    features: Float[Tensor, "B P D"]
    points: Float[Tensor, "B P 3"]
    voxels: Int[Tensor, "B P 3"]
    colours: Float[Tensor, "B P 3"]
    keep: Bool[Tensor, "B P"]

    @classmethod
    def stack(cls, scenes: Sequence[PointSet]) -> Self:
        """Pad scenes to the largest of them.

        Raises:
            ValueError: there is no scene, one holds no points, or features have different widths.
        """
        _check(scenes)
        lengths = torch.tensor([len(scene) for scene in scenes], device=scenes[0].points.device)
        features, points, colours = (
            pad_sequence([getattr(scene, name).float() for scene in scenes], batch_first=True)
            for name in ("features", "points", "colours")
        )
        voxels = pad_sequence([scene.voxels.long() for scene in scenes], batch_first=True)
        keep = torch.arange(points.shape[1], device=lengths.device) < lengths[:, None]
        return cls(features, points, voxels, colours, keep)

    def middles(self) -> Float[Tensor, "B 3"]:
        """Of each scene, the middle of the box around its points, metres."""
        infinite = self.points.new_tensor(torch.inf)
        real = self.keep[..., None]
        lower = torch.where(real, self.points, infinite).amin(dim=1)
        upper = torch.where(real, self.points, -infinite).amax(dim=1)
        return (lower + upper) / 2

    def cells_at(self, places: Float[Tensor, "B Q 3"]) -> Float[Tensor, "B Q 3"]:
        """Cells, with fractions, of the scene's codec at places in metres.

        The codec itself is not here; its scale and shift are fitted to the points and their cells, axis by axis. That
        is exact to a small part of a cell; along an axis without extent, everything is in the cell of the points.
        """
        weights = (self.keep / self.keep.sum(dim=1, keepdim=True))[..., None]
        means, cells = (weights * self.points).sum(dim=1), (weights * (self.voxels + 0.5)).sum(dim=1)
        spread = self.points - means[:, None]
        slopes = (weights * spread * self.voxels).sum(dim=1) / (weights * spread.square()).sum(dim=1).clamp(min=1e-6)
        return cells[:, None] + slopes[:, None] * (places - means[:, None])


def thin(scene: PointSet, limit: int) -> PointSet:
    """At most `limit` points of a scene, evenly spread over all of them.

    Which ones is a function of their positions and colours alone: the same ones are taken every time, in whatever order
    they come and whatever shares their batch. (3D-LLM draws 5,000 anew each time, in evaluation too.) Those that stay
    keep their order.
    """
    if len(scene) <= limit:
        return scene
    bits = torch.cat([scene.points, scene.colours], dim=-1).float().contiguous().view(torch.int32).long()
    mixed = torch.zeros(len(scene), dtype=torch.int64, device=bits.device)
    for column in bits.unbind(dim=-1):
        mixed = (mixed ^ column) * _MIX[0]
        mixed = (mixed ^ (mixed >> 29)) * _MIX[1]
        mixed = (mixed ^ (mixed >> 32)) * _MIX[2]
    chosen = (mixed ^ (mixed >> 31)).sort(stable=True).indices[:limit].sort().values
    return scene.map(lambda x: x[chosen])


def check_cells(batch: PointBatch, cells: int) -> None:
    """Refuse points that lie outside their codec, or in one with more cells than a part knows.

    Raises:
        ValueError: see above.
    """
    lowest, highest = (int(x) for x in batch.voxels.aminmax())
    if lowest < 0 or highest >= cells:
        raise ValueError(
            f"points lie in cells {lowest} to {highest} of their codec, but these positions know cells 0 to "
            f"{cells - 1}: use a codec that holds the whole scene, with {cells} cells along an axis"
        )


def _check(scenes: Sequence[PointSet]) -> None:
    if not scenes:
        raise ValueError("a batch needs at least one scene, got none")
    for number, scene in enumerate(scenes):
        if not len(scene):
            raise ValueError(f"scene {number} of {len(scenes)} holds no points: there is nothing to be asked about it")
        rows = {name: len(getattr(scene, name)) for name in ("features", "points", "voxels", "colours")}
        if len(set(rows.values())) > 1:
            raise ValueError(f"scene {number} of {len(scenes)} has rows that do not belong together: {rows}")
    widths = {scene.features.shape[-1] for scene in scenes}
    if len(widths) > 1:
        raise ValueError(
            f"features of all scenes must have one width, got {sorted(widths)}: lift them with one encoder"
        )
