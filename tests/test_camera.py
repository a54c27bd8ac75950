"""Camera paths in words and in files: what is asked for is what the world's cameras do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genworld.data.synthetic import camera_path
from genworld.ops.geometry import project, relative_to_first
from genworld.pipelines.camera import parse_camera
from genworld.types import CameraPath, ClipShape
from genworld.world.cameras import Camera

SHAPE = ClipShape(9, 48, 64, 8.0)
TARGET = torch.tensor(Camera().target)


def close(one: CameraPath, other: CameraPath) -> None:
    torch.testing.assert_close(one.world_from_camera, other.world_from_camera, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.intrinsics, other.intrinsics)


def seen(path: CameraPath, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    points = point.expand(len(path), 1, 3)
    pixels, depth = project(points, path.world_from_camera, path.intrinsics)
    return pixels[:, 0], depth[:, 0]


def test_standing_is_the_worlds_standing_camera() -> None:
    for text in ("stand", "orbit:0deg", "dolly:0m,pan:-0deg"):
        close(parse_camera(text, SHAPE), camera_path(Camera(), SHAPE))


@pytest.mark.parametrize("degrees", [30.0, -12.5])
def test_an_orbit_is_the_worlds_orbit(degrees: float) -> None:
    rate = math.radians(degrees) / ((SHAPE.num_frames - 1) / SHAPE.fps)
    path = parse_camera(f"orbit:{degrees:+}deg", SHAPE)
    close(path, camera_path(Camera(motion="orbit", rate=rate), SHAPE))
    pixels, depth = seen(path, TARGET)  # stays in the middle, as far away as it was
    torch.testing.assert_close(pixels, torch.tensor([32.0, 24.0]).expand(9, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, depth[:1].expand(9))


@pytest.mark.parametrize(("motion", "sign"), [("dolly", 1), ("dolly", -1), ("pan", 1), ("pan", -1)])
def test_the_other_motions_go_the_way_of_the_worlds(motion, sign) -> None:
    """The world's slow down; where ours ends must be a place that the world's passes."""
    theirs = camera_path(Camera(motion=motion, rate=0.1 * sign), replace_frames(SHAPE, 2)).world_from_camera[1]
    if motion == "dolly":
        start = torch.from_numpy(Camera().world_from_camera(np.zeros(1))[0]).float()
        text = f"dolly:{sign * float((theirs - start)[:3, 3].norm()):.6f}m"
    else:
        text = f"pan:{math.degrees(0.1 * sign * 3.0 * -math.expm1(-0.125 / 3.0)):.6f}deg"
    path = parse_camera(text, SHAPE)
    torch.testing.assert_close(path.world_from_camera[-1], theirs, atol=1e-5, rtol=1e-5)


def replace_frames(shape: ClipShape, frames: int) -> ClipShape:
    return shape._replace(num_frames=frames)


def test_a_dolly_comes_closer_along_the_optical_axis_at_a_steady_pace() -> None:
    path = relative_to_first(parse_camera("dolly:0.8m", SHAPE).world_from_camera)
    torch.testing.assert_close(path[:, :3, :3], torch.eye(3).expand(9, 3, 3), atol=1e-6, rtol=0)
    steps = torch.linspace(0, 0.8, 9)
    torch.testing.assert_close(path[:, :3, 3], torch.stack([0 * steps, 0 * steps, steps], 1), atol=1e-5, rtol=0)


def test_a_pan_turns_right_on_the_spot() -> None:
    path = parse_camera("pan:20deg", SHAPE)
    torch.testing.assert_close(path.world_from_camera[:, :3, 3], path.world_from_camera[:1, :3, 3].expand(9, 3))
    columns = seen(path, TARGET)[0][:, 0]
    assert (columns.diff() < 0).all()  # what is seen moves left
    turned = torch.acos((path.world_from_camera[0, :2, 0] * path.world_from_camera[-1, :2, 0]).sum())
    assert math.degrees(float(turned)) == pytest.approx(20, abs=1e-3)


def test_motions_joined_are_done_at_once() -> None:
    both = parse_camera("orbit:+30deg, dolly:0.5m", SHAPE)
    orbit = parse_camera("orbit:30deg", SHAPE)
    closer = parse_camera("dolly:0.5m", SHAPE)
    torch.testing.assert_close(both.world_from_camera[:, :3, :3], orbit.world_from_camera[:, :3, :3])
    torch.testing.assert_close(seen(both, TARGET)[1], seen(closer, TARGET)[1])


def test_another_view_can_be_asked_for() -> None:
    view = Camera(azimuth=1.0, distance=3.0, height=1.2, half_fov=0.5)
    close(parse_camera("stand", SHAPE, view), camera_path(view, SHAPE))
    orbit = parse_camera("orbit:10deg", SHAPE, replace(view, motion="pan", rate=1.0))  # only where it stands counts
    close(orbit, parse_camera("orbit:10deg", SHAPE, view))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not understood: give orbit:"),
        ("orbit", "'orbit' is not understood: give orbit:"),
        ("zoom:2m", "'zoom:2m' is not understood"),
        ("orbit:1e3deg", "is not understood"),
        ("orbit:nandeg", "is not understood"),
        ("orbit:30deg,", "'' is not understood"),
        ("orbit:30", "orbit is measured in deg"),
        ("orbit:30m", "orbit is measured in deg"),
        ("dolly:1deg", "dolly is measured in m"),
        ("pan:3deg,pan:4deg", "pan comes twice"),
        ("dolly:7.5m", "pass through what it looks at, 7.2 m away"),
        ("no/such/path.json", "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_camera(text, SHAPE)
    assert "\n" not in str(caught.value)


def test_an_image_has_no_motion() -> None:
    image = ClipShape(1, 32, 32, 1.0)
    assert len(parse_camera("stand", image)) == 1
    with pytest.raises(ValueError, match="a single frame shows no motion"):
        parse_camera("pan:1deg", image)


# ---- files ----


def entries(path: CameraPath) -> dict:
    return {"world_from_camera": path.world_from_camera.tolist(), "intrinsics": path.intrinsics.tolist()}


def test_a_file_gives_the_path_it_holds(tmp_path: Path) -> None:
    asked = parse_camera("orbit:40deg,dolly:1m", SHAPE)
    file = tmp_path / "path, two.json"
    file.write_text(json.dumps(entries(asked)))
    close(parse_camera(str(file), SHAPE), asked)


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (100, 64), (48, 200)])
def test_intrinsics_of_another_size_are_fitted_as_clips_are(tmp_path: Path, size: tuple[int, int]) -> None:
    """Covered and cut in the middle: what was in the middle stays there, and pixels stay square."""
    asked = parse_camera("stand", SHAPE._replace(height=size[0], width=size[1]))
    file = tmp_path / "path.json"
    file.write_text(json.dumps({**entries(asked), "size": size}))
    path = parse_camera(str(file), SHAPE)
    torch.testing.assert_close(path.intrinsics[:2, 2], torch.tensor([32.0, 24.0]))
    scale = max(48 / size[0], 64 / size[1])
    torch.testing.assert_close(path.intrinsics.diagonal()[:2], asked.intrinsics.diagonal()[:2] * scale)


def edited(good: dict, index: tuple, factor: float, add: float = 0.0) -> dict:
    poses = np.array(good["world_from_camera"])
    poses[index] = factor * poses[index] + add
    return {**good, "world_from_camera": poses.tolist()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda good: good["intrinsics"], "expected an object with world_from_camera, intrinsics .* got a list"),
        (lambda good: {"intrinsics": good["intrinsics"]}, r"got \['intrinsics'\]"),
        (lambda good: {**good, "fov": 3}, "optionally, size; got .*fov"),
        (
            lambda good: {**good, "world_from_camera": good["world_from_camera"][:4]},
            "4 poses, but the video has 9 frames: give one pose per frame, or ask for 4 frames",
        ),
        (
            lambda good: {**good, "world_from_camera": [pose[:3] for pose in good["world_from_camera"]]},
            "world_from_camera must be 9x4x4 numbers, got 9x3x4",
        ),
        (lambda good: {**good, "intrinsics": "wide"}, "intrinsics must be nested lists of numbers, 3x3 of them"),
        (lambda good: {**good, "intrinsics": 3}, "intrinsics must be 3x3 numbers, got one"),
        (lambda good: {**good, "world_from_camera": [[1.0], [1.0, 2.0]]}, "must be nested lists of numbers"),
        (lambda good: edited(good, np.s_[3, :3, :3], 1.1), "pose 3 of .* is not a rotation and a translation"),
        (lambda good: edited(good, np.s_[2, :3, 0], -1.0), "pose 2 .* determinant"),
        (lambda good: edited(good, np.s_[1, 3, 0], 1.0, 1.0), "pose 1 .* last row 0 0 0 1"),
        (lambda good: edited(good, np.s_[0, 0, 3], 1.0, math.inf), "world_from_camera holds numbers that are not fin"),
        (lambda good: {**good, "intrinsics": np.diag([-1.0, 1.0, 1.0]).tolist()}, "positive focal lengths"),
        (lambda good: {**good, "size": [0, 4]}, r"size must be a positive height and width, got \[0, 4\]"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, change: Callable[[dict], object], message: str) -> None:
    file = tmp_path / "path.json"
    file.write_text(json.dumps(change(entries(parse_camera("orbit:5deg", SHAPE)))))
    with pytest.raises(ValueError, match=message) as caught:
        parse_camera(str(file), SHAPE)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    file = tmp_path / "path.json"
    file.write_text("orbit")
    with pytest.raises(ValueError, match="not valid JSON"):
        parse_camera(str(file), SHAPE)
