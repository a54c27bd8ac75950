from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene_files import apply, levels, opencv, picture, same_view, world_scene

from genworld.data.scene_files import inverse, pinhole
from genworld.data.scenes import open_scenes, recognise
from genworld.data.scenes_scannet import ScanNet, read_axis_alignment
from genworld.data.scenes_sens import Camera, read_sens, seen_by
from genworld.types import Scene, View

NAME = "scene0000_00"


@pytest.fixture(scope="module")
def truth() -> Scene:
    return world_scene(0, num_views=3, height=24, width=32)


def matrix(view: View) -> np.ndarray:
    full = np.eye(4)
    full[:3, :3] = opencv(view)
    return full


def write_exported(folder: Path, scene: Scene) -> Path:
    for part in ("color", "depth", "pose", "intrinsic"):
        (folder / part).mkdir(parents=True)
    for camera in ("color", "depth"):
        np.savetxt(folder / "intrinsic" / f"intrinsic_{camera}.txt", matrix(scene.view(0)))
    for index, view in enumerate(scene.views):
        picture(view).save(folder / "color" / f"{index}.png")
        Image.fromarray(levels(view)).save(folder / "depth" / f"{index}.png")
        np.savetxt(folder / "pose" / f"{index}.txt", view.world_from_camera.numpy())
    return folder


def write_sens(path: Path, scene: Scene, colour: int = 1, depth: int = 1) -> Path:
    view = scene.view(0)
    height, width = view.pixels.shape[1:]
    parts = [struct.pack("<IQ", 4, 4), b"test"]
    parts += [np.asarray(m, "<f4").tobytes() for m in (matrix(view), np.eye(4), matrix(view), np.eye(4))]
    parts.append(struct.pack("<ii4IfQ", colour, depth, width, height, width, height, 1000.0, scene.num_views))
    for each in scene.views:
        image, packed = io.BytesIO(), levels(each).astype("<u2").tobytes()
        picture(each).save(image, "PNG")
        shown = image.getvalue() if colour else np.asarray(picture(each)).tobytes()
        packed = zlib.compress(packed) if depth == 1 else packed
        parts.append(each.world_from_camera.numpy().astype("<f4").tobytes())
        parts.append(struct.pack("<4Q", 0, 0, len(shown), len(packed)))
        parts += [shown, packed]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts))
    return path


def test_exported_frames_come_back(truth: Scene, tmp_path: Path) -> None:
    folder = write_exported(tmp_path / NAME, truth)
    assert recognise(tmp_path) == "scannet"
    np.savetxt(folder / "pose" / "1.txt", np.full((4, 4), np.inf))
    scene = ScanNet(folder).read(NAME)
    assert [view.name for view in scene.views] == ["0", "2"]
    assert "infinite" in scene.skipped[0].reason
    for view in scene.views:
        same_view(view, truth.view(int(view.name)))
    assert ScanNet(folder, every=2).read(NAME).num_views == 2
    assert (scene.points, scene.boxes) == (None, ())


def test_frames_that_lack_something(truth: Scene, tmp_path: Path) -> None:
    folder = write_exported(tmp_path / NAME, truth)
    (folder / "depth" / "0.png").unlink()
    (folder / "pose" / "1.txt").unlink()
    Image.fromarray(np.ones((24, 24), np.uint16)).save(folder / "depth" / "2.png")
    with pytest.raises(ValueError, match="none of its 3 frames can be used") as error:
        ScanNet(folder).read(NAME)
    for reason in ("its depth is missing", "its pose is missing", "of another shape"):
        assert reason in str(error.value)


@pytest.mark.parametrize("codecs", [(1, 1), (0, 0), (2, 1)])
def test_a_sens_file_comes_back(truth: Scene, tmp_path: Path, codecs: tuple[int, int]) -> None:
    write_sens(tmp_path / NAME / f"{NAME}.sens", truth, *codecs)
    scene = open_scenes(tmp_path).read(NAME)
    assert scene.num_views == 3
    for index in range(3):
        same_view(scene.view(index), truth.view(index))


def test_sens_files_that_are_broken(truth: Scene, tmp_path: Path) -> None:
    path = write_sens(tmp_path / f"{NAME}.sens", truth)
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(ValueError, match="it ends within frame 2 of 3"):
        read_sens(path)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="it ends early"):
        read_sens(path)
    path.write_bytes(struct.pack("<I", 3) + data[4:])
    with pytest.raises(ValueError, match=r"expected a .sens file of version 4, got version 3"):
        read_sens(path)
    write_sens(path, truth, 1, 2)
    with pytest.raises(ValueError, match=r"compressed by codecs \(1, 2\)"):
        read_sens(path)
    path.write_bytes(data)
    frame = read_sens(path)[0]
    corrupt = bytearray(data)
    start = frame.offset + frame.sizes[0]
    corrupt[start : start + 4] = b"junk"
    path.write_bytes(bytes(corrupt))
    with pytest.raises(ValueError, match="frame 0: its depth cannot be decompressed"):
        frame.read()


def test_infinite_poses_of_a_sens_file_are_counted(truth: Scene, tmp_path: Path) -> None:
    lost = View(truth.view(1).pixels, truth.view(1).depth, torch.full((4, 4), -torch.inf), truth.view(1).intrinsics)
    write_sens(tmp_path / NAME / f"{NAME}.sens", Scene("x", (truth.view(0), lost)))
    scene = ScanNet(tmp_path).read(NAME)
    assert scene.num_views == 1
    assert scene.skipped[0].name == "1"


def test_colour_is_given_as_the_depth_camera_sees_it() -> None:
    # A ramp of 80 columns seen by a camera of half the size whose view is a little wider: its colours are known.
    ramp = np.tile(np.arange(80, dtype=np.uint8)[None, :, None], (60, 1, 3))
    camera = Camera(30, 40, pinhole(38.0, 38.0, 19.5, 14.5))
    seen = np.asarray(seen_by(Image.fromarray(ramp), pinhole(80.0, 80.0, 39.5, 29.5), camera))
    assert seen.shape == (30, 40, 3)
    columns = np.arange(2, 38)
    expected = (columns + 0.5 - 20) / 38 * 80 + 40 - 0.5
    assert np.abs(seen[15, columns, 0] - expected).max() < 1.1
    assert seen[15, 0, 0] == 0
    assert seen[0, 20, 0] < expected[18] - 1, "beyond the edge it is dark"


def write_mesh(folder: Path) -> tuple[np.ndarray, torch.Tensor]:
    """Two boxes of six and eight vertices, in axes that the alignment turns by 90 degrees and moves."""
    import open3d

    folder.mkdir(exist_ok=True)
    aligned = np.array([[x, y, z] for x in (0, 1) for y in (0, 2) for z in (0, 3)], np.float64)
    aligned = np.concatenate([aligned, aligned * 0.5 + [4, 0, 1]])
    pose = torch.tensor([[0.0, -1, 0, 2], [1, 0, 0, -1], [0, 0, 1, 0.5], [0, 0, 0, 1]])
    world = apply(inverse(pose), torch.from_numpy(aligned).float()).double().numpy()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(world))
    cloud.colors = open3d.utility.Vector3dVector(np.linspace(0, 1, 48).reshape(16, 3))
    open3d.io.write_point_cloud(folder / f"{NAME}_vh_clean_2.ply", cloud)
    segments = {"segIndices": [7] * 4 + [9] * 4 + [5] * 8}
    groups = {
        "segGroups": [
            {"objectId": 0, "label": "chair", "segments": [7, 9]},
            {"objectId": 1, "label": "table", "segments": [5]},
        ]
    }
    (folder / f"{NAME}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    (folder / f"{NAME}.aggregation.json").write_text(json.dumps(groups))
    values = " ".join(f"{x:.6f}" for x in pose.flatten().tolist())
    (folder / f"{NAME}.txt").write_text(f"colorWidth = 1296\naxisAlignment = {values}\nsceneType = Office\n")
    return world, pose


def test_boxes_are_in_aligned_axes_and_points_are_not(tmp_path: Path) -> None:
    world, pose = write_mesh(tmp_path / NAME)
    scene = ScanNet(tmp_path).read(NAME)
    assert scene.points is not None
    assert scene.colours is not None
    assert np.abs(scene.points.numpy() - world).max() < 1e-5
    assert torch.equal(scene.aligned_from_world, pose)
    assert float((scene.colours.flatten() - torch.linspace(0, 1, 48)).abs().max()) < 0.01
    chair, table = scene.boxes
    assert (chair.label, chair.id, table.label, table.id) == ("chair", 0, "table", 1)
    assert torch.allclose(chair.lower, torch.zeros(3), atol=1e-5)
    assert torch.allclose(chair.upper, torch.tensor([1.0, 2.0, 3.0]), atol=1e-5)
    assert torch.allclose(table.centre, torch.tensor([4.25, 0.5, 1.75]), atol=1e-5)
    assert torch.allclose(table.size, torch.tensor([0.5, 1.0, 1.5]), atol=1e-5)
    aligned = scene.aligned_points()
    assert aligned is not None
    assert torch.allclose(aligned[:8].amax(dim=0), chair.upper, atol=1e-5)


def test_a_scan_without_alignment_is_taken_as_it_stands(tmp_path: Path) -> None:
    world, _ = write_mesh(tmp_path / NAME)
    (tmp_path / NAME / f"{NAME}.txt").write_text("colorWidth = 1296\n")
    scene = ScanNet(tmp_path).read(NAME)
    assert torch.equal(scene.aligned_from_world, torch.eye(4))
    assert np.abs(scene.boxes[0].lower.numpy() - world[:8].min(axis=0)).max() < 1e-5
    assert torch.equal(read_axis_alignment(tmp_path / "gone.txt"), torch.eye(4))


def test_broken_annotations_say_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    write_mesh(folder)
    (folder / f"{NAME}.txt").write_text("axisAlignment = 1 0 0\n")
    with pytest.raises(ValueError, match="axisAlignment: expected 16 numbers, got 3"):
        ScanNet(tmp_path).read(NAME)
    (folder / f"{NAME}.txt").unlink()
    segments = folder / f"{NAME}_vh_clean_2.0.010000.segs.json"
    segments.write_text(json.dumps({"segIndices": [1, 2]}))
    with pytest.raises(ValueError, match="segments of 2 vertices, but the mesh has 16"):
        ScanNet(tmp_path).read(NAME)
    segments.write_text(json.dumps({"segIndices": [7] * 16}))
    with pytest.raises(ValueError, match=r"object 1 \(table\) has no vertex"):
        ScanNet(tmp_path).read(NAME)
    segments.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        ScanNet(tmp_path).read(NAME)
