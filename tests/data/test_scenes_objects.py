from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genworld.data.scenes import open_scenes, recognise
from genworld.data.scenes_objects import Cap3D, ModelNet, ScanObjectNN, ShapeNet, read_off, sample_surface

CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 2) for z in (0, 3)]
FACES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def off(header: str = "OFF\n8 6 0\n") -> str:
    lines = [" ".join(map(str, corner)) for corner in CORNERS] + [f"4 {' '.join(map(str, face))}" for face in FACES]
    return header + "\n".join(lines) + "\n"


@pytest.mark.parametrize("header", ["OFF\n8 6 0\n", "OFF8 6 0\n", "OFF\n# made by hand\n8 6 0\n"])
def test_off_files_and_the_glued_header(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.off"
    path.write_text(off(header))
    points, triangles = read_off(path)
    assert points.tolist() == [list(map(float, corner)) for corner in CORNERS]
    assert len(triangles) == 12
    corners = points[triangles]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1) / 2
    assert float(areas.sum()) == pytest.approx(2 * (2 + 3 + 6))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("PLY\n", "expected it to begin with OFF"),
        ("", "expected it to begin with OFF"),
        (off()[:-20], "not a whole .off file"),
        ("OFF\n1 1 0\n0 0 0\n3 0 0 7\n", "corners"),
        ("OFF\nx 1 0\n", "not a whole .off file"),
    ],
)
def test_off_files_that_are_broken(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "a.off"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_off(path)


def test_modelnet(tmp_path: Path) -> None:
    path = tmp_path / "night_stand" / "train" / "night_stand_0007.off"
    path.parent.mkdir(parents=True)
    path.write_text(off("OFF8 6 0\n"))
    source = open_scenes(tmp_path)
    assert isinstance(source, ModelNet)
    assert list(source.names) == ["night_stand/train/night_stand_0007"]
    scene = source.read(source.names[0])
    assert (scene.text, scene.boxes[0].label, scene.num_views) == ("night_stand", "night_stand", 0)
    assert scene.points is not None
    assert scene.points.shape == (8192, 3)
    assert torch.allclose(scene.boxes[0].upper, torch.tensor([1.0, 2.0, 3.0]), atol=0.01)
    again = ModelNet(tmp_path).read(source.names[0])
    assert torch.equal(scene.points, again.points)
    with pytest.raises(ValueError, match="no scene 'x'"):
        source.read("x")


def test_points_are_spread_evenly_over_the_surface(tmp_path: Path) -> None:
    path = tmp_path / "a.off"
    path.write_text(off())
    points = sample_surface(*read_off(path), 22000, "a")
    on = {
        "x": ((points[:, 0] < 1e-5) | (points[:, 0] > 1 - 1e-5)).sum(),
        "y": ((points[:, 1] < 1e-5) | (points[:, 1] > 2 - 1e-5)).sum(),
        "z": ((points[:, 2] < 1e-5) | (points[:, 2] > 3 - 1e-5)).sum(),
    }
    for axis, area in {"x": 12, "y": 6, "z": 4}.items():
        assert int(on[axis]) == pytest.approx(area / 22 * 22000, rel=0.05)
    assert points.mean(dim=0).tolist() == pytest.approx([0.5, 1.0, 1.5], abs=0.03)
    with pytest.raises(ValueError, match="an empty model"):
        sample_surface(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), 10, "dot")


@pytest.mark.parametrize("place", ["02691156/abc/models/model_normalized.obj", "02691156/abc/model.obj"])
def test_shapenet_is_turned_from_y_to_z(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    vertices = [f"v {x} {y} {z}" for x, y, z in CORNERS]
    faces = [f"f {' '.join(str(corner + 1) for corner in face)}" for face in FACES]
    path.write_text("\n".join(vertices + faces) + "\n")
    source = open_scenes(tmp_path)
    assert isinstance(source, ShapeNet)
    assert list(source.names) == ["02691156/abc"]
    assert source.read("02691156/abc").text == "02691156"
    (tmp_path / "taxonomy.json").write_text(json.dumps([{"synsetId": "02691156", "name": "airplane,aeroplane"}]))
    scene = ShapeNet(tmp_path).read("02691156/abc")
    assert scene.text == "airplane"
    assert scene.points is not None
    assert scene.points.amax(dim=0).tolist() == pytest.approx([1, 2, 3], abs=0.01)
    assert scene.boxes[0].size.tolist() == pytest.approx([1, 3, 2], abs=0.02), "y became the height"
    assert scene.boxes[0].lower.tolist() == pytest.approx([0, -3, 0], abs=0.02)


def test_scanobjectnn(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is an optional extra")
    points = torch.rand(2, 64, 3).numpy()
    mask = np.zeros((2, 64), np.int64)
    points[1, :32], mask[1, :32] = 9.0, -1
    with h5py.File(tmp_path / "test_objectdataset.h5", "w") as file:
        file["data"], file["label"], file["mask"] = points, np.array([4, 14]), mask
    source = open_scenes(tmp_path)
    assert isinstance(source, ScanObjectNN)
    assert list(source.names) == ["test_objectdataset/0", "test_objectdataset/1"]
    chair, toilet = (source.read(name) for name in source.names)
    assert (chair.text, toilet.text) == ("chair", "toilet")
    assert toilet.points is not None
    assert np.array_equal(toilet.points.numpy(), points[1])
    assert float(toilet.boxes[0].upper.max()) <= 1.0, "background is no part of the object's box"
    assert list(ScanObjectNN(tmp_path / "test_objectdataset.h5").names) == list(source.names)
    with pytest.raises(ValueError, match="no row '7': it has 2"):
        source.read("test_objectdataset/7")
    (tmp_path / "bad.h5").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"bad.h5: not a readable .h5 file"):
        _ = ScanObjectNN(tmp_path / "bad.h5").names
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["data"], file["label"] = points, np.array([15, -1])
    with pytest.raises(ValueError, match="label 15 is none of the 15 classes"):
        ScanObjectNN(tmp_path / "bad.h5").read("bad/0")


def test_cap3d(tmp_path: Path) -> None:
    uid, other = "0" * 32, "f" * 64
    path = tmp_path / "captions.csv"
    path.write_text(f'{uid},"A red car, with ""wings""."\n{other},A chair.\n')
    assert recognise(path) == "cap3d"
    folder = tmp_path / "PointCloud_pt"
    folder.mkdir()
    cloud = torch.cat([torch.rand(3, 50) - 0.5, torch.randint(0, 256, (3, 50)).float()])
    torch.save(cloud, folder / f"{uid}.pt")
    source = Cap3D(path)
    assert list(source.names) == [uid, other]
    scene = source.read(uid)
    assert scene.text == 'A red car, with "wings".'
    assert scene.points is not None
    assert scene.colours is not None
    assert torch.equal(scene.points, cloud[:3].T)
    assert torch.allclose(scene.colours, cloud[3:].T / 255)
    alone = source.read(other)
    assert (alone.text, alone.points) == ("A chair.", None)
    with pytest.raises(ValueError, match="no caption of 'x'"):
        source.read("x")
    torch.save(torch.zeros(5, 3), folder / f"{other}.pt")
    with pytest.raises(ValueError, match=r"expected a tensor \(6, N\)"):
        source.read(other)
    torch.save({"points": 1}, folder / f"{other}.pt")
    with pytest.raises(ValueError, match="expected a tensor, got dict"):
        source.read(other)
    (folder / f"{other}.pt").write_bytes(b"junk")
    with pytest.raises(ValueError, match="not a readable tensor"):
        source.read(other)
    path.write_text("a,b,c\n")
    with pytest.raises(ValueError, match="row 1: expected uid,caption, got 3 cells"):
        _ = Cap3D(path).names


def test_folders_of_something_else(tmp_path: Path) -> None:
    for reader in (ModelNet, ShapeNet, ScanObjectNN):
        with pytest.raises(ValueError, match="expected a folder with"):
            _ = reader(tmp_path).names
    with pytest.raises(ValueError, match="no such file"):
        _ = Cap3D(tmp_path / "gone.csv").names
