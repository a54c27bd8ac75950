from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene_files import ROOM, change, opencv, picture, same_view, world_scene, write_rgbd

from genworld.data.scene_axes import aligned_from_up, up_vector
from genworld.data.scene_files import (
    OPENCV_FROM_OPENGL,
    LazyViews,
    from_quaternion,
    inverse,
    read_matrix,
    without_unreadable,
)
from genworld.data.scenes import READERS, open_scenes, recognise
from genworld.data.scenes_rgbd import HabitatRooms, RgbdFolder, read_hm3d_semantics
from genworld.ops.geometry import unproject
from genworld.types import Scene, View


@pytest.fixture(scope="module")
def truth() -> Scene:
    return world_scene(0, num_views=4, height=24, width=32)


@pytest.fixture
def folder(truth: Scene, tmp_path: Path) -> Path:
    return write_rgbd(tmp_path / "room", truth)


def test_a_folder_comes_back_as_it_was_written(folder: Path, truth: Scene) -> None:
    source = open_scenes(folder)
    assert isinstance(source, RgbdFolder)
    assert list(source.names) == ["room"]
    scene = source.read("room")
    assert scene.num_views == 4
    assert scene.skipped == ()
    assert isinstance(scene.views, LazyViews)
    for index in range(4):
        same_view(scene.view(index), truth.view(index))
    assert scene.view(2).name == "frame-000002"
    assert torch.equal(scene.aligned_from_world, torch.eye(4)), "a z-up world stays as it is"
    assert [view.name for view in scene.views[1:3]] == ["frame-000001", "frame-000002"]


def test_a_folder_of_folders_and_unknown_names(folder: Path, truth: Scene) -> None:
    write_rgbd(folder.parent / "hall", truth)
    source = open_scenes(folder.parent)
    assert list(source.names) == ["hall", "room"]
    with pytest.raises(ValueError, match="no scene 'cellar': there are 2, such as hall, room"):
        source.read("cellar")


def test_up_comes_from_the_file_the_option_or_the_views(truth: Scene, tmp_path: Path) -> None:
    pose = aligned_from_up(up_vector("-y"))
    folder = write_rgbd(tmp_path / "room", change(truth, lambda p: inverse(pose) @ p))
    estimated = RgbdFolder(folder).read("room").aligned_from_world
    assert torch.allclose(estimated, pose)
    assert torch.equal(RgbdFolder(folder, up="x").read("room").aligned_from_world, aligned_from_up(up_vector("x")))
    np.savetxt(folder / "aligned-from-world.txt", np.diag([1.0, -1.0, -1.0, 1.0]))
    assert torch.equal(RgbdFolder(folder).read("room").aligned_from_world, torch.diag(torch.tensor([1.0, -1, -1, 1])))


def test_unusable_frames_are_counted_with_their_reasons(folder: Path) -> None:
    (folder / "frame-000000.pose.txt").unlink()
    np.savetxt(folder / "frame-000001.pose.txt", np.full((4, 4), -np.inf))
    Image.fromarray(np.ones((12, 16), np.uint16)).save(folder / "frame-000002.depth.png")
    scene = RgbdFolder(folder).read("room")
    assert scene.num_views == 1
    reasons = dict(scene.skipped)
    assert "its pose is missing" in reasons["frame-000000"]
    assert "infinite" in reasons["frame-000001"]
    assert "its depth is 16x12 but its picture 32x24" in reasons["frame-000002"]
    (folder / "frame-000003.depth.png").unlink()
    with pytest.raises(ValueError, match=r"an empty scene: none of its 4 frames can be used:(.|\n)*pose is missing"):
        RgbdFolder(folder).read("room")


def test_a_view_without_a_single_reading(folder: Path) -> None:
    Image.fromarray(np.zeros((24, 32), np.uint16)).save(folder / "frame-000001.depth.png")
    scene = RgbdFolder(folder, up="z").read("room")
    with pytest.raises(ValueError, match=r"frame-000001.depth.png: its depth has not one valid reading"):
        scene.view(1)
    rest = without_unreadable(scene)
    assert rest.num_views == 3
    assert [item.name for item in rest.skipped] == ["frame-000001"]
    # Kinects also say 65535 for no reading.
    Image.fromarray(np.full((24, 32), 65535, np.uint16)).save(folder / "frame-000001.depth.png")
    assert without_unreadable(scene).num_views == 3


@pytest.mark.parametrize(
    ("matrix", "complaint"),
    [
        (np.eye(4)[:3], "expected a 4x4 matrix, got 3x4"),
        (np.diag([2.0, 2.0, 2.0, 1.0]), "not a rigid motion"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), "det R is -1"),
        (np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 7, 1]]), "is it transposed"),
    ],
)
def test_poses_that_are_none(folder: Path, matrix: np.ndarray, complaint: str) -> None:
    np.savetxt(folder / "frame-000003.pose.txt", matrix)
    scene = RgbdFolder(folder, up="z").read("room")
    assert complaint in scene.skipped[0].reason


def test_broken_files_say_which(folder: Path, tmp_path: Path) -> None:
    (folder / "frame-000000.color.png").write_bytes(b"junk")
    (folder / "frame-000001.pose.txt").write_text("one two")
    scene = RgbdFolder(folder, up="z").read("room")
    assert "frame-000000.color.png: not a readable picture" in scene.skipped[0].reason
    assert "not a matrix of numbers" in scene.skipped[1].reason
    (folder / "camera-intrinsics.txt").unlink()
    with pytest.raises(ValueError, match="its intrinsics are missing"):
        RgbdFolder(folder).read("room")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="neither a scene nor a folder of scenes"):
        RgbdFolder(empty).read("empty")
    with pytest.raises(ValueError, match="scenes of no known kind"):
        recognise(empty)
    with pytest.raises(ValueError, match="no such file or folder"):
        open_scenes(tmp_path / "gone")
    with pytest.raises(ValueError, match="no reader of scenes 'foo'"):
        open_scenes(empty, "foo")
    np.savetxt(folder / "camera-intrinsics.txt", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="positive focal"):
        RgbdFolder(folder).read("room")


def test_every_reader_is_its_own_config() -> None:
    for kind, reader in READERS.items():
        assert reader(Path("x")).kind == kind


def test_colour_alone_is_a_scene_too(folder: Path) -> None:
    for path in folder.glob("*.depth.png"):
        path.unlink()
    scene = RgbdFolder(folder).read("room")
    assert scene.num_views == 4
    assert scene.view(0).depth is None


def write_habitat(folder: Path, scene: Scene) -> Path:
    folder.mkdir(parents=True)
    for index, view in enumerate(scene.views):
        picture(view).save(folder / f"{index}.png")
        assert view.depth is not None
        np.save(folder / f"{index}_depth.npy", view.depth.numpy())
        opengl = view.world_from_camera @ OPENCV_FROM_OPENGL
        (folder / f"{index}.json").write_text(json.dumps({"pose": opengl.tolist()}))
    return folder


def habitat_scene(num_views: int = 12) -> Scene:
    """A scene whose world is y up, seen with a field of view that `HabitatRooms` can be told."""
    truth = world_scene(0, num_views, 24, 24)
    return change(truth, lambda p: inverse(aligned_from_up(up_vector("y"))) @ p)


def test_a_habitat_room_comes_back(tmp_path: Path) -> None:
    truth = habitat_scene()
    folder = write_habitat(tmp_path / "house_0", truth)
    (folder / "3.json").unlink()
    fov = 2 * np.degrees(np.arctan(12 / float(truth.view(0).intrinsics[0, 0])))
    source = HabitatRooms(folder, horizontal_fov=fov)
    assert recognise(folder) == "habitat"
    scene = source.read("house_0")
    assert [item.name for item in scene.skipped] == ["3"]
    names = [view.name for view in scene.views]
    assert names == [str(i) for i in range(12) if i != 3], "in the order of numbers, not of letters"
    for view in scene.views:
        same_view(view, truth.view(int(view.name)), 1e-6)
    up = scene.aligned_view(0).world_from_camera[:3, :3] @ torch.tensor([0.0, -1.0, 0.0])
    assert up[2] > 0.8
    assert HabitatRooms(folder, every=5).read("house_0").num_views == 3


def test_a_habitat_pose_from_a_quaternion(tmp_path: Path) -> None:
    folder = write_habitat(tmp_path / "house_1", habitat_scene(1))
    half = np.radians(30) / 2
    record = {"rotation": [np.cos(half), 0.0, np.sin(half), 0.0], "translation": [1.0, 2.0, 3.0]}
    (folder / "0.json").write_text(json.dumps(record))
    pose = HabitatRooms(folder).read("house_1").view(0).world_from_camera
    # Turned left by 30 degrees about y, an OpenGL camera looks along (-sin, 0, -cos).
    assert torch.allclose(pose[:3, 2], torch.tensor([-0.5, 0.0, -np.sqrt(0.75)], dtype=torch.float32), atol=1e-6)
    assert torch.allclose(pose[:3, 3], torch.tensor([1.0, 2.0, 3.0]))
    (folder / "0.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a 4x4 pose, or a rotation and a translation"):
        HabitatRooms(folder).read("house_1")


def test_quaternions_agree_with_their_matrix() -> None:
    rotation = from_quaternion(0.5, 0.5, 0.5, 0.5)
    assert torch.allclose(rotation, torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]).double())
    with pytest.raises(ValueError, match="is no rotation"):
        from_quaternion(0, 0, 0, 0)


def test_hm3d_semantics(tmp_path: Path) -> None:
    path = tmp_path / "house.semantic.txt"
    path.write_text('HM3D Semantic Annotations\n1,A0FF10,"ceiling, painted",0\n2,000001,"arm chair",3\n\n')
    first, second = read_hm3d_semantics(path)
    assert (first.id, first.colour, first.category, first.region) == (1, (160, 255, 16), "ceiling, painted", 0)
    assert second.category == "arm chair"
    path.write_text("HM3D Semantic Annotations\n1,A0FF10,ceiling,0\n")
    with pytest.raises(ValueError, match="line 2: expected id,RRGGBB"):
        read_hm3d_semantics(path)
    path.write_text("something else\n")
    with pytest.raises(ValueError, match="expected the first line"):
        read_hm3d_semantics(path)


def test_the_real_room_unprojects_as_open3d_does() -> None:
    if not ROOM.is_dir():
        pytest.skip(f"the real room is not here: {ROOM}")
    import open3d

    scene = RgbdFolder(ROOM, up="-y").read(ROOM.name)
    assert (scene.num_views, scene.skipped) == (30, ())
    view = scene.view(7)
    assert view.depth is not None
    k = read_matrix(ROOM / "camera-intrinsics.txt", (3, 3)).double().numpy()
    camera = open3d.camera.PinholeCameraIntrinsic(640, 480, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
    depth = open3d.geometry.Image((view.depth * 1000).round().numpy().astype(np.uint16))
    world = np.linalg.inv(view.world_from_camera.double().numpy())
    cloud = open3d.geometry.PointCloud.create_from_depth_image(depth, camera, world, 1000.0, 100.0)
    rows, columns = torch.nonzero(view.depth > 0, as_tuple=True)
    pixels = torch.stack([columns, rows], dim=-1).double() + 0.5
    ours = unproject(
        pixels[None],
        view.depth[rows, columns].double()[None],
        view.world_from_camera.double()[None],
        view.intrinsics.double(),
    )[0]
    theirs = torch.from_numpy(np.asarray(cloud.points))
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm(dim=-1).max()) < 1e-4


def test_scenes_of_tuples_lose_unreadable_views_too(truth: Scene) -> None:
    assert without_unreadable(truth).num_views == truth.num_views
    same: tuple[View, ...] = tuple(truth.views)
    assert without_unreadable(replace(truth, views=same)).views == same
    assert opencv(truth.view(0))[0, 2] == pytest.approx(15.5)
