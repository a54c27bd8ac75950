from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genworld.data.scene_files import inverse
from genworld.data.scene_picture import coloured_points, draw_scene
from genworld.types import Scene, View
from genworld.world.rooms import FloorConfig, sample_floor
from tools import inspect_scene

ROOT = Path(__file__).resolve().parents[1]


def small_room() -> Scene:
    scene = sample_floor(0, FloorConfig(max_rooms=1)).scene((48, 64), 2000)
    return replace(scene, views=tuple(scene.views[i] for i in range(scene.num_views)))


def write(folder: Path, scene: Scene, change_pose: bool = False) -> Path:
    """The plain layout; with `change_pose`, poses are camera-from-world."""
    folder.mkdir()
    k = scene.view(0).intrinsics.double().numpy().copy()
    k[:2, 2] -= 0.5
    np.savetxt(folder / "camera-intrinsics.txt", k)
    for view in scene.views:
        assert view.depth is not None
        stem = folder / f"view-{view.name.replace('/', '-')}"
        colour = ((view.pixels.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
        Image.fromarray(colour).save(f"{stem}.color.png")
        Image.fromarray((view.depth * 1000).round().numpy().astype(np.uint16)).save(f"{stem}.depth.png")
        pose = inverse(view.world_from_camera) if change_pose else view.world_from_camera
        np.savetxt(f"{stem}.pose.txt", pose.numpy())
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/inspect_scene.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_scene_is_described_checked_and_drawn(tmp_path: Path) -> None:
    folder = write(tmp_path / "room", small_room())
    done = run(str(folder), "--out", str(tmp_path / "out" / "room.png"))
    assert done.returncode == 0, done.stderr
    assert "1 scenes, read by RgbdFolder" in done.stdout
    assert "views of 64x48, depth in" in done.stdout
    assert "world-from-camera with OpenCV axes explains the views best" in done.stdout
    assert "z is up" in done.stdout
    with Image.open(tmp_path / "out" / "room.png") as picture:
        assert picture.width > 1000
    done = run(str(folder), "--out", str(tmp_path / "lifted.png"), "--lift", "direct", "fusion")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left out []") == 2


def test_what_is_wrong_is_said_and_is_the_exit_code(tmp_path: Path) -> None:
    folder = write(tmp_path / "room", small_room(), change_pose=True)
    done = run(str(folder), "--out", str(tmp_path / "room.png"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the poses look like camera-from-world" in done.stdout
    done = run(str(tmp_path / "gone"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no such file or folder" in done.stderr


def test_a_lost_frame_is_listed_and_the_rest_is_lifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "room", small_room())
    lost = sorted(folder.glob("*.depth.png"))[1]
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(lost)
    words = [str(folder), "--views", "99", "--out", str(tmp_path / "lifted.png"), "--lift", "direct"]
    monkeypatch.setattr("sys.argv", ["inspect_scene.py", *words])
    assert inspect_scene.main() == 0
    said = capsys.readouterr().out
    assert f"1 left out\n  {lost.name.removesuffix('.depth.png')}: " in said
    assert "its depth has not one valid reading" in said
    assert "direct: " in said


def test_points_and_colours_belong_together() -> None:
    # One pixel in four has depth; its colour tells which, and its place in the scene's axes is known.
    pixels = -torch.ones(3, 2, 2)
    pixels[0, 1, 0] = 1.0
    depth = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    k = torch.tensor([[1.0, 0, 1], [0, 1.0, 1], [0, 0, 1]])
    z_from_down = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    scene = Scene("dot", (View(pixels, depth, torch.eye(4), k),), aligned_from_world=z_from_down)
    points, colours = coloured_points(scene, scene.views)
    assert points.tolist() == [[-1.0, -1.0, -2.0]]
    assert colours.tolist() == [[1.0, 0.0, 0.0]]
    cloud = Scene("cloud", points=torch.tensor([[1.0, 2.0, 3.0]]), aligned_from_world=z_from_down)
    assert coloured_points(cloud, ())[0].tolist() == [[1.0, -2.0, -3.0]]


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_scene(Scene("empty"), (), tmp_path / "x.png")
