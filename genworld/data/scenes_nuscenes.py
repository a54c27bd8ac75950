"""nuScenes (Caesar et al. 2020): one sample as a scene, with six cameras, the lidar and boxes with headings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from genworld.data.scene_files import from_quaternion, inverse, pinhole_of, read_json, rigid, sort_frames
from genworld.data.scenes_driving import LidarFrame, headed_box, read_cloud
from genworld.types import Scene, SceneBox

_TABLES = ("sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose")
_LABELS = ("sample_annotation", "instance", "category")


@dataclass(frozen=True)
class NuScenes:
    """nuScenes' key frames. Implements `SceneSource`; scenes are called by the sample's token.

    World axes are the vehicle's at the lidar's time (x forward, y left, z up): the map's own coordinates are
    kilometres, too long for float32. Each camera's pose is that of its own time. Depth is the lidar's, sparse.

    Attributes:
        path: the data set, with `samples/` and the folder of tables.
        version: name of that folder.
    """

    path: Path
    version: str = "v1.0-trainval"
    kind: Literal["nuscenes"] = "nuscenes"

    @cached_property
    def _tables(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        folder = self.path / self.version
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder: expected nuScenes' JSON tables: set `version`")
        # The test part has no annotations.
        names = [*_TABLES, *(name for name in _LABELS if (folder / f"{name}.json").is_file())]
        return {name: {row["token"]: row for row in read_json(folder / f"{name}.json")} for name in names}

    @cached_property
    def _data(self) -> Mapping[str, list[Mapping[str, Any]]]:
        """Key frames by sample."""
        found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in self._tables["sample_data"].values():
            if row["is_key_frame"]:
                found[row["sample_token"]].append(row)
        return found

    @cached_property
    def _annotations(self) -> Mapping[str, list[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in self._tables.get("sample_annotation", {}).values():
            found[row["sample_token"]].append(row)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self._tables["sample"])

    def read(self, name: str) -> Scene:
        """Read a sample.

        Raises:
            ValueError: there is no such sample, a row or a file is missing, or it has no lidar.
        """
        if name not in self._tables["sample"]:
            raise ValueError(f"{self.path}: no sample {name!r}: there are {len(self.names)}")
        by_channel = {self._channel(row): row for row in self._data[name]}
        if "LIDAR_TOP" not in by_channel:
            raise ValueError(f"{self.path}: sample {name} has no key frame of LIDAR_TOP, only {sorted(by_channel)}")
        lidar = by_channel.pop("LIDAR_TOP")
        vehicle_from_map = inverse(_pose(self._row("ego_pose", lidar["ego_pose_token"])))
        from_lidar = vehicle_from_map @ self._map_from_sensor(lidar)
        cloud = read_cloud(self.path / lidar["filename"], 5).double()
        points = (cloud @ from_lidar[:3, :3].T + from_lidar[:3, 3]).float()
        cameras = {channel: row for channel, row in by_channel.items() if channel.startswith("CAM")}

        def make(channel: str) -> LidarFrame:
            row = cameras[channel]
            picture = self.path / row["filename"]
            if not picture.is_file():
                raise ValueError(f"its picture is missing: expected {picture}")
            sensor = self._row("calibrated_sensor", row["calibrated_sensor_token"])
            intrinsics = pinhole_of(torch.tensor(sensor["camera_intrinsic"], dtype=torch.float64))
            return LidarFrame(channel, picture, points, vehicle_from_map @ self._map_from_sensor(row), intrinsics)

        views, skipped = sort_frames(f"{self.path}, sample {name}", sorted(cameras), make)
        return Scene(name, views, points, None, self._boxes(name, vehicle_from_map), skipped=skipped)

    def _row(self, table: str, token: str) -> Mapping[str, Any]:
        if token not in self._tables[table]:
            raise ValueError(f"{self.path / self.version}: {table}.json has no row {token!r}, which another names")
        return self._tables[table][token]

    def _channel(self, row: Mapping[str, Any]) -> str:
        sensor = self._row("calibrated_sensor", row["calibrated_sensor_token"])["sensor_token"]
        return self._row("sensor", sensor)["channel"]

    def _map_from_sensor(self, row: Mapping[str, Any]) -> Tensor:
        vehicle = _pose(self._row("ego_pose", row["ego_pose_token"]))
        return vehicle @ _pose(self._row("calibrated_sensor", row["calibrated_sensor_token"]))

    def _boxes(self, name: str, vehicle_from_map: Tensor) -> tuple[SceneBox, ...]:
        boxes = []
        for number, row in enumerate(self._annotations[name]):
            category = self._row("instance", row["instance_token"])["category_token"]
            width, length, height = row["size"]
            pose = vehicle_from_map @ _pose(row)
            size = torch.tensor([length, width, height], dtype=torch.float64)
            label = self._row("category", category)["name"]
            boxes.append(headed_box(label, number, pose[:3, 3], size, pose[:3, :3]))
        return tuple(boxes)


def _pose(row: Mapping[str, Any]) -> Tensor:
    """From a row with `rotation` (quaternion, real part first) and `translation`."""
    return rigid(from_quaternion(*row["rotation"]), torch.tensor(row["translation"], dtype=torch.float64))
