"""What driving sets share, and KITTI: a moment is a scene, with sparse lidar depth and boxes with headings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_files import (
    inverse,
    pick,
    pinhole_of,
    read_picture,
    rigid,
    sort_frames,
    to_view_pixels,
)
from genworld.ops.geometry import project
from genworld.types import Scene, SceneBox, View


@dataclass(frozen=True)
class LidarFrame:
    """A camera's picture, and the lidar's points as its depth: 0 where no beam went."""

    name: str
    picture: Path | Callable[[], bytes]
    points: Float[Tensor, "P 3"]
    world_from_camera: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]

    def read(self) -> View:
        """See `Frame`."""
        source = self.picture if isinstance(self.picture, Path) else self.picture()
        pixels = to_view_pixels(read_picture(source, self.name))
        depth = splat_depth(self.points, self.world_from_camera, self.intrinsics, pixels.shape[1], pixels.shape[2])
        return View(pixels, depth, self.world_from_camera.float(), self.intrinsics, self.name)


def splat_depth(
    points: Float[Tensor, "P 3"],
    world_from_camera: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    height: int,
    width: int,
) -> Float[Tensor, "H W"]:
    """Depth of the nearest point in each pixel, metres; 0 where there is none."""
    pixel, depth = project(points.double()[None], world_from_camera.double()[None], intrinsics.double())
    column, row, z = pixel[0, :, 0].floor(), pixel[0, :, 1].floor(), depth[0]
    seen = (z > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    index = (row[seen] * width + column[seen]).long()
    nearest = torch.full((height * width,), math.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, index, z[seen], "amin")
    return torch.where(nearest.isfinite(), nearest, 0.0).float().view(height, width)


def headed_box(
    label: str,
    number: int,
    centre: Float[Tensor, " 3"],
    size: Float[Tensor, " 3"],
    rotation: Float[Tensor, "3 3"],
) -> SceneBox:
    """A box from its centre, its size along its own axes (x forward) and their directions, all in scene axes."""
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3)
    corners = (signs * size.double()) @ rotation.double().T + centre.double()
    heading = math.atan2(float(rotation[1, 0]), float(rotation[0, 0]))
    turned = torch.cat([centre.float(), size.float(), torch.tensor([heading])])
    return SceneBox(label, number, corners.amin(dim=0).float(), corners.amax(dim=0).float(), turned)


def read_cloud(path: Path, columns: int) -> Float[Tensor, "P 3"]:
    """Coordinates of a lidar's binary file of float32 rows.

    Raises:
        ValueError: it is missing, empty, or not of whole rows.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such lidar file")
    values = np.fromfile(path, "<f4")
    if not values.size or values.size % columns:
        raise ValueError(f"{path}: expected rows of {columns} float32 numbers, got {values.size} numbers")
    return torch.from_numpy(values.reshape(-1, columns)[:, :3].copy())


@dataclass(frozen=True)
class Kitti:
    """KITTI's object benchmark (Geiger et al. 2012). Implements `SceneSource`.

    `velodyne/N.bin`, `calib/N.txt`, `image_2/N.png` and, in the training part, `label_2/N.txt`. World and scene axes
    are the lidar's: x forward, y left, z up. `DontCare` regions have no extent in space and make no boxes.

    Attributes:
        path: `training` or `testing`.
    """

    path: Path
    kind: Literal["kitti"] = "kitti"

    @cached_property
    def _files(self) -> dict[str, Path]:
        found = {path.stem: path for path in sorted((self.path / "velodyne").glob("*.bin"))}
        if not found:
            raise ValueError(f"{self.path}: expected KITTI's velodyne/N.bin files")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self._files)

    def read(self, name: str) -> Scene:
        """Read a moment.

        Raises:
            ValueError: there is no such moment, or a file of it is missing or broken.
        """
        points = read_cloud(pick(self._files, name), 4)
        calibration = _kitti_calibration(self.path / "calib" / f"{name}.txt")
        rectified = rigid(calibration["R0_rect"].reshape(3, 3), torch.zeros(3, dtype=torch.float64))
        lidar = calibration["Tr_velo_to_cam"].reshape(3, 4)
        camera_from_world = rectified @ rigid(lidar[:, :3], lidar[:, 3])
        projection = calibration["P2"].reshape(3, 4)
        # P2 = K [I | t]: camera 2 stands beside the one that boxes are given in.
        beside = torch.linalg.solve(projection[:, :3], projection[:, 3])
        pose = inverse(rigid(torch.eye(3, dtype=torch.float64), beside) @ camera_from_world)
        picture = self.path / "image_2" / f"{name}.png"

        def make(_: str) -> LidarFrame:
            if not picture.is_file():
                raise ValueError(f"its picture is missing: expected {picture}")
            return LidarFrame("image_2", picture, points, pose, pinhole_of(projection[:, :3]))

        views, skipped = sort_frames(self.path / name, ["image_2"], make)
        labels = self.path / "label_2" / f"{name}.txt"
        boxes = _kitti_boxes(labels, inverse(camera_from_world)) if labels.is_file() else ()
        return Scene(name, views, points, None, boxes, skipped=skipped)


def _kitti_calibration(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such calibration")
    found = {}
    for line in path.read_text().splitlines():
        key, _, text = line.partition(":")
        if text.strip():
            found[key.strip()] = torch.tensor([float(number) for number in text.split()], dtype=torch.float64)
    for key, count in {"P2": 12, "R0_rect": 9, "Tr_velo_to_cam": 12}.items():
        if key not in found or len(found[key]) != count:
            raise ValueError(f"{path}: expected a line '{key}:' of {count} numbers, got {sorted(found)}")
    return found


def _kitti_boxes(path: Path, world_from_camera: Tensor) -> tuple[SceneBox, ...]:
    boxes: list[SceneBox] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words or words[0] == "DontCare":
            continue
        if len(words) < 15:
            raise ValueError(f"{path}, line {number}: expected 15 columns, got {len(words)}")
        height, width, length, x, y, z, turn = map(float, words[8:15])
        # The given point is the middle of the lower face, in a camera whose y points down; the turn is about y.
        centre = torch.tensor([x, y - height / 2, z, 1.0], dtype=torch.float64)
        forward = torch.tensor([math.cos(turn), 0.0, -math.sin(turn)], dtype=torch.float64)
        up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
        axes = torch.stack([forward, torch.linalg.cross(up, forward), up], dim=1)
        size = torch.tensor([length, width, height], dtype=torch.float64)
        rotation = world_from_camera[:3, :3] @ axes
        boxes.append(headed_box(words[0], len(boxes), (world_from_camera @ centre)[:3], size, rotation))
    return tuple(boxes)
