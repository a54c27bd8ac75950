import dataclasses
import math

import pytest
import torch
from scene_cases import COLOURS, ROOM, Given, camera, distance_to_sides, random_patches, room, view

from genworld.models.points import (
    DirectLifter,
    DirectLifterConfig,
    FeatureCloud,
    FeatureMap,
    FeatureTable,
    sample_depth,
    select_views,
)
from genworld.ops.geometry import project
from genworld.types import Scene, View

SMALL = DirectLifterConfig(voxel=0.1, stride=2, max_voxels=20000)


def same_bits(one: FeatureCloud, other: FeatureCloud) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("points", "features", "colours", "weights")
    )


def lift_slowly(scene: Scene, given: Given, config: DirectLifterConfig) -> dict[tuple[int, ...], torch.Tensor]:
    """The twin: pixel after pixel, with dictionaries. Cell to (mean feature, mean point)."""
    lists: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for index, seen in enumerate(scene.views):
        patches = given.patches[index]
        height, width = seen.depth.shape
        patch_height, patch_width = height // patches.shape[0], width // patches.shape[1]
        start = config.stride // 2
        places = [(r, c) for r in range(start, height, config.stride) for c in range(start, width, config.stride)]
        nearest: dict[tuple[int, int], float] = {}
        for row, column in places:
            patch = (row // patch_height, column // patch_width)
            depth = seen.depth[row, column].item()
            if config.near <= depth <= config.far:
                nearest[patch] = min(nearest.get(patch, math.inf), depth)
        for row, column in places:
            patch, depth = (row // patch_height, column // patch_width), seen.depth[row, column].double()
            if not config.near <= depth <= config.far or depth > nearest[patch] * (1 + config.occlusion):
                continue
            pixel = torch.tensor([column + 0.5, row + 0.5, 1.0], dtype=torch.float64)
            point = torch.linalg.inv(seen.intrinsics.double()) @ pixel * depth
            point = seen.world_from_camera[:3, :3].double() @ point + seen.world_from_camera[:3, 3].double()
            cell = tuple((point / config.voxel).floor().long().tolist())
            lists.setdefault(cell, []).append(torch.cat([patches[patch].double(), point]))
    return {cell: torch.stack(lists[cell]).mean(dim=0) for cell in sorted(lists)}


def test_the_cloud_is_that_of_a_loop_over_pixels():
    scene, given = room(4, size=(48, 64)), random_patches(4)
    cloud = DirectLifter(SMALL).lift(scene, given)
    expected = torch.stack(list(lift_slowly(scene, given, SMALL).values())).float()
    assert cloud.points.shape == (len(expected), 3)
    torch.testing.assert_close(cloud.features, expected[:, :5], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cloud.points, expected[:, 5:], atol=1e-5, rtol=1e-5)


def test_a_room_comes_out_where_it_is_and_in_its_colours():
    scene = room(12)
    cloud = DirectLifter(SMALL).lift(scene, random_patches(12))
    assert distance_to_sides(cloud.points).max() < 0.05  # voxels at edges hold points of two sides
    assert (distance_to_sides(cloud.points) < 1e-4).float().mean() > 0.85
    low = cloud.points[:, 0] < 1e-3
    inner = low & (cloud.points[:, 1] > 0.2) & (cloud.points[:, 1] < 2.8) & (cloud.points[:, 2] > 0.2)
    inner &= cloud.points[:, 2] < 2.3
    assert inner.sum() > 50
    torch.testing.assert_close(cloud.colours[inner], COLOURS[0].expand(int(inner.sum()), 3), atol=1e-4, rtol=0)
    assert cloud.codec.inside(cloud.points).all()
    assert cloud.skipped == ()


def test_unprojected_samples_are_seen_where_they_were_read():
    seen = view(camera(1.0, 1.0, 0.7, 0.2))
    samples = sample_depth(seen, SMALL)
    pixels, depth = project(samples.points[None], seen.world_from_camera[None].double(), seen.intrinsics.double())
    torch.testing.assert_close(pixels[0], samples.pixels.flip(-1) + 0.5, check_dtype=False)
    torch.testing.assert_close(depth[0], samples.depth)


def test_bits_do_not_depend_on_order_or_parts():
    scene, given = room(9), random_patches(9)
    whole = DirectLifter(SMALL).lift(scene, given)
    for order in (range(8, -1, -1), [3, 1, 4, 0, 5, 8, 2, 6, 7]):
        running = FeatureMap(SMALL)
        for count, index in enumerate(order):
            running.add(index, scene.aligned_view(index), given)
            if count % 4 == 0:
                running.cloud()  # looking changes nothing
        assert same_bits(running.cloud(), whole)
    shuffled = Scene("room", tuple(scene.views[i] for i in order))
    assert same_bits(DirectLifter(SMALL).lift(shuffled, Given([given.patches[i] for i in order])), whole)


def test_bits_do_not_depend_on_the_number_of_threads():
    scene, given = room(2), random_patches(2)
    alone = DirectLifter(SMALL).lift(scene, given)
    torch.set_num_threads(2)
    try:
        assert same_bits(DirectLifter(SMALL).lift(scene, given), alone)
    finally:
        torch.set_num_threads(1)


def test_a_hidden_surface_does_not_get_the_feature_of_what_hides_it():
    seen = view(camera(0.5, 1.5, 0.0))  # straight at the pillar: the far wall is beside it
    front = DirectLifter(SMALL).lift(Scene("s", (seen,)), Given([torch.ones(1, 1, 1)]))  # one patch: the whole picture
    nearest = seen.depth[1::2, 1::2].min()
    assert front.points[:, 0].max() - 0.5 <= nearest * 1.1 + 1e-4
    everything = DirectLifter(dataclasses.replace(SMALL, occlusion=100.0)).lift(
        Scene("s", (seen,)), Given([torch.ones(1, 1, 1)])
    )
    assert everything.points[:, 0].max() > 3.99


def test_views_without_depth_are_laid_on_the_points_of_the_scene():
    generator = torch.Generator().manual_seed(0)
    wall = torch.rand(4000, 3, generator=generator) * (ROOM[1] - ROOM[0])
    wall[:, 0] = 4.0
    screen = torch.rand(4000, 3, generator=generator) * torch.tensor([0.0, 1.0, 2.5]) + torch.tensor([2.0, 1.0, 0.0])
    blind = dataclasses.replace(view(camera(0.5, 1.5, 0.0)), depth=None)
    scene = Scene("s", (blind,), points=torch.cat([wall, screen]))
    cloud = DirectLifter(SMALL).lift(scene, Given([torch.ones(12, 16, 1)]))
    on_wall = cloud.points[cloud.points[:, 0] > 3.9]
    # The screen, 1.5 m away and 1 m wide, hides what is within 0.5 / 1.5 * 3.5 of the middle of the wall.
    assert (on_wall[:, 1] - 1.5).abs().min() > 0.5 / 1.5 * 3.5 - 0.35
    assert len(on_wall) > 10
    assert (cloud.points[:, 0] < 2.1).sum() > 50
    with pytest.raises(ValueError, match="no depth, and the scene no points"):
        DirectLifter(SMALL).lift(Scene("s", (blind,)), random_patches(1))


def test_clouds_are_in_the_axes_of_the_scene():
    scene, given = room(4), random_patches(4)
    turn = torch.tensor([[0.0, -1.0, 0.0, 3.0], [1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, -0.2], [0.0, 0.0, 0.0, 1.0]])
    turned = DirectLifter(SMALL).lift(dataclasses.replace(scene, aligned_from_world=turn), given)
    plain = DirectLifter(SMALL).lift(scene, given)
    assert turned.points[:, 0].max() < 3.01
    moved = plain.points.mean(dim=0) @ turn[:3, :3].T + turn[:3, 3]
    torch.testing.assert_close(turned.points.mean(dim=0), moved, atol=0.05, rtol=0)


def bad_views() -> dict[str, View]:
    good = view(camera(1.0, 1.0, 0.3), name="bad")
    pose = good.world_from_camera.clone()
    pose[0, 3] = -torch.inf
    return {
        "pose is not finite": dataclasses.replace(good, world_from_camera=pose),
        "depth is 48x64, its colour 96x128": dataclasses.replace(good, depth=good.depth[::2, ::2]),
        "nothing between 0.1 and 10.0 m": dataclasses.replace(good, depth=torch.zeros_like(good.depth)),
        "has no depth": dataclasses.replace(good, depth=None),
    }


@pytest.mark.parametrize("reason", list(bad_views()))
def test_bad_views_are_counted_and_change_nothing(reason):
    scene, given = room(3), random_patches(4)
    mixed = dataclasses.replace(scene, views=(*scene.views, bad_views()[reason]))
    cloud = DirectLifter(SMALL).lift(mixed, given)
    assert same_bits(cloud, DirectLifter(SMALL).lift(scene, given))
    assert [skipped.name for skipped in cloud.skipped] == ["bad"]
    assert reason in cloud.skipped[0].reason
    with pytest.raises(ValueError, match=f"no view could be lifted.*{reason}"):
        DirectLifter(SMALL).lift(Scene("s", (bad_views()[reason],)), given)


def test_what_cannot_be_lifted_is_said():
    with pytest.raises(ValueError, match="no view could be lifted"):
        DirectLifter(SMALL).lift(Scene("empty"), random_patches(1))
    with pytest.raises(ValueError, match="more than max_voxels = 50"):
        DirectLifter(dataclasses.replace(SMALL, max_voxels=50)).lift(room(2), random_patches(2))
    with pytest.raises(ValueError, match="one width, got 5 after 3"):
        DirectLifter(SMALL).lift(room(2), Given([torch.ones(2, 2, 3), torch.ones(2, 2, 5)]))
    with pytest.raises(ValueError, match="must be finite"):
        DirectLifter(SMALL).lift(room(1), Given([torch.full((2, 2, 3), torch.nan)]))
    with pytest.raises(ValueError, match="0 < near < far"):
        DirectLifterConfig(near=3.0, far=2.0)


def test_cells_without_a_feature_give_nothing():
    scene = room(1)
    table = FeatureTable(torch.ones(1, 2), torch.tensor([[0, -1]]))  # the left half of the picture

    class Half:
        name = "half"

        def __call__(self, index: int, view: View) -> FeatureTable:
            return table

    cloud = DirectLifter(dataclasses.replace(SMALL, occlusion=100.0)).lift(scene, Half())
    seen = scene.views[0]
    pixels, _ = project(cloud.points[None], seen.world_from_camera[None], seen.intrinsics)
    assert pixels[0, :, 0].max() < 64
    assert cloud.weights.sum() == 48 * 32  # every second row, every second column of one half


def test_chosen_views_cover_more_than_any_others():
    poses = [camera(1.0, 1.5, math.pi), camera(1.01, 1.5, math.pi), camera(1.0, 1.5, 0.1), camera(3.0, 1.5, 0.0)]
    scene = Scene("s", tuple(view(pose, pillar=False) for pose in poses))
    chosen = select_views(scene, 2)
    assert len(set(chosen) & {0, 1}) == 1  # not both of the twins
    assert len(select_views(scene, 10)) <= 4
    with pytest.raises(ValueError, match="none has any"):
        select_views(Scene("s", (dataclasses.replace(scene.views[0], depth=None),)), 2)
