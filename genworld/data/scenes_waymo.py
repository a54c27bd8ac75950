"""Waymo Open Dataset, version 2 (Sun et al. 2020): Parquet components joined into one moment per scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_files import check_pose, inverse, pinhole, rigid, sort_frames
from genworld.data.scenes_driving import LidarFrame, headed_box
from genworld.types import Scene, SceneBox

SEGMENT, TIME = "key.segment_context_name", "key.frame_timestamp_micros"
CAMERA, LASER = "key.camera_name", "key.laser_name"
TYPES = ("unknown", "vehicle", "pedestrian", "sign", "cyclist")
CAMERAS = {1: "front", 2: "front left", 3: "front right", 4: "side left", 5: "side right"}
_TOP = 1
_CAMERA_FROM_OPENCV = torch.tensor(
    [[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64
)  # Waymo's cameras look along x, z up


@dataclass(frozen=True)
class Waymo:
    """Moments of Waymo's segments. Implements `SceneSource`; scenes are called `SEGMENT/MICROSECONDS`.

    Needs the components `camera_image`, `camera_calibration`, `lidar`, `lidar_calibration`, `vehicle_pose` and, where
    they are, `lidar_pose` (the vehicle's motion during a sweep) and `lidar_box`. World axes are the vehicle's at that
    moment (x forward, y left, z up). First returns only; lens distortion and rolling shutter are not undone.

    Attributes:
        path: folder with one folder per component, which holds `SEGMENT.parquet`.
    """

    path: Path
    kind: Literal["waymo"] = "waymo"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        files = sorted((self.path / "vehicle_pose").glob("*.parquet"))
        if not files:
            raise ValueError(f"{self.path}: expected Waymo's components, such as vehicle_pose/SEGMENT.parquet")
        found = []
        for path in files:
            times = sorted({row[TIME] for row in _rows(path, columns=[TIME])})
            found += [f"{path.stem}/{time}" for time in times]
        return tuple(found)

    def read(self, name: str) -> Scene:
        """Read a moment.

        Raises:
            ValueError: there is no such moment, or a component or a row of it is missing.
        """
        segment, _, time = name.rpartition("/")
        if name not in self.names:
            raise ValueError(f"{self.path}: no moment {name!r}: there are {len(self.names)}, such as {self.names[0]}")
        at = [(TIME, "=", int(time))]
        (vehicle,) = self._component("vehicle_pose", segment, at)
        world_from_vehicle = _transform(vehicle["[VehiclePoseComponent].world_from_vehicle.transform"], name)
        points = self._points(segment, at, world_from_vehicle)
        images = self._component("camera_image", segment, at, [CAMERA])
        calibration = {row[CAMERA]: row for row in self._component("camera_calibration", segment)}
        labels = {CAMERAS.get(row[CAMERA], str(row[CAMERA])): row[CAMERA] for row in images}

        def make(label: str) -> LidarFrame:
            number = labels[label]
            if number not in calibration:
                raise ValueError("its calibration is missing")
            intrinsics, vehicle_from_camera = _camera(calibration[number], f"{name}, {label}")
            picture = partial(self._picture, segment, [*at, (CAMERA, "=", number)])
            return LidarFrame(label, picture, points, vehicle_from_camera, intrinsics)

        views, skipped = sort_frames(f"{self.path}, {name}", list(labels), make)
        return Scene(name, views, points, None, self._boxes(segment, at), skipped=skipped)

    def _component(
        self, component: str, segment: str, filters: Sequence[tuple] = (), columns: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        path = self.path / component / f"{segment}.parquet"
        if not path.is_file():
            raise ValueError(f"{path}: no such component of the segment")
        rows = _rows(path, filters, columns)
        if not rows:
            raise ValueError(f"{path}: no row where {' and '.join(map(str, filters)) or 'any'}")
        return rows

    def _has(self, component: str, segment: str) -> bool:
        return (self.path / component / f"{segment}.parquet").is_file()

    def _picture(self, segment: str, filters: Sequence[tuple]) -> bytes:
        (row,) = self._component("camera_image", segment, filters, ["[CameraImageComponent].image"])
        return row["[CameraImageComponent].image"]

    def _points(self, segment: str, at: Sequence[tuple], world_from_vehicle: Tensor) -> Float[Tensor, "P 3"]:
        """First returns of all lidars, vehicle axes."""
        calibration = {row[LASER]: row for row in self._component("lidar_calibration", segment)}
        pixel_pose = None
        if self._has("lidar_pose", segment):
            (row,) = self._component("lidar_pose", segment, at)
            pixel_pose = _grid(row, "[LiDARPoseComponent].range_image_return1", 6)
        parts = []
        for row in self._component("lidar", segment, at):
            laser = row[LASER]
            if laser not in calibration:
                raise ValueError(f"{self.path}, {segment}: lidar {laser} has no calibration")
            ranges = _grid(row, "[LiDARComponent].range_image_return1", None)[..., 0]
            points, valid = range_points(ranges, calibration[laser]), ranges > 0
            if laser == _TOP and pixel_pose is not None:
                points = _unrolled(points, pixel_pose, inverse(world_from_vehicle))
            parts.append(points[valid])
        return torch.cat(parts).float()

    def _boxes(self, segment: str, at: Sequence[tuple]) -> tuple[SceneBox, ...]:
        if not self._has("lidar_box", segment):
            return ()
        key = "[LiDARBoxComponent]."
        boxes = []
        for number, row in enumerate(_rows(self.path / "lidar_box" / f"{segment}.parquet", at)):
            centre, size = (
                torch.tensor([row[f"{key}box.{what}.{axis}"] for axis in "xyz"], dtype=torch.float64)
                for what in ("center", "size")
            )
            turn = torch.tensor(row[f"{key}box.heading"], dtype=torch.float64)
            label = TYPES[row[f"{key}type"]] if 0 <= row[f"{key}type"] < len(TYPES) else str(row[f"{key}type"])
            boxes.append(headed_box(label, number, centre, size, _about_z(turn)))
        return tuple(boxes)


def range_points(ranges: Float[Tensor, "H W"], calibration: Mapping[str, Any]) -> Float[Tensor, "H W 3"]:
    """Points of a range image, vehicle axes. Row 0 is the highest beam; columns run clockwise from behind."""
    key = "[LiDARCalibrationComponent]."
    height, width = ranges.shape
    vehicle_from_lidar = _transform(calibration[f"{key}extrinsic.transform"], "a lidar's extrinsic")
    values = calibration[f"{key}beam_inclination.values"]
    if values is not None and len(values) == height:
        inclination = torch.tensor(values, dtype=torch.float64)
    else:
        low, high = calibration[f"{key}beam_inclination.min"], calibration[f"{key}beam_inclination.max"]
        inclination = low + (torch.arange(height, dtype=torch.float64) + 0.5) / height * (high - low)
    inclination = inclination.flip(0)[:, None]
    across = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    # The picture's middle column looks along the vehicle's x, wherever the lidar's own x points.
    azimuth = torch.pi * (1 - 2 * across) - torch.atan2(vehicle_from_lidar[1, 0], vehicle_from_lidar[0, 0])
    direction = torch.stack(
        [
            inclination.cos() * azimuth.cos(),
            inclination.cos() * azimuth.sin(),
            inclination.sin().expand(height, width),
        ],
        dim=-1,
    )
    points = direction * ranges.double()[..., None]
    return points @ vehicle_from_lidar[:3, :3].T + vehicle_from_lidar[:3, 3]


def _unrolled(points: Tensor, pixel_pose: Tensor, vehicle_from_world: Tensor) -> Tensor:
    """Points of a sweep, each from where the vehicle was at its instant, in the axes of the whole moment."""
    if pixel_pose.shape[:2] != points.shape[:2]:
        raise ValueError(f"lidar_pose is {tuple(pixel_pose.shape[:2])} but the range image {tuple(points.shape[:2])}")
    roll, pitch, yaw = pixel_pose[..., :3].double().unbind(-1)
    rotation = _about_z(yaw) @ _about_y(pitch) @ _about_x(roll)
    world = torch.einsum("hwij,hwj->hwi", rotation, points) + pixel_pose[..., 3:].double()
    return world @ vehicle_from_world[:3, :3].T + vehicle_from_world[:3, 3]


def _about_x(angle: Tensor) -> Tensor:
    return _turn(angle, 0)


def _about_y(angle: Tensor) -> Tensor:
    return _turn(angle, 1)


def _about_z(angle: Tensor) -> Tensor:
    return _turn(angle, 2)


def _turn(angle: Tensor, axis: int) -> Tensor:
    """Rotations [..., 3, 3] about one axis."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rotation = torch.zeros(*angle.shape, 3, 3, dtype=torch.float64)
    rotation[..., axis, axis] = 1.0
    rotation[..., a, a] = rotation[..., b, b] = angle.cos()
    rotation[..., b, a], rotation[..., a, b] = angle.sin(), -angle.sin()
    return rotation


def _camera(row: Mapping[str, Any], where: str) -> tuple[Tensor, Tensor]:
    """Intrinsics, and vehicle from an OpenCV camera."""
    key = "[CameraCalibrationComponent]."
    intrinsics = pinhole(*(float(row[f"{key}intrinsic.{name}"]) for name in ("f_u", "f_v", "c_u", "c_v")))
    return intrinsics, _transform(row[f"{key}extrinsic.transform"], where) @ _CAMERA_FROM_OPENCV


def _transform(values: Sequence[float], where: str) -> Float[Tensor, "4 4"]:
    if len(values) != 16:
        raise ValueError(f"{where}: expected a transform of 16 numbers, got {len(values)}")
    pose = torch.tensor(list(values), dtype=torch.float64).reshape(4, 4)
    check_pose(pose.float(), where)
    return rigid(pose[:3, :3], pose[:3, 3])


def _grid(row: Mapping[str, Any], column: str, channels: int | None) -> Tensor:
    shape, values = row[f"{column}.shape"], np.asarray(row[f"{column}.values"], dtype=np.float32)
    if values.size != np.prod(shape) or len(shape) != 3 or (channels is not None and shape[-1] != channels):
        raise ValueError(f"{column}: {values.size} values do not make the shape {list(shape)}")
    return torch.from_numpy(values.reshape(tuple(shape)))


def _rows(path: Path, filters: Sequence[tuple] = (), columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(
            path, filters=list(filters) or None, columns=None if columns is None else list(columns)
        )
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a readable component ({error})") from None
    return table.to_pylist()
