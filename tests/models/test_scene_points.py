"""Points of scenes: names of the files they are kept in, and features of regions from a folder of masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scene_cases import room

from genworld.config import ConfigError, decode
from genworld.experiment import load_experiment
from genworld.models.images import RandomEncoder, RandomEncoderConfig
from genworld.models.points import DirectLifter, DirectLifterConfig
from genworld.models.points_fusion import FusionLifter, FusionLifterConfig, MaskFolder, RegionFeatures, RegionsConfig
from genworld.models.scene_points import ScenePoints, ScenePointsConfig
from genworld.types import Scene

ROOT = Path(__file__).resolve().parents[2]
ENCODER = RandomEncoderConfig(patch=8, width=32)
FUSION = FusionLifterConfig(voxel=0.1, stride=2, max_voxels=20000)


def config(masks: Path | None, **settings) -> ScenePointsConfig:
    regions = None if masks is None else RegionsConfig(masks=masks)
    given = {"encoder": ENCODER, "lifter": FUSION, "max_points": 100000} | settings
    return ScenePointsConfig(regions=regions, **given)  # type: ignore[arg-type]


def write_masks(folder: Path, scene: Scene, numbered: bool = False) -> Path:
    """Two regions of each view: what is black, and the rest."""
    (folder / scene.name).mkdir(parents=True)
    for index in range(scene.num_views):
        black = (scene.view(index).pixels.amax(dim=0) < -0.99).numpy()
        name = str(index) if numbered else scene.view(index).name
        np.save(folder / scene.name / f"{name}.npy", np.stack([black, ~black]))
    return folder


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (ScenePointsConfig(), "1a844efd3e516086"),
        (ScenePointsConfig(lifter=FusionLifterConfig()), "cb4aa5e8e2f6564a"),
        (load_experiment(ROOT / "configs" / "scene" / "world.yaml").task.points, "c4909f2e2e720af3"),
        (load_experiment(ROOT / "weights" / "scene_rooms" / "experiment.yaml").task.points, "c4909f2e2e720af3"),
        (load_experiment(ROOT / "weights" / "navigate" / "experiment.yaml").task.points, "259d21c625557d04"),
    ],
    ids=["default", "fusion", "world", "scene_rooms", "navigate"],
)
def test_files_of_points_keep_their_names(config: ScenePointsConfig, digest: str) -> None:
    """Thousands of floors were lifted under these: an option that is not used must not change them."""
    assert ScenePoints(config)._path(Path("points"), "rooms-1") == Path("points") / digest / "rooms-1.safetensors"


def test_files_of_regions_have_names_of_their_own(tmp_path: Path) -> None:
    some = [None, tmp_path / "a", tmp_path / "b"]
    names = {ScenePoints(config(masks))._path(tmp_path, "room") for masks in some}
    assert len(names) == 3


@pytest.mark.parametrize("lifter", [FUSION, DirectLifterConfig(voxel=0.1, stride=2, max_voxels=20000)])
def test_points_have_the_features_of_their_regions(lifter, tmp_path: Path) -> None:
    scene = room(4)
    masks = write_masks(tmp_path / "masks", scene)
    lifted = ScenePoints(config(masks, lifter=lifter, cache=tmp_path / "points")).lift("room", lambda: scene)
    by_hand = RegionFeatures(RandomEncoder(ENCODER), MaskFolder(masks / "room"), "by hand")
    plain = FusionLifter(lifter) if lifter is FUSION else DirectLifter(lifter)
    cloud = plain.lift(scene, by_hand)
    assert torch.equal(lifted.points.points, cloud.points)
    assert torch.equal(lifted.points.features, cloud.features.half().float())
    patches = ScenePoints(config(None, lifter=lifter))(scene)
    assert not torch.equal(lifted.points.features, patches.points.features)
    kept = ScenePoints(config(masks, lifter=lifter, cache=tmp_path / "points")).lift("room", pytest.fail)
    assert torch.equal(kept.points.features, lifted.points.features)


def test_without_lifting_regions_count_too(tmp_path: Path) -> None:
    scene = room(2)
    masks = write_masks(tmp_path, scene)
    flat = ScenePoints(config(masks, lifted=False))(scene)
    assert 2 < len(flat.points.features.unique(dim=0)) <= 4  # two regions a view, of which one may be out of sight


def test_views_without_names_keep_their_numbers_when_few_are_chosen(tmp_path: Path) -> None:
    named = room(6)
    scene = replace(named, views=tuple(replace(view, name="") for view in named.views))
    masks = write_masks(tmp_path / "numbers", scene, numbered=True)
    also = write_masks(tmp_path / "names", named)
    some = ScenePoints(config(masks, max_views=2))(scene)
    same = ScenePoints(config(also, max_views=2))(named)
    assert torch.equal(some.points.features, same.points.features)
    (masks / "room" / "0.npy").unlink()
    assert len(ScenePoints(config(masks, max_views=2))(scene).points) > 0


def test_masks_that_are_missing(tmp_path: Path) -> None:
    scene = room(2)
    masks = write_masks(tmp_path / "masks", scene)
    (masks / "room" / "view-1.npy").unlink()
    with pytest.raises(
        ValueError, match=r"scene 'room': no masks for view view-1: expected .*masks/room/view-1\{.npy,"
    ):
        ScenePoints(config(masks))(scene)
    other = replace(scene, name="elsewhere")
    with pytest.raises(ValueError, match=r"scene 'elsewhere': no masks for view view-0: expected .*masks/elsewhere/"):
        ScenePoints(config(masks))(other)


def test_regions_in_a_config() -> None:
    text = {"lifter": {"kind": "fusion"}, "regions": {"masks": "data/masks", "least": 0.01}}
    assert decode(ScenePointsConfig, text).regions == RegionsConfig(masks=Path("data/masks"), least=0.01)
    with pytest.raises(ConfigError, match="regions: RegionsConfig needs masks"):
        decode(ScenePointsConfig, {"regions": {}})
    for bad in ({"least": 1.0}, {"cell": 0}):
        with pytest.raises(ConfigError, match="regions need least of 0 up to 1, and cells of at least 1 pixel"):
            decode(ScenePointsConfig, {"regions": {"masks": "data/masks", **bad}})
