"""From a scene to the points a model sees: image encoder, lifter, and few points kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from torch import Tensor

from genworld.config import encode
from genworld.models.images import (
    EncodedViews,
    ImageEncoderConfig,
    RandomEncoderConfig,
    WorldEncoder,
    build_image_encoder,
)
from genworld.models.points import DirectLifter, DirectLifterConfig, FeatureCloud, Lifter, ViewFeatures, select_views
from genworld.models.points_field import FieldLifter, FieldLifterConfig
from genworld.models.points_fusion import FusionLifter, FusionLifterConfig, RegionsConfig
from genworld.ops.lifted import LiftedScene, covering_points
from genworld.ops.scene_codec import SceneCodec
from genworld.ops.tensor_files import save_whole
from genworld.types import PointSet, Scene
from genworld.types.scenes import left_out

logger = logging.getLogger(__name__)

LifterConfig = DirectLifterConfig | FusionLifterConfig | FieldLifterConfig
_FORMAT = "genworld scene points 1"
_PATCH = 0.05
"""Metres between patches of a view on a contact sheet: about as large as a floor then."""


@dataclass(frozen=True, kw_only=True)
class BackgroundConfig:
    """Few points for what is only around things, so that the many are left to things.

    Attributes:
        phrases: what the background is called.
        against: what everything else is called; a point whose feature is nearer to a phrase of the background than to
            any of these is of the background. The encoder must know phrases (kind `world`).
        points: of the background, at most; `max_points` are then those of everything else.
    """

    phrases: tuple[str, ...]
    against: tuple[str, ...]
    points: int = 256

    def __post_init__(self) -> None:
        if not self.phrases or not self.against or self.points < 1:
            raise ValueError("background needs phrases, phrases to tell them against, and at least 1 point")


@dataclass(frozen=True, kw_only=True)
class ScenePointsConfig:
    """How scenes become points.

    Attributes:
        encoder: gives the features of views.
        lifter: lays them on points.
        max_points: at most so many are kept, which cover the scene (see `covering_points`).
        colour_weight: metres that a step from black to white is worth when points are chosen: what differs from its
            surroundings keeps its points.
        lifted: False lays the views side by side on the floor, as on a contact sheet, and keeps patches evenly spread
            over them: what is left without depth and poses, to measure what lifting is worth. The lifter then only says
            where location tokens are.
        background: what gets few points only; None treats all alike.
        regions: masks of regions, which then have features instead of patches; None where there are none.
        max_views: only so many views, which show most of the scene together; None for all.
        cells: location tokens along each axis.
        cache: folder in which points are kept; None lifts a scene every time.
    """

    encoder: ImageEncoderConfig = field(default_factory=RandomEncoderConfig)
    lifter: LifterConfig = field(default_factory=lambda: DirectLifterConfig(voxel=0.1))
    max_points: int = 1024
    colour_weight: float = 2.0
    background: BackgroundConfig | None = None
    lifted: bool = True
    regions: RegionsConfig | None = None
    max_views: int | None = None
    cells: int = 256
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.max_points < 1 or self.cells < 2 or self.colour_weight < 0 or (self.max_views or 1) < 1:
            raise ValueError(
                "max_points and max_views must be at least 1, cells at least 2 and colour_weight at least 0, got "
                f"{self.max_points}, {self.max_views}, {self.cells} and {self.colour_weight}"
            )


class ScenePoints:
    """Lifts scenes, each once: kept files hold half precision, read anew at every call."""

    def __init__(self, config: ScenePointsConfig) -> None:
        self.config = config

    @cached_property
    def features(self) -> EncodedViews:
        """Patches through the encoder, which is built when the first scene is lifted."""
        return EncodedViews(build_image_encoder(self.config.encoder))

    @cached_property
    def lifter(self) -> Lifter:
        """The lifter."""
        return build_lifter(self.config.lifter)

    @property
    def width(self) -> int:
        """Of the features."""
        with torch.device("cpu"):  # its weights are read, also where nothing else is given any
            return build_image_encoder(self.config.encoder).width

    def lift(self, key: str, scene: Callable[[], Scene]) -> LiftedScene:
        """The points of a scene, from its file if there is one.

        Args:
            key: tells scenes apart, in one folder of points.
            scene: gives it; called only where there is no file.

        Raises:
            ValueError: the scene has no views, none of them shows anything, one has no masks where there should be
                some, or the scene has more voxels than the limit.
        """
        if self.config.cache is None:
            return self(scene())
        path = self._path(self.config.cache, key)
        if not path.is_file():
            _save(path, self(scene()))
        return _load(path)

    def __call__(self, scene: Scene) -> LiftedScene:
        """Lift a scene; see `lift`."""
        if not scene.num_views:
            reasons = left_out(scene.skipped) or "there is none"
            raise ValueError(f"scene {scene.name!r} has no view that could be used ({reasons})")
        if self.config.max_views is not None and scene.num_views > self.config.max_views:
            chosen = select_views(scene, self.config.max_views)
            views = [(index, scene.view(index)) for index in chosen]  # masks of one without a name go by its number
            scene = replace(scene, views=[replace(view, name=view.name or str(index)) for index, view in views])
        features = self._features_of(scene)
        try:
            cloud = self.lifter.lift(scene, features)
        except ValueError as error:
            raise ValueError(f"scene {scene.name!r}: {error}") from None
        codec = replace(cloud.codec, cells=self.config.cells)
        if not self.config.lifted:
            return LiftedScene(scene.name, self._patches(scene, features, codec), codec)
        return self._chosen(scene.name, cloud, codec)

    def _features_of(self, scene: Scene) -> ViewFeatures:
        """Of patches, or of the scene's regions."""
        regions = self.config.regions
        return self.features if regions is None else regions.features(self.features.encoder, scene.name)

    def _patches(self, scene: Scene, features: ViewFeatures, codec: SceneCodec) -> PointSet:
        """Patches of all views, on a contact sheet; voxels are view, column and row from below."""
        rows, colours, voxels = [], [], []
        for index, view in scene.readable([]):
            table = features(index, view)
            high, wide = table.index.shape
            grid = F.adaptive_avg_pool2d(view.pixels, (high, wide))
            row, column = (table.index >= 0).nonzero().unbind(dim=1)
            rows.append(table.rows[table.index[row, column]])
            colours.append((grid[:, row, column].T + 1) / 2)
            voxels.append(torch.stack([torch.full_like(row, index), column, high - 1 - row], dim=1))
        every = torch.cat(voxels)
        kept = torch.linspace(0, len(every) - 1, min(len(every), self.config.max_points)).round().long()
        seen, tints = torch.cat(rows)[kept].half().float(), torch.cat(colours)[kept].half().float()
        return PointSet(seen, _on_sheet(every)[kept], tints, every[kept].clamp(max=codec.cells - 1))

    def _chosen(self, name: str, cloud: FeatureCloud, codec: SceneCodec) -> LiftedScene:
        places = torch.cat([cloud.points, self.config.colour_weight * cloud.colours], dim=1)
        if self.config.background is None:
            kept = covering_points(places, self.config.max_points)
        else:
            behind = self._is_background(cloud.features)
            groups = ((~behind, self.config.max_points), (behind, self.config.background.points))
            rows = [(group.nonzero()[:, 0], most) for group, most in groups if group.any()]
            kept = torch.cat([row[covering_points(places[row], most)] for row, most in rows])
        points = cloud.points[kept]
        # Rounded as the file is, so that a scene is the same whether it comes from there or not.
        features, colours = cloud.features[kept].half().float(), cloud.colours[kept].half().float()
        return LiftedScene(name, PointSet(features, points, colours, codec.voxels(points)), codec)

    def _is_background(self, features: Float[Tensor, "P D"]) -> Bool[Tensor, " P"]:
        background = self.config.background
        assert background is not None
        behind, others = self._phrases
        features = F.normalize(features, dim=-1)
        return (features @ behind.T).amax(dim=1) > (features @ others.T).amax(dim=1)

    @cached_property
    def _phrases(self) -> tuple[Float[Tensor, "n D"], Float[Tensor, "m D"]]:
        """Of the background and of everything else, as the encoder sees them."""
        background, encoder = self.config.background, self.features.encoder
        assert background is not None
        if not isinstance(encoder, WorldEncoder):
            raise ValueError(
                "task.points.background compares features with phrases, which an encoder of kind "
                f"{self.config.encoder.kind} does not know: use {{kind: world}}, or set background to null"
            )
        return tuple(encoder.network.encode_texts(list(x)) for x in (background.phrases, background.against))  # type: ignore[return-value]

    def _path(self, folder: Path, key: str) -> Path:
        config = encode(replace(self.config, cache=None))
        if self.config.regions is None:
            del config["regions"]  # what was lifted before there was this option keeps its name
        facts = {"config": config, "features": self.features.name}
        digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()
        safe = "".join(mark if mark.isalnum() or mark in "-_." else "_" for mark in key)
        return folder / digest / f"{safe}.safetensors"


def _on_sheet(patches: Int[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
    """Where patches (view, column, row from below) lie: views in rows of about as many, half a view apart."""
    view, column, row = patches.unbind(dim=1)
    apart = 1.5 * (1 + patches[:, 1:].max())
    across = math.ceil(math.sqrt(1 + int(view.max())))
    x, y = column + apart * (view % across), row + apart * (view // across)
    return torch.stack([x, y, torch.zeros_like(x)], dim=1) * _PATCH


def build_lifter(config: LifterConfig) -> Lifter:
    """The lifter that a config describes."""
    if isinstance(config, DirectLifterConfig):
        return DirectLifter(config)
    return FusionLifter(config) if isinstance(config, FusionLifterConfig) else FieldLifter(config)


def _save(path: Path, lifted: LiftedScene) -> None:
    kept = lifted.points
    tensors = {
        "features": kept.features.half(),
        "points": kept.points,
        "colours": kept.colours.half(),
        "voxels": kept.voxels.to(torch.int32),
    }
    metadata = {"format": _FORMAT, "codec": lifted.codec.to_json(), "name": lifted.name}
    save_whole(path, tensors, metadata)


def _load(path: Path) -> LiftedScene:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{path}: expected {_FORMAT!r}, got {metadata.get('format')!r}: delete it")
        tensors = {name: file.get_tensor(name) for name in ("features", "points", "colours", "voxels")}
    points = PointSet(
        tensors["features"].float(), tensors["points"], tensors["colours"].float(), tensors["voxels"].long()
    )
    return LiftedScene(metadata["name"], points, SceneCodec.from_json(metadata["codec"]))
