"""From posed views to a cloud of features: what a lifter is, and the direct one."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genworld.ops.geometry import project, unproject
from genworld.ops.masks import true_rows
from genworld.ops.scene_codec import SceneCodec
from genworld.ops.voxels import (
    UNIT,
    VoxelSums,
    cell_centres,
    cell_keys,
    first_in_cell,
    group,
    key_cells,
    most_covering,
    segment_sum,
    voxel_cells,
)
from genworld.types import Scene, Skipped, View
from genworld.types.scenes import left_out

logger = logging.getLogger(__name__)

CODEC_MARGIN = 0.25
"""Metres that the codec of a cloud holds beyond it: boxes reach further than what was seen of them."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of one view: few rows, and a grid of any size over the picture that says which row is seen where.

    Attributes:
        rows: the features, such as one per patch or one per region.
        index: row of each cell of the grid; -1 where there is none.
    """

    rows: Float[Tensor, "M D"]
    index: Int[Tensor, "rows columns"]

    @classmethod
    def from_patches(cls, features: Float[Tensor, "rows columns D"]) -> FeatureTable:
        """A table of patch features."""
        rows, columns, _ = features.shape
        return cls(features.flatten(0, 1), torch.arange(rows * columns, device=features.device).view(rows, columns))


class ViewFeatures(Protocol):
    """Where the features of a scene's views come from: an encoder, a folder, a tensor."""

    @property
    def name(self) -> str:
        """What they are; equal names mean equal features (see `points_cache`)."""
        ...

    def __call__(self, index: int, view: View) -> FeatureTable:
        """The features of view number `index`."""
        ...


@dataclass(frozen=True)
class FeatureCloud:
    """What a scene looks like in 3D: points with features, colours and weights, in lexicographic order of their voxels.

    Attributes:
        points: metres, scene axes; each the mean of what was seen in its voxel.
        features: their mean.
        colours: their mean, in [0, 1].
        weights: how much was seen, in samples; positive.
        voxel: edge of the voxels, metres.
        codec: between metres, voxels of the model and location tokens.
        skipped: views that gave nothing, and why.
    """

    points: Float[Tensor, "P 3"]
    features: Float[Tensor, "P D"]
    colours: Float[Tensor, "P 3"]
    weights: Float[Tensor, " P"]
    voxel: float
    codec: SceneCodec
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.points)


class Lifter(Protocol):
    """A way from views to a cloud."""

    @property
    def config(self) -> Any:
        """What makes it what it is: a dataclass."""
        ...

    def lift(self, scene: Scene, features: ViewFeatures) -> FeatureCloud:
        """Lift a whole scene.

        Raises:
            ValueError: not one view could be used, or there are more voxels than the limit.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """What the lifters that know depth have in common.

    Attributes:
        voxel: edge of the voxels, metres.
        stride: depth is read at every so many pixels along both axes; 4 reads a patch of 16 at 16 places.
        near: nearer readings are not used, metres.
        far: farther readings are not used, metres.
        occlusion: a sample farther behind the nearest one in its patch than this share of its depth is not given the
            patch's feature: at the resolution of the features it is hidden.
        max_voxels: more are refused.
    """

    voxel: float = 0.05
    stride: int = 4
    near: float = 0.1
    far: float = 10.0
    occlusion: float = 0.1
    max_voxels: int = 1 << 17

    def __post_init__(self) -> None:
        if self.voxel <= 0 or self.stride < 1 or not 0 < self.near < self.far or self.occlusion < 0:
            raise ValueError(
                "lifting needs voxel > 0, stride >= 1, 0 < near < far and occlusion >= 0, got "
                f"voxel {self.voxel}, stride {self.stride}, near {self.near}, far {self.far}, "
                f"occlusion {self.occlusion}"
            )

    def weigh(self, depth: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """How much samples at this depth count."""
        return torch.ones_like(depth)


@dataclass(frozen=True, kw_only=True)
class DirectLifterConfig(SamplingConfig):
    """Every sample of depth counts the same."""

    kind: Literal["direct"] = "direct"


@dataclass(frozen=True)
class DirectLifter:
    """Patch features laid on the points that their patches show, averaged per voxel.

    Views with depth are unprojected; views without are laid on the scene's own points where there are any. Both are
    checked for occlusion by a z-buffer of the patches. See `FeatureMap` for what can be relied on.
    """

    config: DirectLifterConfig = field(default_factory=DirectLifterConfig)

    def lift(self, scene: Scene, features: ViewFeatures) -> FeatureCloud:
        """Lift a whole scene; see `Lifter`."""
        return lift_views(scene, features, self.config)


class Samples(NamedTuple):
    """Where a view's depth was read: points in metres, depth, and the pixel (row, column) of each."""

    points: Float[Tensor, "n 3"]
    depth: Float[Tensor, " n"]
    pixels: Int[Tensor, "n 2"]


def sample_depth(view: View, config: SamplingConfig) -> Samples:
    """Unproject every `stride`-th pixel of a view that has a reading."""
    assert view.depth is not None
    step = config.stride
    starts = [min(step // 2, size - 1) for size in view.depth.shape]
    depth = view.depth[starts[0] :: step, starts[1] :: step].flatten().double()
    read = (torch.arange(a, b, step, device=depth.device) for a, b in zip(starts, view.depth.shape, strict=True))
    pixels = torch.cartesian_prod(*read)
    keep = true_rows((depth >= config.near) & (depth <= config.far))
    depth, pixels = depth.index_select(0, keep), pixels.index_select(0, keep)
    centres = pixels.flip(-1).double() + 0.5
    pose, intrinsics = view.world_from_camera.double(), view.intrinsics.double()
    return Samples(unproject(centres[None], depth[None], pose[None], intrinsics)[0], depth, pixels)


def sample_points(view: View, points: Float[Tensor, "P 3"], config: SamplingConfig) -> Samples:
    """Those of a scene's points that fall on a view, seen or hidden."""
    points = points.double()
    pose, intrinsics = view.world_from_camera.double(), view.intrinsics.double()
    pixels, depth = (each[0] for each in project(points[None], pose[None], intrinsics))
    height, width = view.pixels.shape[1:]
    limits = torch.tensor([width, height], device=points.device)
    keep = (depth >= config.near) & (depth <= config.far) & ((pixels >= 0) & (pixels < limits)).all(dim=-1)
    return Samples(points[keep], depth[keep], pixels[keep].floor().long().flip(-1))


def _sample(view: View, points: Tensor | None, config: SamplingConfig) -> Samples:
    if view.depth is not None:
        return sample_depth(view, config)
    assert points is not None
    return sample_points(view, points, config)


class FeatureMap:
    """Running means per voxel: add views one after another, and take the cloud at any time.

    Each view adds to exact sums (`VoxelSums`): the bits of the cloud are the same for any order of the views, however
    they are shared out. Memory is 8 (D + 7) bytes per voxel, and one view; nothing is kept per pixel.

    Attributes:
        config: how views are sampled.
        skipped: views that gave nothing so far, and why.
    """

    def __init__(self, config: SamplingConfig):
        self.config = config
        self.skipped: list[Skipped] = []
        self._sums: VoxelSums | None = None
        self._width = 0

    def add(self, index: int, view: View, features: ViewFeatures, points: Float[Tensor, "P 3"] | None = None) -> None:
        """Add what one view shows. One that shows nothing is put on the list of `skipped`.

        Args:
            index: number of the view.
            view: with its pose in scene axes.
            features: asked only when the view can be used.
            points: of the scene, in scene axes: what a view without depth is laid on.

        Raises:
            ValueError: features that are not finite or of another width than before, or more voxels than the limit.
        """
        reason = _why_not(view, points)
        if reason is None:
            samples = _sample(view, points, self.config)
            if len(samples.depth):
                return self._add(view, samples, features(index, view))
            reason = f"nothing between {self.config.near} and {self.config.far} m is seen"
        self.skipped.append(Skipped(view.name or f"view {index}", reason))
        logger.warning("%s is not used: %s", *self.skipped[-1])
        return None

    def cloud(self) -> FeatureCloud:
        """The means so far.

        Raises:
            ValueError: there is nothing to take a mean of.
        """
        if self._sums is None or not len(self._sums):
            raise ValueError(f"no view could be lifted ({left_out(self.skipped) or 'there is none'})")
        keys, moments = self._sums.ordered(), self._sums.totals(0)
        weights = moments[:, :1]
        points = cell_centres(key_cells(keys), self.config.voxel) + moments[:, 1:4] / weights
        lower, upper = (points.amin(dim=0) - CODEC_MARGIN).tolist(), (points.amax(dim=0) + CODEC_MARGIN).tolist()
        return FeatureCloud(
            points=points.float(),
            features=self._sums.means(1, weights[:, 0]),
            colours=(moments[:, 4:] / weights).float().clamp(0, 1),
            weights=weights[:, 0].float(),
            voxel=self.config.voxel,
            codec=SceneCodec.from_bounds(lower, upper),
            skipped=tuple(self.skipped),
        )

    def _add(self, view: View, samples: Samples, table: FeatureTable) -> None:
        samples, table_row = self._shown(view, samples, table)
        cells = voxel_cells(samples.points, self.config.voxel)
        corner, pairs = _pair_up(cells, table_row, len(table.rows))
        weights = self.config.weigh(samples.depth)[:, None]
        offsets = samples.points - cell_centres(cells, self.config.voxel)
        colours = (view.pixels[:, samples.pixels[:, 0], samples.pixels[:, 1]].T.double() + 1) / 2
        moments = torch.cat([weights, weights * offsets, weights * colours], dim=1)
        moments = segment_sum(moments.index_select(0, pairs.order), pairs.lengths)
        first, rows, amounts = pairs.per_voxel.cumsum(0) - pairs.per_voxel, table.rows.float(), moments[:, 0].float()
        amounts /= UNIT  # a power of two: the bits of the sums are the same

        def features(few: slice) -> Tensor:
            """Rows of the table summed per voxel, over `UNIT`, in their order: the bits depend on this view alone."""
            begin = first[few]
            mine = slice(int(begin[0]), int(begin[-1] + pairs.per_voxel[few][-1]))
            return F.embedding_bag(
                pairs.row[mine], rows, begin - begin[0], mode="sum", per_sample_weights=amounts[mine]
            )

        self._sums_for(table).add(cell_keys(pairs.voxels + corner), segment_sum(moments, pairs.per_voxel), features)

    def _shown(self, view: View, samples: Samples, table: FeatureTable) -> tuple[Samples, Int[Tensor, " n"]]:
        """The samples that the features are of, and the row of the table for each."""
        height, width = view.pixels.shape[1:]
        rows, columns = table.index.shape
        row, column = samples.pixels[:, 0] * rows // height, samples.pixels[:, 1] * columns // width
        nearest = first_in_cell(samples.depth, row * columns + column, rows * columns)
        table_row = table.index[row, column]
        keep = true_rows((samples.depth <= nearest * (1 + self.config.occlusion)) & (table_row >= 0))
        return Samples(*(each.index_select(0, keep) for each in samples)), table_row.index_select(0, keep)

    def _sums_for(self, table: FeatureTable) -> VoxelSums:
        width = table.rows.shape[1]
        if self._sums is None:
            self._width = width
            self._sums = VoxelSums((7, width), self.config.max_voxels, table.rows.device)
        if width != self._width:
            raise ValueError(f"features of one scene must have one width, got {width} after {self._width}")
        return self._sums


class _Pairs(NamedTuple):
    """Which row of the table is seen in which voxel.

    `order` and `lengths` bring the samples of a pair together; `row` is the pair's row of the table; `per_voxel` says
    how many consecutive pairs belong to each of `voxels`.
    """

    order: Int[Tensor, " n"]
    lengths: Int[Tensor, " pairs"]
    row: Int[Tensor, " pairs"]
    voxels: Int[Tensor, "G 3"]
    per_voxel: Int[Tensor, " G"]


def _pair_up(cells: Int[Tensor, "n 3"], table_row: Int[Tensor, " n"], num_rows: int) -> tuple[Tensor, _Pairs]:
    """Sort samples by voxel and row of the table; voxels are told from the corner that is returned with them."""
    if not len(cells):
        none = cells.new_empty(0)
        return cells.new_zeros(3), _Pairs(none, none, none, cells, none)
    corner = cells.amin(dim=0)
    _, columns, layers = (cells.amax(dim=0) - corner + 1).tolist()
    x, y, z = (cells - corner).unbind(-1)
    pairs = group(((x * columns + y) * layers + z) * num_rows + table_row)
    voxel, per_voxel = torch.unique_consecutive(pairs.keys // num_rows, return_counts=True)
    voxels = torch.stack([voxel // (columns * layers), voxel // layers % columns, voxel % layers], dim=-1)
    return corner, _Pairs(pairs.order, pairs.lengths, pairs.keys % num_rows, voxels, per_voxel)


def lift_views(scene: Scene, features: ViewFeatures, config: SamplingConfig) -> FeatureCloud:
    """Add all views of a scene that can be read to a map, one after another."""
    running, points = FeatureMap(config), scene.aligned_points()
    for index, view in scene.readable(running.skipped):
        running.add(index, scene.align(view), features, points)
    return running.cloud()


def select_views(scene: Scene, number: int, voxel: float = 0.1, config: SamplingConfig | None = None) -> list[int]:
    """The views that show most of a scene together, in the order they were chosen (Video-3D-LLM's rule).

    Args:
        scene: with depth.
        number: at most so many views.
        voxel: edge of the voxels that are counted, metres.
        config: how depth is read.

    Raises:
        ValueError: no view that can be read has depth.
    """
    config = config or DirectLifterConfig()
    seen = [torch.empty(0, dtype=torch.int64)] * scene.num_views
    for index, view in scene.readable([]):
        if _why_not(view, None) is None:
            seen[index] = cell_keys(voxel_cells(sample_depth(scene.align(view), config).points, voxel)).unique()
    chosen = most_covering(seen, number)
    if not chosen:
        raise ValueError(f"scene {scene.name!r}: views are chosen by what their depth shows, and none has any")
    return chosen


def _why_not(view: View, points: Tensor | None) -> str | None:
    """Why a view cannot be used; None when it can."""
    if not view.world_from_camera.isfinite().all():
        return "its pose is not finite"
    if view.depth is None:
        return "it has no depth, and the scene no points" if points is None else None
    if view.depth.shape != view.pixels.shape[1:]:
        depth, colour = ("x".join(map(str, each)) for each in (view.depth.shape, view.pixels.shape[1:]))
        return f"its depth is {depth}, its colour {colour}"
    return None
