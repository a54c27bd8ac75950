import dataclasses
import math

import pytest
import torch
from scene_cases import Given, distance_to_sides, random_patches, room
from test_points import same_bits

from genworld.models.points_field import FieldLifter, FieldLifterConfig, Rays, VoxelField, solve_shares
from genworld.ops.geometry import unproject
from genworld.types import Scene, View

CORNERS = {"lower": (-0.3, -0.3, -0.3), "upper": (4.3, 3.3, 2.8)}
QUICK = FieldLifterConfig(**CORNERS, voxel=0.25, steps=40, rays=64, size=24, rate=0.5, visible=0.02)


def slab(opaque: float, cell: float = 0.1) -> VoxelField:
    """Green behind x = 1, of this raw density; nothing in front."""
    field = VoxelField(torch.zeros(3), torch.tensor([2.0, 1.0, 1.0]), cell)
    with torch.no_grad():
        field.density.fill_(-30.0)
        field.density[:, :, round(1 / cell) :] = opaque
        field.colour.fill_(-20.0)
        field.colour[:, 1] = 20.0
    return field


RAYS = Rays(torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.5, 0.5]]), torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.3, 0.1]]))


def test_an_opaque_slab_is_seen_where_it_begins():
    seen = slab(40.0).render(RAYS, 0.05, torch.full((2, 1), 0.5))
    torch.testing.assert_close(seen.colours, torch.tensor([[0.0, 1.0, 0.0]]).expand(2, 3), atol=1e-4, rtol=0)
    first = (seen.shares[..., None] * seen.points).sum(dim=1)
    assert ((first[:, 0] - 1.0).abs() < 0.1).all()  # within a cell
    torch.testing.assert_close(seen.shares.sum(dim=1), torch.ones(2), atol=1e-4, rtol=0)


def test_thin_fog_stops_what_the_exponential_law_says():
    per_cell = 0.02
    raw = math.log(math.expm1(-math.log1p(-per_cell))) - math.log(math.expm1(-math.log1p(-1e-3)))
    seen = slab(raw).render(Rays(RAYS.eyes[:1], RAYS.directions[:1]), 0.05, torch.full((1, 1), 0.5))
    nine, ten = (1 - (1 - per_cell) ** cells for cells in (9, 10))  # ten cells deep, of which the first is half fog
    assert nine - 1e-3 <= seen.shares.sum().item() <= ten + 1e-3


def test_a_refined_field_looks_the_same():
    field = slab(3.0)
    with torch.no_grad():
        field.colour.normal_(generator=torch.Generator().manual_seed(0))
    finer = field.refined(0.05)
    assert finer.shape == (40, 20, 20)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    assert (finer.colours_at(points) - field.colours_at(points)).abs().mean() < 0.03


def test_shares_are_solved_like_least_squares():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(40, 6, generator=generator) * (torch.rand(40, 6, generator=generator) > 0.6)
    weights[:6] += torch.eye(6)
    truth = torch.randn(6, 3, generator=generator)
    ray, cell = weights.nonzero(as_tuple=True)
    found = solve_shares(cell, ray, weights[ray, cell], weights @ truth, 6, sweeps=300)
    torch.testing.assert_close(found, truth, atol=1e-3, rtol=1e-3)


def textured(number: int, size: tuple[int, int]) -> Scene:
    """The room without depth, its sides covered with waves: bare walls look the same from wherever they stand."""
    views = []
    for seen in room(number, size).views:
        height, width = size
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        pixels = torch.stack([columns, rows], dim=-1).view(1, -1, 2)
        assert seen.depth is not None
        points = unproject(pixels, seen.depth.view(1, -1), seen.world_from_camera[None], seen.intrinsics)[0]
        waves = torch.sin(points * torch.tensor([5.0, 6.0, 7.0]) + torch.arange(3.0))
        both = waves.prod(dim=-1) * torch.tensor([[0.5], [0.4], [-0.45]]) + 0.25 * waves.T
        views.append(dataclasses.replace(seen, depth=None, pixels=0.5 * seen.pixels + both.view(3, height, width)))
    return Scene("textured room", tuple(views))


@pytest.mark.slow
def test_a_room_is_found_without_depth():
    config = FieldLifterConfig(**CORNERS, size=48)
    scene = textured(24, (48, 64))
    left = torch.zeros(12, 16, 2)
    left[:, :8, 0], left[:, 8:, 1] = 1.0, 1.0  # which half of its picture a point was seen in
    cloud = FieldLifter(config).lift(scene, Given([left] * 24))
    away = distance_to_sides(cloud.points)
    assert len(cloud) > 1500
    assert away.median() < config.voxel / 2
    assert (away < config.voxel).float().mean() > 0.9
    assert cloud.features.mean() == pytest.approx(0.5, abs=0.05)


def test_same_seed_same_bits():
    scene, given = textured(3, (24, 32)), random_patches(3)
    one = FieldLifter(QUICK).lift(scene, given)
    assert same_bits(FieldLifter(QUICK).lift(scene, given), one)
    assert one.codec.inside(one.points).all()
    assert not same_bits(FieldLifter(dataclasses.replace(QUICK, seed=1)).lift(scene, given), one)


def test_without_corners_all_that_cameras_see_is_modelled():
    scene = textured(3, (24, 32))
    config = dataclasses.replace(QUICK, lower=None, upper=None, far=1.0, voxel=0.2)
    field = FieldLifter(config).fit(scene, [0, 1, 2])
    eyes = torch.stack([seen.world_from_camera[:3, 3] for seen in scene.views])
    assert (field.lower <= eyes.amin(dim=0)).all()
    assert (field.upper >= eyes.amax(dim=0)).all()
    assert ((field.upper - field.lower) <= eyes.amax(dim=0) - eyes.amin(dim=0) + 2 * 1.0 + 0.8 + 1e-3).all()


def test_what_cannot_be_fitted_is_said():
    scene, given = textured(3, (24, 32)), random_patches(4)
    pose = torch.full((4, 4), torch.inf)
    broken: View = dataclasses.replace(scene.views[0], world_from_camera=pose, name="bad")
    cloud = FieldLifter(QUICK).lift(dataclasses.replace(scene, views=(*scene.views, broken)), given)
    assert [each.name for each in cloud.skipped] == ["bad"]
    with pytest.raises(ValueError, match=r"at least 2 views, got 1 \(bad: its pose is not finite"):
        FieldLifter(QUICK).lift(dataclasses.replace(scene, views=(scene.views[0], broken)), given)
    with pytest.raises(ValueError, match="more than max_voxels = 100"):
        FieldLifter(dataclasses.replace(QUICK, max_voxels=100)).lift(scene, given)
    with pytest.raises(ValueError, match="no cell of the field is solid"):
        FieldLifter(dataclasses.replace(QUICK, visible=1.1)).lift(scene, given)
    with pytest.raises(ValueError, match="visible must be above 0"):
        FieldLifterConfig(visible=0.0)
    with pytest.raises(ValueError, match="both corners or none"):
        FieldLifterConfig(lower=(0.0, 0.0, 0.0))
