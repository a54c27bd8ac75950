"""ScanNet (Dai et al. 2017): scans of rooms, from exported frames or `.sens`, with mesh, instances and alignment.

Poses, frames and mesh are in the scan's own axes; boxes are made in the aligned ones: mixing the two is the commonest
error with this data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_files import (
    LazyViews,
    check_depth,
    check_pose,
    pick,
    picture_size,
    pinhole_of,
    read_depth,
    read_json,
    read_matrix,
    read_picture,
    read_pose,
    scene_folders,
    sort_frames,
    to_view_pixels,
)
from genworld.data.scenes_sens import Camera, SensFrame, read_sens, seen_by
from genworld.types import Scene, SceneBox, Skipped, View


@dataclass(frozen=True)
class ScanNetFrame:
    """An exported view. Colour, which has twice the pixels, is given as the depth camera sees it."""

    folder: Path
    number: str
    world_from_camera: Float[Tensor, "4 4"]
    colour_intrinsics: Float[Tensor, "3 3"]
    depth_intrinsics: Float[Tensor, "3 3"]

    @property
    def name(self) -> str:
        """Number of the frame."""
        return self.number

    def read(self) -> View:
        """See `Frame`."""
        colour, path = _colour(self.folder, self.number), self.folder / "depth" / f"{self.number}.png"
        depth = read_depth(path, 0.001)
        camera = Camera(depth.shape[0], depth.shape[1], self.depth_intrinsics)
        depth = check_depth(depth, camera.size, str(path))
        image = seen_by(read_picture(colour, str(colour)), self.colour_intrinsics, camera)
        return View(to_view_pixels(image), depth, self.world_from_camera, self.depth_intrinsics, self.number)


@dataclass(frozen=True)
class ScanNet:
    """Scans of ScanNet. Implements `SceneSource`.

    A scan, `SCENE/`, holds frames (`color/I.jpg`, `depth/I.png` in millimetres, `pose/I.txt`, and
    `intrinsic/intrinsic_{color,depth}.txt`; or `SCENE.sens`), and what there is of `SCENE.txt` (`axisAlignment`; test
    scans have none and are taken as they stand), `SCENE_vh_clean_2.ply`, its `.segs.json` and `SCENE.aggregation.json`.

    Attributes:
        path: a scan, or a folder of scans.
        every: takes every n-th frame; they come 30 a second.
    """

    path: Path
    every: int = 1
    kind: Literal["scannet"] = "scannet"

    @cached_property
    def _scenes(self) -> dict[str, Path]:
        return scene_folders(self.path, is_scannet_scan, "a .sens file, color/ and pose/, or a _vh_clean_2.ply mesh")

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self._scenes)

    def read(self, name: str) -> Scene:
        """Read a scan.

        Raises:
            ValueError: there is no such scan, a file of it is broken, or not one of its frames can be used.
        """
        folder = pick(self._scenes, name)
        views, skipped = self._views(folder, name)
        aligned = read_axis_alignment(folder / f"{name}.txt")
        points, colours = _mesh(folder, name)
        boxes = () if points is None else _boxes(folder, name, points, aligned)
        return Scene(name, views, points, colours, boxes, aligned, skipped=skipped)

    def _views(self, folder: Path, name: str) -> tuple[LazyViews, tuple[Skipped, ...]]:
        if (folder / "color").is_dir():
            numbers = sorted((path.stem for path in (folder / "color").iterdir() if path.stem.isdigit()), key=int)
            intrinsics = [_exported_intrinsics(folder, camera) for camera in ("color", "depth")]

            def exported(number: str) -> ScanNetFrame:
                if not (depth := folder / "depth" / f"{number}.png").is_file():
                    raise ValueError(f"its depth is missing: expected {depth}")
                _check_shape(_colour(folder, number), depth)
                return ScanNetFrame(folder, number, read_pose(folder / "pose" / f"{number}.txt"), *intrinsics)

            return sort_frames(folder, numbers[:: self.every], exported)
        if (folder / f"{name}.sens").is_file():
            frames = {frame.name: frame for frame in read_sens(folder / f"{name}.sens")[:: self.every]}

            def recorded(number: str) -> SensFrame:
                check_pose(frames[number].world_from_camera, f"frame {number}")
                return frames[number]

            return sort_frames(folder, list(frames), recorded)
        return LazyViews(()), ()


def is_scannet_scan(folder: Path) -> bool:
    """Whether a folder holds a scan."""
    frames = (folder / "color").is_dir() and (folder / "pose").is_dir()
    return frames or any(folder.glob("*.sens")) or any(folder.glob("*_vh_clean_2.ply"))


def read_axis_alignment(path: Path) -> Float[Tensor, "4 4"]:
    """`axisAlignment` of a scan's `.txt`; the identity where the file or the line is missing, as in the test set.

    Raises:
        ValueError: the line does not hold a rigid motion of 16 numbers.
    """
    if not path.is_file():
        return torch.eye(4)
    for line in path.read_text().splitlines():
        key, _, text = line.partition("=")
        if key.strip() == "axisAlignment":
            try:
                values = torch.tensor([float(number) for number in text.split()])
            except ValueError:
                raise ValueError(f"{path}: axisAlignment: expected 16 numbers, got {text.strip()!r}") from None
            if len(values) != 16:
                raise ValueError(f"{path}: axisAlignment: expected 16 numbers, got {len(values)}")
            return check_pose(values.reshape(4, 4), f"{path}: axisAlignment")
    return torch.eye(4)


def _colour(folder: Path, number: str) -> Path:
    jpeg = folder / "color" / f"{number}.jpg"
    return jpeg if jpeg.is_file() else jpeg.with_suffix(".png")


def _check_shape(colour: Path, depth: Path) -> None:
    """Colour may be of another size than depth, but not of another shape."""
    (height, width), (depth_height, depth_width) = picture_size(colour), picture_size(depth)
    if abs(width / height - depth_width / depth_height) > 0.05:
        raise ValueError(
            f"{depth}: its depth is {depth_width}x{depth_height} but its picture {width}x{height}, of another shape"
        )


def _exported_intrinsics(folder: Path, camera: str) -> Tensor:
    return pinhole_of(read_matrix(folder / "intrinsic" / f"intrinsic_{camera}.txt", (3, 3)))


def _mesh(folder: Path, name: str) -> tuple[Tensor, Tensor] | tuple[None, None]:
    path = folder / f"{name}_vh_clean_2.ply"
    if not path.is_file():
        return None, None
    import open3d

    cloud = open3d.io.read_point_cloud(path)
    points = torch.from_numpy(np.asarray(cloud.points)).float()
    if not len(points):
        raise ValueError(f"{path}: no readable mesh: it has not one vertex")
    colours = torch.from_numpy(np.asarray(cloud.colors)).float()
    return points, colours if len(colours) else torch.full_like(points, 0.5)


def _boxes(folder: Path, name: str, points: Tensor, aligned_from_world: Tensor) -> tuple[SceneBox, ...]:
    """Boxes around the instances, scene axes; `id` is `objectId`."""
    groups = folder / f"{name}.aggregation.json"
    segments = folder / f"{name}_vh_clean_2.0.010000.segs.json"
    if not groups.is_file() and not segments.is_file():
        return ()
    records, indices = read_json(groups), read_json(segments)
    try:
        of_vertex = np.asarray(indices["segIndices"], dtype=np.int64)
        instances = [
            (int(group["objectId"]), str(group["label"]), np.asarray(group["segments"], dtype=np.int64))
            for group in records["segGroups"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{groups} and {segments.name}: expected segGroups and segIndices ({error!r})") from None
    if len(of_vertex) != len(points):
        raise ValueError(f"{segments}: segments of {len(of_vertex)} vertices, but the mesh has {len(points)}")
    aligned = points @ aligned_from_world[:3, :3].T + aligned_from_world[:3, 3]
    boxes = []
    for number, label, members in instances:
        inside = aligned[torch.from_numpy(np.isin(of_vertex, members))]
        if not len(inside):
            raise ValueError(f"{groups}: object {number} ({label}) has no vertex in {segments.name}")
        boxes.append(SceneBox(label, number, inside.amin(dim=0), inside.amax(dim=0)))
    return tuple(boxes)
