from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from genworld.data.scene_files import inverse, rigid
from genworld.data.scenes import open_scenes
from genworld.data.scenes_driving import Kitti, headed_box, splat_depth
from genworld.data.scenes_nuscenes import NuScenes
from genworld.data.scenes_waymo import Waymo, range_points
from genworld.ops.geometry import unproject
from genworld.types import Scene

HEIGHT, WIDTH, FOCAL = 32, 64, 50.0
OPENCV_IN_VEHICLE = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64)  # looks along x
WALL = torch.cartesian_prod(torch.tensor([12.0]), torch.linspace(-3, 3, 13), torch.linspace(-1, 2, 7)).double()


def about_z(angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


def lies_on_the_wall(scene: Scene, index: int, at: float = 12.0) -> None:
    """That unprojected depth is the wall again: poses, intrinsics and depth belong together."""
    view = scene.view(index)
    assert view.depth is not None
    assert view.pixels.shape == (3, HEIGHT, WIDTH)
    rows, columns = torch.nonzero(view.depth > 0, as_tuple=True)
    assert len(rows) > 20
    points = unproject(
        torch.stack([columns, rows], dim=-1)[None] + 0.5,
        view.depth[rows, columns][None],
        view.world_from_camera[None].float(),
        view.intrinsics,
    )[0]
    assert float((points[:, 0] - at).abs().max()) < 1e-3
    assert scene.points is not None
    nearest = torch.cdist(points, scene.points.float()).amin(dim=1)
    assert float(nearest.max()) < 0.75 * at / FOCAL, "within a pixel of a lidar point"


def test_the_nearest_point_of_a_pixel_wins() -> None:
    k = torch.tensor([[10.0, 0, 4], [0, 10.0, 3], [0, 0, 1]])
    points = torch.tensor([[0.0, 0, 5], [0, 0, 2], [0.2, 0, 2], [0, 0, -1], [100, 0, 1]])
    depth = splat_depth(points, torch.eye(4), k, 6, 8)
    assert depth[3, 4] == 2.0
    assert depth[3, 5] == 2.0
    assert int((depth > 0).sum()) == 2


def test_a_headed_box_keeps_its_heading_and_encloses_itself() -> None:
    box = headed_box("car", 3, torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 2, 1]), about_z(math.pi / 6))
    half = [2 * math.cos(math.pi / 6) + math.sin(math.pi / 6), 2 * math.sin(math.pi / 6) + math.cos(math.pi / 6), 0.5]
    assert (box.size / 2).tolist() == pytest.approx(half, abs=1e-5)
    assert box.centre.tolist() == pytest.approx([1, 2, 3])
    assert box.turned is not None
    assert box.turned.tolist() == pytest.approx([1, 2, 3, 4, 2, 1, math.pi / 6])


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    for part in ("velodyne", "calib", "image_2", "label_2"):
        (tmp_path / part).mkdir()
    cloud = torch.cat([WALL, torch.full((len(WALL), 1), 0.5)], dim=1).numpy().astype("<f4")
    cloud.tofile(tmp_path / "velodyne" / "000001.bin")
    (tmp_path / "image_2" / "000001.png").write_bytes(jpeg())
    rotation, offset = OPENCV_IN_VEHICLE.T, torch.tensor([0.0, -0.1, -0.3], dtype=torch.float64)
    k = torch.tensor([[FOCAL, 0, 31.5], [0, FOCAL, 15.5], [0, 0, 1]], dtype=torch.float64)
    projection = torch.cat([k, (k @ torch.tensor([0.06, 0.0, 0.0], dtype=torch.float64))[:, None]], dim=1)
    rows = {
        "P2": projection,
        "R0_rect": torch.eye(3),
        "Tr_velo_to_cam": torch.cat([rotation, offset[:, None]], dim=1),
    }
    text = "".join(f"{key}: {' '.join(f'{x:.9g}' for x in m.flatten().tolist())}\n" for key, m in rows.items())
    (tmp_path / "calib" / "000001.txt").write_text(text)
    # A car 10 m ahead and 2 m to the left, on a floor 1.6 m below, looking ahead and 30 degrees to the left.
    bottom = rotation @ torch.tensor([10.0, 2.0, -1.6], dtype=torch.float64) + offset
    turn = -math.pi / 2 - math.pi / 6
    car = f"Car 0 0 0 0 0 9 9 1.5 1.8 4.0 {bottom[0]} {bottom[1]} {bottom[2]} {turn}\n"
    (tmp_path / "label_2" / "000001.txt").write_text(
        car + "DontCare -1 -1 -10 1 1 2 2 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    return tmp_path


def test_kitti(kitti: Path) -> None:
    source = open_scenes(kitti)
    assert isinstance(source, Kitti)
    scene = source.read("000001")
    lies_on_the_wall(scene, 0)
    # The camera stands where P2 and Tr_velo_to_cam say: 0.06 m to the left of camera 0.
    assert scene.view(0).world_from_camera[:3, 3].tolist() == pytest.approx([0.3, 0.06, -0.1], abs=1e-5)
    (box,) = scene.boxes
    assert box.label == "Car"
    assert box.turned is not None
    assert box.turned.tolist() == pytest.approx([10, 2, -1.6 + 0.75, 4.0, 1.8, 1.5, math.pi / 6], abs=1e-5)
    assert float(box.size[2]) == pytest.approx(1.5, abs=1e-5)


def test_kitti_pixels_agree_with_its_own_formula(kitti: Path) -> None:
    # Pixel = P2 R0 Tr X, first pixel centred on 0.
    scene = Kitti(kitti).read("000001")
    view = scene.view(0)
    point = torch.tensor([12.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    camera = inverse(view.world_from_camera.double()) @ point
    ours = (view.intrinsics.double() @ camera[:3])[:2] / camera[2]
    lines = (kitti / "calib" / "000001.txt").read_text().splitlines()
    numbers = {line.split(":")[0]: np.array(line.split(":")[1].split(), float) for line in lines}
    given = numbers["P2"].reshape(3, 4) @ np.vstack(
        [numbers["Tr_velo_to_cam"].reshape(3, 4) @ point.numpy()[:, None], [[1.0]]]
    )
    expected = given[:2, 0] / given[2, 0] + 0.5
    assert ours.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_kitti_that_is_broken(kitti: Path) -> None:
    (kitti / "label_2" / "000001.txt").write_text("Car 0 0\n")
    with pytest.raises(ValueError, match="line 1: expected 15 columns, got 3"):
        Kitti(kitti).read("000001")
    (kitti / "label_2" / "000001.txt").unlink()
    assert Kitti(kitti).read("000001").boxes == ()
    (kitti / "image_2" / "000001.png").unlink()
    with pytest.raises(ValueError, match="its picture is missing"):
        Kitti(kitti).read("000001")
    (kitti / "calib" / "000001.txt").write_text("P2: 1 2 3\n")
    with pytest.raises(ValueError, match="expected a line 'P2:' of 12 numbers"):
        Kitti(kitti).read("000001")
    (kitti / "velodyne" / "000001.bin").write_bytes(b"12345678")
    with pytest.raises(ValueError, match="expected rows of 4 float32 numbers, got 2 numbers"):
        Kitti(kitti).read("000001")
    with pytest.raises(ValueError, match="no scene '7'"):
        Kitti(kitti).read("7")


def quaternion(rotation: torch.Tensor) -> list[float]:
    """Real part first."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation.numpy()).as_quat()
    return [w, x, y, z]


@pytest.fixture
def nuscenes(tmp_path: Path) -> Path:
    """One sample: a vehicle far from the map's origin that moves between the lidar's time and the camera's."""
    vehicle = rigid(about_z(0.7), torch.tensor([1200.0, 3400.0, 5.0], dtype=torch.float64))
    later = vehicle @ rigid(torch.eye(3).double(), torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64))
    lidar = rigid(about_z(-1.2), torch.tensor([0.9, 0.0, 1.8], dtype=torch.float64))
    camera = rigid(OPENCV_IN_VEHICLE, torch.tensor([1.7, 0.0, 1.5], dtype=torch.float64))

    def placed(token: str, pose: torch.Tensor, **more: Any) -> dict[str, Any]:
        return {"token": token, "rotation": quaternion(pose[:3, :3]), "translation": pose[:3, 3].tolist(), **more}

    def data(token: str, sensor: str, pose: str, name: str, key: bool = True) -> dict[str, Any]:
        path = f"samples/{name}"
        return {
            "token": token,
            "sample_token": "s",
            "calibrated_sensor_token": sensor,
            "ego_pose_token": pose,
            "filename": path,
            "is_key_frame": key,
        }

    k = [[FOCAL, 0.0, 31.5], [0.0, FOCAL, 15.5], [0.0, 0.0, 1.0]]
    car = vehicle @ rigid(about_z(0.3), torch.tensor([8.0, -2.0, 0.8], dtype=torch.float64))
    tables: dict[str, list[dict[str, Any]]] = {
        "sample": [{"token": "s", "scene_token": "x", "timestamp": 1}],
        "sensor": [{"token": "l", "channel": "LIDAR_TOP"}, {"token": "c", "channel": "CAM_FRONT"}],
        "calibrated_sensor": [
            placed("cl", lidar, sensor_token="l", camera_intrinsic=[]),
            placed("cc", camera, sensor_token="c", camera_intrinsic=k),
        ],
        "ego_pose": [placed("e0", vehicle), placed("e1", later)],
        "sample_data": [
            data("d0", "cl", "e0", "a.pcd.bin"),
            data("d1", "cc", "e1", "a.jpg"),
            data("d2", "cc", "e0", "sweep.jpg", key=False),
        ],
        "sample_annotation": [placed("a", car, sample_token="s", instance_token="i", size=[1.9, 4.5, 1.6])],
        "instance": [{"token": "i", "category_token": "k"}],
        "category": [{"token": "k", "name": "vehicle.car"}],
    }
    folder = tmp_path / "v1.0-mini"
    folder.mkdir()
    (tmp_path / "samples").mkdir()
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    points = (WALL - lidar[:3, 3]) @ lidar[:3, :3]
    np.concatenate([points.numpy(), np.zeros((len(points), 2))], axis=1).astype("<f4").tofile(
        tmp_path / "samples" / "a.pcd.bin"
    )
    (tmp_path / "samples" / "a.jpg").write_bytes(jpeg())
    return tmp_path


def test_nuscenes(nuscenes: Path) -> None:
    source = NuScenes(nuscenes, "v1.0-mini")
    assert list(source.names) == ["s"]
    scene = source.read("s")
    assert [view.name for view in scene.views] == ["CAM_FRONT"], "key frames only"
    lies_on_the_wall(scene, 0)
    assert scene.points is not None
    assert float((scene.points[:, 0] - 12).abs().max()) < 1e-4, "the vehicle's axes at the lidar's time"
    # The camera's own time: half a metre further.
    assert scene.view(0).world_from_camera[:3, 3].tolist() == pytest.approx([2.2, 0.0, 1.5], abs=1e-4)
    (box,) = scene.boxes
    assert box.label == "vehicle.car"
    assert box.turned is not None
    assert box.turned.tolist() == pytest.approx([8, -2, 0.8, 4.5, 1.9, 1.6, 0.3], abs=1e-4)


def test_nuscenes_that_is_broken(nuscenes: Path) -> None:
    with pytest.raises(ValueError, match="no sample 'x'"):
        NuScenes(nuscenes, "v1.0-mini").read("x")
    with pytest.raises(ValueError, match="set `version`"):
        _ = NuScenes(nuscenes).names
    folder = nuscenes / "v1.0-mini"
    for name in ("sample_annotation", "instance", "category"):
        (folder / f"{name}.json").unlink()
    assert NuScenes(nuscenes, "v1.0-mini").read("s").boxes == (), "the test part"
    (nuscenes / "samples" / "a.jpg").unlink()
    with pytest.raises(ValueError, match="CAM_FRONT: its picture is missing"):
        NuScenes(nuscenes, "v1.0-mini").read("s")
    (folder / "ego_pose.json").write_text("[]")
    with pytest.raises(ValueError, match=r"ego_pose.json has no row 'e0', which another names"):
        NuScenes(nuscenes, "v1.0-mini").read("s")
    (folder / "sample_data.json").write_text("[]")
    with pytest.raises(ValueError, match="has no key frame of LIDAR_TOP"):
        NuScenes(nuscenes, "v1.0-mini").read("s")


SEGMENT, TIME = "segment-1", 1550083467346370
ROWS, COLUMNS = 24, 480


def wall_ranges(lidar: torch.Tensor, inclination: np.ndarray, distance: float = 12.0) -> np.ndarray:
    """Ranges [rows columns] from a lidar to the plane x = `distance`, by intersecting each beam: 0 where it misses."""
    ranges = np.zeros((ROWS, COLUMNS), np.float32)
    turn = math.atan2(float(lidar[1, 0]), float(lidar[0, 0]))
    for row in range(ROWS):
        up = inclination[::-1][row]
        for column in range(COLUMNS):
            azimuth = math.pi - 2 * math.pi * (column + 0.5) / COLUMNS  # in the vehicle's axes
            own = azimuth - turn
            beam = np.array([math.cos(up) * math.cos(own), math.cos(up) * math.sin(own), math.sin(up)])
            world = lidar[:3, :3].numpy() @ beam
            if world[0] > 0.3 and abs(azimuth) < 0.4:
                ranges[row, column] = (distance - float(lidar[0, 3])) / world[0]
    return ranges


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.fixture
def waymo(tmp_path: Path) -> Path:
    key = {"key.segment_context_name": SEGMENT, "key.frame_timestamp_micros": TIME}
    vehicle = rigid(about_z(0.4), torch.tensor([500.0, -300.0, 20.0], dtype=torch.float64))
    lidar = rigid(about_z(2.5), torch.tensor([1.4, 0.0, 2.0], dtype=torch.float64))
    camera = rigid(torch.eye(3).double(), torch.tensor([1.5, 0.1, 2.1], dtype=torch.float64))  # x forward
    inclination = np.linspace(-0.15, 0.05, ROWS)
    ranges = wall_ranges(lidar, inclination)
    image = np.zeros((ROWS, COLUMNS, 4), np.float32)
    image[..., 0] = ranges
    # The vehicle's pose for each pixel: here that of the whole moment, so that nothing may change.
    pixel_pose = np.zeros((ROWS, COLUMNS, 6), np.float32)
    pixel_pose[..., 2], pixel_pose[..., 3:] = 0.4, [500.0, -300.0, 20.0]

    def array(column: str, values: np.ndarray) -> dict[str, Any]:
        return {f"{column}.values": values.ravel().tolist(), f"{column}.shape": list(values.shape)}

    def component(name: str, rows: list[dict[str, Any]]) -> None:
        write(tmp_path / name / f"{SEGMENT}.parquet", rows)

    moved = {**key, "key.frame_timestamp_micros": TIME + 100000}
    transform = "[VehiclePoseComponent].world_from_vehicle.transform"
    component("vehicle_pose", [{**each, transform: vehicle.flatten().tolist()} for each in (key, moved)])
    cl = "[LiDARCalibrationComponent]."
    component(
        "lidar_calibration",
        [
            {
                "key.segment_context_name": SEGMENT,
                "key.laser_name": 1,
                f"{cl}extrinsic.transform": lidar.flatten().tolist(),
                f"{cl}beam_inclination.min": -0.15,
                f"{cl}beam_inclination.max": 0.05,
                f"{cl}beam_inclination.values": inclination.tolist(),
            }
        ],
    )
    lidar_key = {**key, "key.laser_name": 1}
    component("lidar", [{**lidar_key, **array("[LiDARComponent].range_image_return1", image)}])
    component("lidar_pose", [{**lidar_key, **array("[LiDARPoseComponent].range_image_return1", pixel_pose)}])
    cc = "[CameraCalibrationComponent]."
    intrinsic = {"f_u": FOCAL, "f_v": FOCAL, "c_u": 31.5, "c_v": 15.5}
    calibration = {f"{cc}intrinsic.{name}": value for name, value in intrinsic.items()}
    calibration |= {f"{cc}extrinsic.transform": camera.flatten().tolist()}
    component("camera_calibration", [{"key.segment_context_name": SEGMENT, "key.camera_name": 1, **calibration}])
    picture = {"[CameraImageComponent].image": jpeg()}
    component("camera_image", [{**key, "key.camera_name": 1, **picture}, {**key, "key.camera_name": 4, **picture}])
    box = {"center.x": 9.0, "center.y": 1.0, "center.z": 0.8, "size.x": 4.0, "size.y": 2.0, "size.z": 1.5}
    lb = "[LiDARBoxComponent]."
    row = {**key, f"{lb}type": 1, f"{lb}box.heading": 0.2, **{f"{lb}box.{k}": v for k, v in box.items()}}
    component("lidar_box", [row])
    return tmp_path


def test_waymo(waymo: Path) -> None:
    source = open_scenes(waymo)
    assert isinstance(source, Waymo)
    assert list(source.names) == [f"{SEGMENT}/{TIME}", f"{SEGMENT}/{TIME + 100000}"]
    scene = source.read(source.names[0])
    assert scene.points is not None
    assert len(scene.points) > 500
    assert float((scene.points[:, 0] - 12).abs().max()) < 1e-3
    assert [view.name for view in scene.views] == ["front"]
    assert scene.skipped[0].name == "side left"
    assert "calibration is missing" in scene.skipped[0].reason
    lies_on_the_wall(scene, 0)
    (box,) = scene.boxes
    assert box.label == "vehicle"
    assert box.turned is not None
    assert box.turned.tolist() == pytest.approx([9, 1, 0.8, 4, 2, 1.5, 0.2])


def test_waymo_undoes_the_motion_of_the_vehicle(waymo: Path) -> None:
    # The same sweep, but every pixel was taken a metre further back: points lie a metre nearer to where it is now.
    path = waymo / "lidar_pose" / f"{SEGMENT}.parquet"
    rows = pyarrow.parquet.read_table(path).to_pylist()
    column = "[LiDARPoseComponent].range_image_return1.values"
    values = np.array(rows[0][column]).reshape(ROWS, COLUMNS, 6)
    values[..., 3] -= math.cos(0.4)
    values[..., 4] -= math.sin(0.4)
    rows[0][column] = values.ravel().tolist()
    write(path, rows)
    scene = Waymo(waymo).read(f"{SEGMENT}/{TIME}")
    assert scene.points is not None
    assert float((scene.points[:, 0] - 11).abs().max()) < 1e-3


def test_waymo_inclinations_from_their_bounds() -> None:
    key = "[LiDARCalibrationComponent]."
    calibration = {
        f"{key}extrinsic.transform": np.eye(4).ravel().tolist(),
        f"{key}beam_inclination.values": None,
        f"{key}beam_inclination.min": -0.2,
        f"{key}beam_inclination.max": 0.2,
    }
    points = range_points(torch.full((2, 4), 10.0), calibration)
    assert points[0, :, 2].tolist() == pytest.approx([10 * math.sin(0.1)] * 4)
    assert points[1, :, 2].tolist() == pytest.approx([-10 * math.sin(0.1)] * 4)
    # Columns run clockwise, from behind: left, left ahead, right ahead, right.
    level = 10 * math.cos(0.1) * math.sqrt(0.5)
    expected = [[-level, level], [level, level], [level, -level], [-level, -level]]
    assert torch.allclose(points[0, :, :2], torch.tensor(expected).double())


def test_waymo_that_is_broken(waymo: Path) -> None:
    with pytest.raises(ValueError, match="no moment 'x'"):
        Waymo(waymo).read("x")
    with pytest.raises(ValueError, match=r"lidar_pose/segment-1.parquet: no row where"):
        Waymo(waymo).read(f"{SEGMENT}/{TIME + 100000}")
    (waymo / "lidar_box" / f"{SEGMENT}.parquet").unlink()
    assert Waymo(waymo).read(f"{SEGMENT}/{TIME}").boxes == ()
    (waymo / "camera_calibration" / f"{SEGMENT}.parquet").unlink()
    with pytest.raises(ValueError, match="no such component of the segment"):
        Waymo(waymo).read(f"{SEGMENT}/{TIME}")
    (waymo / "vehicle_pose" / f"{SEGMENT}.parquet").write_bytes(b"junk")
    with pytest.raises(ValueError, match="not a readable component"):
        _ = Waymo(waymo).names
