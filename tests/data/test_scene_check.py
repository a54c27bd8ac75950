from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scene_files import ROOM, apply, change, in_memory, move_box, offset, world_scene

from genworld.data.scene_axes import UPS, aligned_from_up, estimate_up, up_vector
from genworld.data.scene_check import CAUSES, check_scene
from genworld.data.scene_files import OPENCV_FROM_OPENGL, inverse
from genworld.data.scene_hypotheses import Convention, Rays, fit_boxes, points_of, rays_of, reproject
from genworld.data.scenes_rgbd import RgbdFolder
from genworld.types import Scene, SceneBox
from genworld.world.rooms import sample_floor

Z_FROM_Y = aligned_from_up(up_vector("y"))
VEHICLE = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def turned(degrees: float, x: float, y: float, z: float) -> torch.Tensor:
    pose = torch.eye(4)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pose[:2, :2], pose[:3, 3] = torch.tensor([[cos, -sin], [sin, cos]]), torch.tensor([x, y, z])
    return pose


# What is done to a scene that was right, and every cause that has to be named; none other may be.
SWAPS: dict[str, tuple[Callable[[Scene], Scene], set[str]]] = {
    "nothing": (lambda s: s, set()),
    "camera from world": (lambda s: change(s, inverse), {"camera_from_world"}),
    "OpenGL": (lambda s: change(s, lambda p: p @ OPENCV_FROM_OPENGL), {"opengl_camera"}),
    "OpenGL view matrix": (
        lambda s: change(s, lambda p: inverse(p @ OPENCV_FROM_OPENGL)),
        {"camera_from_world", "opengl_camera"},
    ),
    "vehicle": (lambda s: change(s, lambda p: p @ inverse(VEHICLE)), {"vehicle_camera"}),
    "depth in mm": (lambda s: change(s, depth=lambda d: d * 1000), {"depth_in_millimetres"}),
    "depth in mm, camera from world": (
        lambda s: change(s, inverse, lambda d: d * 1000),
        {"depth_in_millimetres", "camera_from_world"},
    ),
    "depth divided twice": (lambda s: change(s, depth=lambda d: d / 1000), {"depth_divided_twice"}),
    "poses in mm": (lambda s: change(s, lambda p: offset(p, 1000)), {"poses_in_millimetres"}),
    "all in mm": (lambda s: change(s, lambda p: offset(p, 1000), lambda d: d * 1000), {"all_in_millimetres"}),
    "y up": (
        lambda s: replace(s, aligned_from_world=inverse(Z_FROM_Y) @ s.aligned_from_world, boxes=()),
        {"not_z_up"},
    ),
}


@pytest.fixture(scope="module")
def world() -> Scene:
    return world_scene(5)


@pytest.fixture(scope="module")
def room() -> Scene:
    if not ROOM.is_dir():
        pytest.skip(f"the real room is not here: {ROOM}")
    return in_memory(RgbdFolder(ROOM).read(ROOM.name), 12)


@pytest.mark.parametrize("swap", SWAPS)
def test_every_swap_of_a_world_scene_is_named(world: Scene, swap: str) -> None:
    make, causes = SWAPS[swap]
    report = check_scene(make(world))
    assert set(report.causes) == causes, report
    assert not [f for f in report.findings if f.verdict == "unknown"], report


@pytest.mark.parametrize("swap", SWAPS)
def test_every_swap_of_the_real_room_is_named(room: Scene, swap: str) -> None:
    make, causes = SWAPS[swap]
    report = check_scene(make(room))
    assert set(report.causes) == causes, report
    assert causes <= set(CAUSES)


@pytest.fixture(scope="module")
def unaligned(world: Scene) -> Scene:
    """The world scene as ScanNet would give it: recorded in other axes, with an alignment."""
    pose = turned(40, 1.5, -0.8, 0.1)
    scene = change(world, lambda p: inverse(pose) @ p)
    return replace(scene, aligned_from_world=pose, points=points_of(scene.views, 500).float())


def test_boxes_in_the_wrong_axes_are_named(unaligned: Scene) -> None:
    pose = unaligned.aligned_from_world
    assert check_scene(unaligned).causes == ()

    def with_boxes(change_by: torch.Tensor) -> str:
        report = check_scene(replace(unaligned, boxes=tuple(move_box(change_by, box) for box in unaligned.boxes)))
        assert set(report.causes) <= {"unaligned_boxes", "misplaced_boxes"}, report
        return report.finding("boxes").says

    assert "in the world's axes, unaligned" in with_boxes(inverse(pose))
    assert "aligned twice" in with_boxes(pose)
    assert "y up" in with_boxes(inverse(Z_FROM_Y))
    assert "millimetres" in with_boxes(torch.diag(torch.tensor([1e3, 1e3, 1e3, 1.0])))


def test_boxes_without_their_alignment_are_found_out(unaligned: Scene) -> None:
    report = check_scene(replace(unaligned, aligned_from_world=torch.eye(4)))
    assert report.finding("boxes").verdict == "wrong"
    evidence = report.finding("boxes").evidence
    assert max(evidence["best nudged"] - 0.05, evidence["best elsewhere"]) > evidence["solid as given"]


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_furnished_rooms_are_right_as_they_are_and_wrong_when_moved(seed: int) -> None:
    # Walls hide one room from the views of another: that is no contradiction.
    scene = in_memory(sample_floor(seed).scene((64, 64), 2000), 12)
    report = check_scene(scene)
    assert report.causes == (), report
    assert report.finding("boxes").verdict == "right"
    moved = torch.tensor([0.5, 0.3, 0.0])
    boxes = tuple(replace(box, lower=box.lower + moved, upper=box.upper + moved) for box in scene.boxes)
    assert check_scene(replace(scene, boxes=boxes)).finding("boxes").verdict == "wrong"
    assert check_scene(change(scene, inverse)).causes[0] == "camera_from_world"


def test_points_in_the_wrong_axes_are_named(unaligned: Scene) -> None:
    assert unaligned.points is not None
    aligned = apply(unaligned.aligned_from_world, unaligned.points)
    says = check_scene(replace(unaligned, points=aligned)).finding("points").says
    assert "in the scene's axes" in says
    assert "millimetres" in check_scene(replace(unaligned, points=unaligned.points * 1000)).finding("points").says


def test_turning_on_the_spot_leaves_units_open(world: Scene) -> None:
    eye = world.views[0].world_from_camera
    views = tuple(
        replace(world.views[0], world_from_camera=eye @ turn)
        for turn in [torch.eye(4), *(torch.eye(4) for _ in range(2))]
    )
    report = check_scene(replace(world, views=views, boxes=()))
    assert report.finding("units").verdict == "unknown"
    assert "hardly move" in report.finding("units").says


def test_views_of_nothing_in_common_leave_poses_open(world: Scene) -> None:
    apart = [
        replace(view, world_from_camera=turned(0, 1e5 * i, 0, 0) @ view.world_from_camera)
        for i, view in enumerate(world.views[:3])
    ]
    report = check_scene(replace(world, views=tuple(apart), boxes=()))
    assert report.finding("poses").verdict == "unknown"
    assert "no two of the views look at the same place" in report.finding("poses").says


def test_evidence_of_a_right_scene(world: Scene) -> None:
    fits = reproject(world.views)
    right = fits.pop(Convention())
    assert right.agreement > 0.6  # the rest is mostly hidden by something
    assert right.error < 0.02
    assert right.in_front < 0.05
    assert right.confirmed > 1.3 * max(fit.confirmed for fit in fits.values())
    assert "0 left out" in str(check_scene(world))


def test_solidity_of_boxes_is_exact_for_an_exact_case() -> None:
    # One eye on the x axis, rays at a wall x = 5: a box around part of it stops them, one before it does not.
    ends = torch.cartesian_prod(torch.tensor([5.0]), torch.linspace(-1, 1, 21), torch.linspace(-1, 1, 21)).double()
    rays = Rays(torch.zeros_like(ends), ends)
    on, before = (
        SceneBox("box", 0, torch.tensor([x, -1.0, -1.0]), torch.tensor([x + 1, 1.0, 1.0])) for x in (4.5, 2.0)
    )
    assert fit_boxes(rays, [on]) == 1.0
    assert fit_boxes(rays, [before]) == 0.0
    assert fit_boxes(rays, [on, before]) == 0.5


def test_an_empty_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="empty scene: it has neither views nor points"):
        check_scene(Scene("nothing"))
    assert check_scene(Scene("cloud", points=torch.rand(10, 3))).findings == ()


@pytest.mark.parametrize("up", UPS)
def test_up_is_found_and_taken_to_z(world: Scene, up: str) -> None:
    pose = aligned_from_up(up_vector(up))
    assert torch.allclose(pose[:3, :3] @ up_vector(up), torch.tensor([0.0, 0.0, 1.0]))
    assert torch.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    given = change(world, lambda p: inverse(pose) @ p)
    assert torch.equal(estimate_up(given.views), up_vector(up))


def test_a_tilted_world_is_told_and_measured(world: Scene) -> None:
    lean = aligned_from_up(torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 1.0]), dim=0))
    given = change(world, lambda p: inverse(lean) @ p)
    assert torch.rad2deg(torch.acos(lean[2, :3] @ estimate_up(given.views))) < 0.5
    report = check_scene(replace(given, boxes=()))
    assert report.causes == ("tilted",)
    expected = math.degrees(math.acos(float(lean[2, 2])))
    assert report.finding("up").evidence["degrees between z and up"] == pytest.approx(expected, abs=0.5)


def test_upside_of_the_real_room_is_steady(room: Scene) -> None:
    thirds = [estimate_up(room.views[i : i + 4]) for i in (0, 4, 8)]
    mean = torch.nn.functional.normalize(torch.stack(thirds).mean(dim=0), dim=0)
    assert min(float(mean @ up) for up in thirds) > math.cos(math.radians(1.0))


def test_intrinsics_of_another_size_are_named(world: Scene) -> None:
    doubled = torch.diag(torch.tensor([2.0, 2.0, 1.0]))
    views = tuple(replace(view, intrinsics=doubled @ view.intrinsics) for view in world.views)
    assert "principal_point" in check_scene(replace(world, views=views)).causes


def test_rays_end_on_surfaces(world: Scene) -> None:
    rays = rays_of(world.views, 100)
    assert len(rays.ends) == 100 * world.num_views
    below = rays.ends[:, 2] < -1e-3
    assert not bool(below.any()), "nothing lies under the floor"
