import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from room_floors import floor_of, floors

from genworld.ops.geometry import project, unproject
from genworld.world.primitives import KINDS as SHAPES
from genworld.world.rooms import Floor, FloorConfig, sample_floor
from genworld.world.rooms.draw import draw_plan, draw_sheet
from genworld.world.rooms.floor import HALF_FOV, SEEN, WATCH
from genworld.world.rooms.furnish import SIGNATURE
from genworld.world.rooms.furniture import AXES, COLOURS, KINDS, SIZES, TINTS, Thing
from genworld.world.rooms.plan import CEILING
from genworld.world.rooms.walk import intrinsics


def test_floors_hold_what_is_promised() -> None:
    kinds: Counter[str] = Counter()
    rooms = set()
    for floor in floors():
        assert 8 <= len(floor.things) <= 30
        rooms.add(len(floor.plan.rooms))
        assert len(set(floor.room_names)) == len(floor.plan.rooms)
        kinds.update(thing.kind for thing in floor.things)
        for room, name in enumerate(floor.room_names):
            assert any(thing.kind == SIGNATURE[name] and thing.room == room for thing in floor.things)
    assert rooms == {1, 2, 3, 4, 5}
    assert len(KINDS) == 20
    assert len(kinds) >= 19  # of 20 floors


def test_nothing_overlaps_and_everything_stands_somewhere() -> None:
    for floor in floors():
        boxes = [thing.box for thing in floor.things]
        for (i, one), (j, other) in combinations(enumerate(boxes), 2):
            shared = np.minimum(one.upper, other.upper) - np.maximum(one.lower, other.lower)
            assert (shared < 1e-6).any(), f"{floor.name}: {floor.things[i]} and {floor.things[j]}"
        for thing, box in zip(floor.things, boxes, strict=True):
            x0, y0, x1, y1 = floor.plan.interior(thing.room)
            assert (box.lower >= (x0, y0, -1e-9)).all()
            assert (box.upper <= (x1, y1, CEILING)).all()
            if thing.on is not None:
                host = boxes[thing.on]
                assert KINDS[floor.things[thing.on].kind].holds
                assert (box.lower[:2] >= host.lower[:2]).all()
                assert (box.upper[:2] <= host.upper[:2]).all()
                assert abs(box.lower[2] - floor.things[thing.on].extent[2]) < 1e-6
            elif KINDS[thing.kind].place != "hung":
                assert abs(box.lower[2]) < 1e-6
            if KINDS[thing.kind].place in ("wall", "hung"):  # its back is at a wall
                back = np.array(thing.position[:2]) - np.array(thing.front) * thing.extent[1] / 2
                assert min(back[0] - x0, x1 - back[0], back[1] - y0, y1 - back[1]) < 0.05
        for door in floor.plan.doors:
            assert not any(door.box.grown(0.05, 0.05).overlaps(box) for box in boxes)


def test_plans_tile_their_outline_and_doors_connect_them() -> None:
    for floor in floors():
        plan = floor.plan
        assert sum(math.prod(room.size) for room in plan.rooms) == pytest.approx(math.prod(plan.outline.size))
        reached, waiting = {0}, [0]
        while waiting:
            here = waiting.pop()
            for a, b in (door.rooms for door in plan.doors):
                for one, other in ((a, b), (b, a)):
                    if one == here and other not in reached:
                        reached.add(other)
                        waiting.append(other)
        assert len(reached) == len(plan.rooms)
        solid = [slab.box for slab in plan.walls if not slab.frame]
        for door in plan.doors:
            assert not any(door.box.grown(-0.01, -0.01, -0.01).overlaps(box) for box in solid)
            for room, side in zip(door.rooms, (-1, 1), strict=True):
                step = np.array([0, side]) if door.along == 0 else np.array([side, 0])
                assert plan.interior(room).contains(*(np.array(door.position) + 0.3 * step))


def mesh_of(shape: str, dims: tuple[float, float, float], o3d):
    make, (a, b, c) = o3d.geometry.TriangleMesh, dims
    if shape == "cube":
        return make.create_box(2 * a, 2 * b, 2 * c).translate((-a, -b, -c))
    if shape == "cylinder":
        return make.create_cylinder(a, 2 * c, 120)
    if shape == "cone":
        return make.create_cone(a, 2 * c, 120).translate((0, 0, -c))
    return make.create_sphere(a, 60) if shape == "sphere" else make.create_torus(a, b, 120, 60)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_exact(kind: str, size: str) -> None:
    """Against the corners of meshes made by Open3D."""
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    thing = Thing(kind=kind, colour="red", size=size, material="matte", position=(1.0, 2.0, 0.3), yaw=0.7)
    corners = []
    for part in thing.parts:
        mesh = mesh_of(part.shape, part.dims, o3d)
        corners.append(np.asarray(mesh.vertices) @ AXES[part.axis].T + part.centre)
    points = np.concatenate(corners) @ thing.rotation.T + thing.position
    np.testing.assert_allclose(thing.box.lower, points.min(0), atol=2e-3)
    np.testing.assert_allclose(thing.box.upper, points.max(0), atol=2e-3)
    # What is said about its size is so.
    width, depth, height = thing.extent
    local = (points - thing.position) @ thing.rotation
    assert np.ptp(local[:, 0]) == pytest.approx(width, abs=0.05)
    assert np.ptp(local[:, 1]) == pytest.approx(depth, abs=0.05)
    assert local[:, 2].min() == pytest.approx(0, abs=1e-6)
    if kind not in ("sink", "stove", "rug", "box"):  # which have something thin on top
        assert np.ptp(local[:, 2]) == pytest.approx(height, abs=0.02)


def test_large_is_larger_in_every_way_that_counts() -> None:
    for kind in KINDS.values():
        small, large = np.array(kind.small), np.array(kind.large)
        assert (large >= small).all()
        assert np.prod(large) > 1.5 * np.prod(small)


def twin(floor: Floor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and ids of all views by Open3D."""
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    stage, scene = floor.stage, o3d.t.geometry.RaycastingScene()
    slabs = [(np.eye(3), (0.0, 0.0, z), ("cube", (50.0, 50.0, 0.5))) for z in (-0.5, CEILING + 0.5)]
    rows = zip(stage.rotation.numpy(), stage.centre.numpy(), stage.kind.tolist(), stage.dims.tolist(), strict=True)
    for turn, centre, (shape, dims) in [*((r, c, (SHAPES[k], d)) for r, c, k, d in rows), *slabs]:
        mesh = mesh_of(shape, dims, o3d)
        mesh.rotate(turn.astype(np.float64), center=(0, 0, 0)).translate(np.array(centre, dtype=np.float64))
        scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    owner = np.array([*stage.owner[: len(stage)].tolist(), 0, 0])
    depth, ids = [], []
    for pose in floor.poses:
        camera = np.linalg.inv(pose)
        rays = scene.create_rays_pinhole(intrinsics((size, size), HALF_FOV), camera, size, size)
        found = scene.cast_rays(rays)
        depth.append(found["t_hit"].numpy())
        ids.append(owner[found["geometry_ids"].numpy()])
    return torch.from_numpy(np.stack(depth)), torch.from_numpy(np.stack(ids))


@pytest.mark.parametrize("seed", [1, 3, 9])
def test_geometry_equals_open3d(seed: int) -> None:
    floor = floor_of(seed)
    depth, ids = twin(floor, 64)
    views = floor.trace(size=(64, 64))
    same = ids == views.ids
    assert same.float().mean() > 0.998
    assert ((depth - views.depth)[same].abs() < 0.01).float().mean() > 0.999
    assert views.depth.min() > 0.1
    assert views.depth.max() < 15
    # By the twin too, everything shows in some view at least as many pixels as it does in its own colour.
    counts = torch.stack([(ids == index + 1).flatten(1).sum(1) for index in range(len(floor.things))], dim=1)
    assert (counts.amax(0) >= SEEN - 2).all()


def test_everything_is_seen_in_its_colour() -> None:
    for floor in floors():
        assert floor.pixels.shape == (len(floor.poses), len(floor.things))
        assert floor.pixels.max(0).min() >= SEEN


def test_colours_can_be_told_from_pixels() -> None:
    """The mean colour of a thing's pixels, free of brightness, is nearest to its own in nearly all best views."""
    right = total = 0
    for floor in floors()[:8]:
        pixels, _ = floor.render(size=(WATCH, WATCH))
        views = floor.trace(size=(WATCH, WATCH))
        own = floor.stage.own[views.parts] > 0
        for index, thing in enumerate(floor.things):
            view = int(floor.pixels[:, index].argmax())
            shown = pixels[view, :, own[view] & (views.ids[view] == index + 1)]
            total += 1
            right += nearest(((shown + 1) / 2).median(dim=1).values) == thing.colour
    assert right / total > 0.97


def nearest(rgb: torch.Tensor) -> str:
    if rgb.amax() - rgb.amin() < 0.12:
        return "white" if rgb.mean() > 0.4 else "black"
    hue = (rgb - rgb.amin()) / (rgb.amax() - rgb.amin())
    table = torch.tensor([TINTS[name] for name in COLOURS[:8]])
    hues = (table - table.amin(1, keepdim=True)) / (table.amax(1, keepdim=True) - table.amin(1, keepdim=True))
    return COLOURS[int((hues - hue).norm(dim=-1).argmin())]


def test_the_same_seed_gives_the_same_floor() -> None:
    first, second = sample_floor(4), sample_floor(4)
    assert first.things == second.things
    assert first.plan.rooms == second.plan.rooms
    np.testing.assert_array_equal(first.poses, second.poses)
    assert torch.equal(first.render([0, 1])[0], second.render([0, 1])[0])
    for one, other in zip(first.points(500), second.points(500), strict=True):
        assert torch.equal(one, other)
    assert floor_of(5).things != first.things


def test_views_rendered_alone_equal_views_rendered_together() -> None:
    floor = floor_of(7)
    pixels, depth = floor.render(size=(40, 56))
    alone, far = floor.render([3], (40, 56))
    torch.testing.assert_close(alone[0], pixels[3], atol=2e-3, rtol=0)
    torch.testing.assert_close(far[0], depth[3])
    assert pixels.isfinite().all()
    assert -1 <= pixels.min() < pixels.max() <= 1


def test_a_scene_has_views_points_and_boxes() -> None:
    floor = floor_of(2)
    scene = floor.scene((64, 64), num_points=4000)
    assert scene.num_views == len(floor.poses)
    assert [box.label for box in scene.boxes] == [thing.kind for thing in floor.things]
    view = scene.view(1)
    assert view.depth is not None
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).view(1, -1, 2)
    points = unproject(pixels, view.depth.view(1, -1), view.world_from_camera[None], view.intrinsics)
    back, depth = project(points, view.world_from_camera[None], view.intrinsics)
    torch.testing.assert_close(back, pixels, atol=1e-2, rtol=0)
    torch.testing.assert_close(depth[0], view.depth.flatten())
    ids = floor.trace([1], (64, 64)).ids.flatten()
    for index, box in enumerate(scene.boxes):
        inside = points[0, ids == index + 1]
        assert ((inside > box.lower - 2e-3) & (inside < box.upper + 2e-3)).all()
    assert len(scene.views[1:3]) == 2


def test_points_lie_on_visible_surfaces() -> None:
    floor = floor_of(6)
    points, colours, ids = floor.points(6000)
    assert len(points) > 5000
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert set(range(1, len(floor.things) + 1)) <= set(ids.tolist())
    for index, thing in enumerate(floor.things):
        own = points[ids == index + 1]
        assert (own > torch.tensor(thing.box.lower) - 1e-4).all()
        assert (own < torch.tensor(thing.box.upper) + 1e-4).all()
    # Seen from the cameras, no point floats in front of what the views show.
    size = 320
    views = floor.trace(size=(size, size))
    poses = torch.from_numpy(floor.poses).float()
    pinhole = torch.from_numpy(intrinsics((size, size), HALF_FOV)).float()
    seen, depth = project(points.expand(len(poses), -1, -1), poses, pinhole)
    column, row = seen[..., 0].floor().long(), seen[..., 1].floor().long()
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size) & (depth > 0.1)
    view = torch.arange(len(poses))[:, None].expand_as(column)
    surface = views.depth[view[inside], row[inside], column[inside]]
    assert (depth[inside] < surface - 0.05).float().mean() < 0.012  # at edges a pixel's centre shows what is behind
    assert ((depth[inside] - surface).abs() < 0.05).float().mean() > 0.3


def test_one_can_walk_past_all_views() -> None:
    for floor in floors()[:8]:
        blocked = [t.box for t in floor.things if t.kind != "rug" and t.position[2] < 1.7]
        blocked += [slab.box for slab in floor.plan.walls if slab.box.lower[2] == 0 and not slab.frame]
        for x, y in floor.route:
            assert all(
                max(box.lower[0] - x, x - box.upper[0], box.lower[1] - y, y - box.upper[1]) > 0.15 for box in blocked
            )
        steps = np.hypot(*np.diff(floor.route, axis=0).T)
        assert steps.max() < 0.15
        for pose, room in zip(floor.poses, floor.view_rooms, strict=True):
            assert np.hypot(*(floor.route - pose[:2, 3]).T).min() < 1e-9
            assert floor.plan.interior(room).contains(*pose[:2, 3])
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
            assert pose[2, 1] < 0  # upright: the camera's y points down


def test_config_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="min_rooms <= max_rooms <= 5, got 3 and 2"):
        FloorConfig(min_rooms=3, max_rooms=2)
    assert len(sample_floor(0, FloorConfig(min_rooms=2, max_rooms=2)).plan.rooms) == 2


def test_pictures_are_drawn() -> None:
    floor = floor_of(6)
    plan = np.asarray(draw_plan(floor))
    assert len(np.unique(plan.reshape(-1, 3), axis=0)) > 10
    sheet = draw_sheet(floor, 32, 2, ["a line"])
    assert sheet.height > 64


@pytest.mark.gpu
def test_cuda_equals_cpu() -> None:
    floor = floor_of(3)
    here, there = floor.render(), floor.render(device="cuda")
    assert (here[0] - there[0].cpu()).abs().mean() < 1e-3
    assert ((here[1] - there[1].cpu()).abs() < 1e-3).float().mean() > 0.999
