import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from scene_cases import PILLAR, Given, camera, random_patches, room, view
from test_points import same_bits

from genworld.models.images import RandomEncoder, RandomEncoderConfig
from genworld.models.points import DirectLifter, DirectLifterConfig
from genworld.models.points_fusion import (
    FusionLifter,
    FusionLifterConfig,
    MaskFolder,
    RegionFeatures,
    UnitFeatures,
    fuse_regions,
    region_table,
)
from genworld.types import Scene, View

SMALL = FusionLifterConfig(voxel=0.1, stride=2, max_voxels=20000)


def on_spot(points: torch.Tensor) -> torch.Tensor:
    """The points in a few cells of the wall that both cameras face."""
    cells = (points / 0.1).floor()
    return (points[:, 0] > 3.99) & (cells[:, 1] >= 13) & (cells[:, 1] < 18) & (cells[:, 2] >= 10) & (cells[:, 2] < 15)


def test_near_views_count_more_by_the_square():
    near, far = view(camera(3.0, 1.55, 0.0), pillar=False), view(camera(2.4, 1.55, 0.0), pillar=False)
    one, other = torch.tensor([1.0, 0.0]).expand(1, 1, 2), torch.tensor([0.0, 1.0]).expand(1, 1, 2)
    cloud = FusionLifter(SMALL).lift(Scene("s", (near, far)), Given([one, other]))
    spot = on_spot(cloud.points)
    counts = []
    for seen, metres in ((near, 1.0), (far, 1.6)):
        each = DirectLifter(DirectLifterConfig(voxel=0.1, stride=2)).lift(Scene("s", (seen,)), Given([one]))
        counts.append(each.weights[on_spot(each.points)].sum() / metres**2)
    share = (cloud.features[spot] * cloud.weights[spot, None]).sum(dim=0)
    torch.testing.assert_close(share, torch.stack(counts), atol=0, rtol=1e-4)
    torch.testing.assert_close(cloud.features[spot].sum(dim=1), torch.ones(int(spot.sum())))


def test_without_falloff_it_is_the_direct_lifter_of_unit_features():
    scene, given = room(3), random_patches(3)
    flat = FusionLifter(dataclasses.replace(SMALL, falloff=0.0)).lift(scene, given)
    direct = DirectLifter(DirectLifterConfig(voxel=0.1, stride=2)).lift(scene, UnitFeatures(given))
    assert same_bits(flat, direct)


def test_a_stream_is_the_whole_in_any_order_and_any_parts():
    scene, given = room(7), random_patches(7)
    lifter = FusionLifter(SMALL)
    whole = lifter.lift(scene, given)
    for order in (range(6, -1, -1), [2, 5, 0, 1, 6, 3, 4]):
        running = lifter.start()
        for index in order:
            running.add(index, scene.aligned_view(index), UnitFeatures(given))
            assert len(running.cloud()) > 0
        assert same_bits(running.cloud(), whole)


def test_regions_are_fused_by_the_formula():
    generator = torch.Generator().manual_seed(3)
    whole, regions = torch.randn(6, generator=generator), torch.randn(4, 6, generator=generator)
    scores = []
    for i in range(4):
        others = [F.cosine_similarity(regions[i], regions[j], dim=0) for j in range(4) if j != i]
        scores.append(F.cosine_similarity(whole, regions[i], dim=0) - sum(others) / 4)
    weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
    unit = whole / whole.norm()
    expected = [weights[i] * unit + (1 - weights[i]) * regions[i] / regions[i].norm() for i in range(4)]
    fused = fuse_regions(whole, regions)
    torch.testing.assert_close(fused, torch.stack([each / each.norm() for each in expected]))
    order = [2, 0, 3, 1]
    torch.testing.assert_close(fuse_regions(whole, regions[order]), fused[order])


def test_overlapping_regions_share_their_pixels():
    features = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=-1)
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, :, :6], masks[1, :, 4:] = True, True
    masks[:, 6:] = False
    table = region_table(features, masks, 2)
    assert table.index.shape == (4, 4)
    assert (table.index[3] == -1).all()
    row = table.rows[table.index[0]]
    torch.testing.assert_close(row, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0]]))
    swapped = region_table(features.flip(0), masks.flip(0), 2)
    torch.testing.assert_close(swapped.rows[swapped.index[0]], row)


def pillar_and_rest(index: int, seen: View) -> torch.Tensor:
    """Two regions: what is black, and all the rest."""
    black = seen.pixels.amax(dim=0) < -0.99
    return torch.stack([black, ~black])


def test_a_region_is_lifted_with_its_own_feature():
    encoder = RandomEncoder(RandomEncoderConfig(patch=8, width=32))
    regions = RegionFeatures(encoder, pillar_and_rest, "by colour")
    cloud = FusionLifter(SMALL).lift(room(6), regions)
    on_pillar = ((cloud.points > PILLAR[0] - 1e-3) & (cloud.points < PILLAR[1] + 1e-3)).all(dim=-1)
    on_pillar &= cloud.colours.amax(dim=-1) < 0.01
    assert on_pillar.sum() > 100
    black, rest = F.normalize(cloud.features[on_pillar], dim=-1), F.normalize(cloud.features[~on_pillar], dim=-1)
    assert (black @ rest.T).mean() < (black @ black.T).mean() - 0.1


def test_small_and_missing_regions_give_no_feature():
    encoder = RandomEncoder(RandomEncoderConfig(patch=8, width=32))
    seen = room(1).views[0]

    def dot(index: int, seen: View) -> torch.Tensor:
        mask = torch.zeros(2, *seen.pixels.shape[1:], dtype=torch.bool)
        mask[0, :3, :3] = True  # the other is empty
        return mask

    table = RegionFeatures(encoder, dot, "dot")(0, seen)
    assert table.rows.shape == (0, 32)
    assert (table.index == -1).all()
    with pytest.raises(ValueError, match="no view could be lifted"):
        FusionLifter(SMALL).lift(Scene("s", (seen,)), RegionFeatures(encoder, dot, "dot"))
    with pytest.raises(ValueError, match=r"must be \[M 96 128\], got \[2, 48, 64\]"):
        RegionFeatures(encoder, lambda i, v: dot(i, v)[:, ::2, ::2], "half")(0, seen)


def test_masks_come_from_a_folder(tmp_path):
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, :2], masks[1, 3] = True, True
    np.save(tmp_path / "a.npy", masks.numpy())
    save_file({"masks": masks}, tmp_path / "b.0.safetensors")
    levels = torch.zeros(4, 6, dtype=torch.uint8)
    levels[:2], levels[3] = 4, 9
    Image.fromarray(levels.numpy()).save(tmp_path / "2.png")
    folder = MaskFolder(tmp_path)
    seen = View(torch.zeros(3, 4, 6), None, torch.eye(4), torch.eye(3))
    for index, name in enumerate(("a", "b.0", "")):
        assert torch.equal(folder(index, dataclasses.replace(seen, name=name)), masks)
    with pytest.raises(ValueError, match="no masks for view 7"):
        folder(7, seen)
