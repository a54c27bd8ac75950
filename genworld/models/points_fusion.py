"""Streaming fusion: views one after another into a map, near ones counting more, by patch or by region."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from genworld.models.images import ImageEncoder
from genworld.models.points import FeatureCloud, FeatureMap, FeatureTable, SamplingConfig, ViewFeatures, lift_views
from genworld.types import Scene, View

logger = logging.getLogger(__name__)

Masks = Callable[[int, View], Bool[Tensor, "M H W"]]
"""From a view's number and the view to the masks of its regions, which may overlap."""


@dataclass(frozen=True, kw_only=True)
class FusionLifterConfig(SamplingConfig):
    """Samples count by how well their depth is known.

    Attributes:
        falloff: the weight of a sample is its depth in metres to minus this power. The noise of structured light and of
            stereo grows with the square of depth (Khoshelham and Elberink 2012).
    """

    kind: Literal["fusion"] = "fusion"
    falloff: float = 2.0

    def weigh(self, depth: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """See `SamplingConfig`."""
        return depth.pow(-self.falloff)


@dataclass(frozen=True)
class FusionLifter:
    """A map that grows view by view: `start` one, `add` to it, and take its `cloud` at any time.

    Directions of features are fused, as in ConceptFusion (Jatavallabhula et al. 2023): each row is made a unit vector
    first. What is promised of bits in `FeatureMap` holds.
    """

    config: FusionLifterConfig = field(default_factory=FusionLifterConfig)

    def start(self) -> FeatureMap:
        """An empty map. Wrap features in `UnitFeatures` before adding them."""
        return FeatureMap(self.config)

    def lift(self, scene: Scene, features: ViewFeatures) -> FeatureCloud:
        """Lift a whole scene; see `Lifter`."""
        return lift_views(scene, UnitFeatures(features), self.config)


@dataclass(frozen=True)
class UnitFeatures:
    """The same features, each of length 1."""

    features: ViewFeatures

    @property
    def name(self) -> str:
        """See `ViewFeatures`."""
        return f"unit {self.features.name}"

    def __call__(self, index: int, view: View) -> FeatureTable:
        """See `ViewFeatures`."""
        table = self.features(index, view)
        return FeatureTable(F.normalize(table.rows.float(), dim=-1), table.index)


@dataclass(frozen=True)
class RegionFeatures:
    """Features of regions instead of patches, mixed with the whole picture's; the manner of ConceptFusion and 3D-LLM.

    What lies in several regions has the sum of their features, in none has no feature.

    Attributes:
        encoder: asked for the whole picture and for each region's box, laid on white.
        masks: of the regions.
        masks_name: which masks they are, for `name`.
        least: regions whose box covers less than this share of the picture are left out.
        cell: regions are told apart on a grid of cells of so many pixels.
    """

    encoder: ImageEncoder
    masks: Masks
    masks_name: str
    least: float = 0.005
    cell: int = 4

    @property
    def name(self) -> str:
        """See `ViewFeatures`."""
        return f"regions {self.masks_name} {self.encoder.name} {self.least:g} {self.cell}"

    def __call__(self, index: int, view: View) -> FeatureTable:
        """See `ViewFeatures`.

        Raises:
            ValueError: masks of another size than the picture.
        """
        masks = self.masks(index, view)
        if masks.ndim != 3 or masks.shape[1:] != view.pixels.shape[1:]:
            raise ValueError(
                f"masks of view {view.name or index} must be [M {' '.join(map(str, view.pixels.shape[1:]))}], "
                f"got {list(masks.shape)}"
            )
        boxes = [_box(mask) for mask in masks]
        area = masks[0].numel() if len(masks) else 1
        keep = [
            i
            for i, (top, left, bottom, right) in enumerate(boxes)
            if (bottom - top) * (right - left) >= self.least * area
        ]
        if len(keep) < len(masks):
            logger.info(
                "view %s: %d of %d regions are too small", view.name or index, len(masks) - len(keep), len(masks)
            )
        if not keep:
            grid = [-(-side // self.cell) for side in view.pixels.shape[1:]]
            return FeatureTable(torch.empty(0, self.encoder.width), torch.full(grid, -1))
        regions = torch.stack([self._look(_on_white(view.pixels, boxes[i])) for i in keep])
        fused = fuse_regions(self._look(view.pixels), regions)
        return region_table(fused, masks[keep], self.cell)

    def _look(self, pixels: Float[Tensor, "3 h w"]) -> Float[Tensor, " D"]:
        return self.encoder(pixels).flatten(0, 1).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Features by region instead of by patch; see `RegionFeatures`.

    Attributes:
        masks: folder that holds, for each scene, a folder of its name with the masks of its views (see `MaskFolder`).
            What was lifted with them is kept under this path: new masks belong into another folder.
        least: regions whose box covers less than this share of a picture are left out.
        cell: regions are told apart on a grid of cells of so many pixels.
    """

    masks: Path
    least: float = 0.005
    cell: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.least < 1 or self.cell < 1:
            raise ValueError(
                f"regions need least of 0 up to 1, and cells of at least 1 pixel, got {self.least} and {self.cell}"
            )

    def features(self, encoder: ImageEncoder, scene: str) -> RegionFeatures:
        """Those of the regions of a scene, by its name."""
        folder = self.masks / scene
        return RegionFeatures(encoder, MaskFolder(folder), str(folder), self.least, self.cell)


def fuse_regions(whole: Float[Tensor, " D"], regions: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
    """Mix the picture's feature g into those of its regions r_i (ConceptFusion, section 3.2, as 3D-LLM has it).

    w = softmax of cos(g, r_i) - mean_j cos(r_i, r_j), itself counting 0; f_i = w_i g + (1 - w_i) r_i. Regions that are
    like the picture and unlike each other get more of it. All are unit vectors, f_i too.
    """
    whole, regions = F.normalize(whole, dim=-1), F.normalize(regions, dim=-1)
    alike = regions @ regions.T
    alike = alike - torch.diag(alike.diagonal())
    weights = (regions @ whole - alike.mean(dim=1)).softmax(dim=0)[:, None]
    return F.normalize(weights * whole + (1 - weights) * regions, dim=-1)


def region_table(features: Float[Tensor, "M D"], masks: Bool[Tensor, "M H W"], cell: int) -> FeatureTable:
    """A table with a row for every set of regions that overlap somewhere: the unit sum of their features.

    3D-LLM makes the sum a unit vector again after each region, so that their order counts; here it does not.
    """
    first = cell // 2
    height, width = masks.shape[1:]
    rows = torch.arange(0, height, cell).add(first).clamp(max=height - 1)
    columns = torch.arange(0, width, cell).add(first).clamp(max=width - 1)
    seen = masks[:, rows][:, :, columns]
    sets, which = torch.unique(seen.flatten(1).T, dim=0, return_inverse=True)
    some = sets.any(dim=1)
    number = torch.where(some, some.cumsum(0) - 1, -1)
    sums = F.normalize(sets[some].to(features) @ features, dim=-1)
    return FeatureTable(sums, number[which].view(seen.shape[1:]))


@dataclass(frozen=True)
class MaskFolder:
    """Masks in files named after the views: `NAME.npy` or `NAME.safetensors` (tensor `masks`), bool [M H W], or
    `NAME.png`, whose levels number the regions from 1.

    Attributes:
        path: the folder.
    """  # noqa: D205

    path: Path

    def __call__(self, index: int, view: View) -> Bool[Tensor, "M H W"]:
        """Read the masks of a view.

        Raises:
            ValueError: it has no file.
        """
        stem = self.path / (view.name or str(index))
        for suffix, read in _READERS.items():
            file = stem.with_name(stem.name + suffix)
            if file.is_file():
                return read(file)
        raise ValueError(f"no masks for view {view.name or index}: expected {stem}{{{','.join(_READERS)}}}")


def _read_numpy(file: Path) -> Bool[Tensor, "M H W"]:
    return torch.from_numpy(np.load(file, allow_pickle=False)).bool()


def _read_safetensors(file: Path) -> Bool[Tensor, "M H W"]:
    return load_file(file)["masks"].bool()


def _read_levels(file: Path) -> Bool[Tensor, "M H W"]:
    levels = torch.from_numpy(np.array(Image.open(file)).astype(np.int64))
    numbers = levels.unique()
    return levels[None] == numbers[numbers > 0][:, None, None]


_READERS: dict[str, Callable[[Path], Tensor]] = {
    ".npy": _read_numpy,
    ".safetensors": _read_safetensors,
    ".png": _read_levels,
}


def _box(mask: Bool[Tensor, "H W"]) -> tuple[int, int, int, int]:
    """Top, left, and the row and column after the last; all 0 for an empty mask."""
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _on_white(pixels: Float[Tensor, "3 H W"], box: tuple[int, int, int, int]) -> Float[Tensor, "3 s s"]:
    """The part of a picture in the middle of a white square."""
    top, left, bottom, right = box
    part = pixels[:, top:bottom, left:right]
    height, width = part.shape[1:]
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    return F.pad(part, (before, side - width - before, above, side - height - above), value=1.0)
