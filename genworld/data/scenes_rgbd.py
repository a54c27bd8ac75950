"""Folders of posed RGB-D: the plain layout of 7-Scenes and Open3D, and the Habitat rooms of 3DMV-VQA."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_axes import Up, aligned_from_up, estimate_up, up_vector
from genworld.data.scene_files import (
    OPENCV_FROM_OPENGL,
    check_depth,
    check_pose,
    field_of_view,
    from_quaternion,
    pick,
    picture_size,
    pinhole_of,
    read_depth,
    read_json,
    read_matrix,
    read_picture,
    read_pose,
    rigid,
    scene_folders,
    some_views,
    sort_frames,
    to_view_pixels,
)
from genworld.types import Scene, View

INTRINSICS = ("camera-intrinsics.txt", "intrinsics.txt")
ALIGNMENT = "aligned-from-world.txt"
_LOOKED_AT = 8  # views that tell which way is up
_COLOUR = re.compile(r"(?P<name>.+)\.color\.(jpg|jpeg|png)$")


@dataclass(frozen=True)
class RgbdFrame:
    """A view of a folder of posed RGB-D."""

    colour: Path
    depth: Path | None
    unit: float
    world_from_camera: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]

    @property
    def name(self) -> str:
        """The part before `.color`."""
        return _frame_name(self.colour)

    def read(self) -> View:
        """See `Frame`."""
        pixels = to_view_pixels(read_picture(self.colour, str(self.colour)))
        size = (pixels.shape[1], pixels.shape[2])
        depth = None if self.depth is None else check_depth(read_depth(self.depth, self.unit), size, str(self.depth))
        return View(pixels, depth, self.world_from_camera, self.intrinsics, self.name)


@dataclass(frozen=True)
class RgbdFolder:
    """Posed RGB-D in one folder per scene. Implements `SceneSource`.

    A scene holds `NAME.color.jpg` (or .png), `NAME.depth.png` (16 bits; 0: no reading), `NAME.pose.txt` (4x4
    world-from-camera, OpenCV axes), `camera-intrinsics.txt` (3x3, first pixel centred on 0) and, if it is known,
    `aligned-from-world.txt` (4x4; z up).

    Attributes:
        path: a scene, or a folder of scenes.
        up: which world axis points up; "auto" takes `aligned-from-world.txt`, or else looks at the views.
        depth_unit: metres per level of the depth pictures.
    """

    path: Path
    up: Up | Literal["auto"] = "auto"
    depth_unit: float = 0.001
    kind: Literal["rgbd"] = "rgbd"

    @cached_property
    def _scenes(self) -> dict[str, Path]:
        return scene_folders(self.path, is_rgbd_folder, "NAME.color.jpg, NAME.depth.png and NAME.pose.txt files")

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self._scenes)

    def read(self, name: str) -> Scene:
        """Read a scene.

        Raises:
            ValueError: there is no such scene, no intrinsics, or not one usable frame.
        """
        folder = pick(self._scenes, name)
        intrinsics = _intrinsics(folder)
        colours = {_frame_name(path): path for path in sorted(folder.iterdir()) if _COLOUR.match(path.name)}
        any_depth = any((folder / f"{frame}.depth.png").is_file() for frame in colours)

        def make(frame: str) -> RgbdFrame:
            pose = read_pose(folder / f"{frame}.pose.txt")
            depth = folder / f"{frame}.depth.png" if any_depth else None
            if depth is not None:
                _same_size(colours[frame], depth)
            return RgbdFrame(colours[frame], depth, self.depth_unit, pose, intrinsics)

        views, skipped = sort_frames(folder, list(colours), make)
        scene = Scene(name, views, skipped=skipped)
        if self.up != "auto":
            aligned = aligned_from_up(up_vector(self.up))
        elif (folder / ALIGNMENT).is_file():
            aligned = read_pose(folder / ALIGNMENT)
        else:
            scene, seen = some_views(scene, _LOOKED_AT)
            aligned = aligned_from_up(estimate_up(seen, _LOOKED_AT))
        return replace(scene, aligned_from_world=aligned)


def is_rgbd_folder(folder: Path) -> bool:
    """Whether a folder holds posed RGB-D in the plain layout."""
    return any(_COLOUR.match(path.name) for path in folder.iterdir())


def _frame_name(path: Path) -> str:
    found = _COLOUR.match(path.name)
    assert found, path
    return found["name"]


def _intrinsics(folder: Path) -> Tensor:
    for name in INTRINSICS:
        if (folder / name).is_file():
            return pinhole_of(read_matrix(folder / name, (3, 3)))
    raise ValueError(f"{folder}: its intrinsics are missing: expected a 3x3 matrix in {INTRINSICS[0]}")


def _same_size(colour: Path, depth: Path) -> None:
    if not depth.is_file():
        raise ValueError(f"its depth is missing: expected {depth}")
    sizes = picture_size(colour), picture_size(depth)
    if sizes[0] != sizes[1]:
        (h, w), (dh, dw) = sizes
        raise ValueError(f"{depth}: its depth is {dw}x{dh} but its picture {w}x{h}: resize one, with its intrinsics")


@dataclass(frozen=True)
class HabitatFrame:
    """A view that Habitat rendered."""

    colour: Path
    fov: float
    world_from_camera: Float[Tensor, "4 4"]

    @property
    def name(self) -> str:
        """Number of the view."""
        return self.colour.stem

    def read(self) -> View:
        """See `Frame`."""
        pixels = to_view_pixels(read_picture(self.colour, str(self.colour)))
        size = (pixels.shape[1], pixels.shape[2])
        path = self.colour.with_name(f"{self.name}_depth.npy")
        depth = check_depth(_load_npy(path), size, str(path)) if path.is_file() else None
        return View(pixels, depth, self.world_from_camera, field_of_view(self.fov, *size), self.name)


@dataclass(frozen=True)
class HabitatRooms:
    """Rooms of 3DMV-VQA (3D-CLR, Hong et al. 2023): views that Habitat rendered in HM3D. Implements `SceneSource`.

    A room, `HOUSE_ROOM/`, holds `I.png`, `I_depth.npy` (metres) and `I.json` with `pose` (4x4, world from an OpenGL
    camera, y up), or `rotation` (quaternion, real part first) and `translation`.

    Attributes:
        path: a room, or a folder of rooms.
        horizontal_fov: degrees; 90 in 3DMV-VQA.
        every: takes every n-th view of a room, which has up to a thousand.
    """

    path: Path
    horizontal_fov: float = 90.0
    every: int = 1
    kind: Literal["habitat"] = "habitat"

    @cached_property
    def _scenes(self) -> dict[str, Path]:
        return scene_folders(self.path, is_habitat_room, "I.png, I_depth.npy and I.json files")

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self._scenes)

    def read(self, name: str) -> Scene:
        """Read a room.

        Raises:
            ValueError: there is no such room, or not one usable view.
        """
        folder = pick(self._scenes, name)
        colours = sorted((p for p in folder.glob("*.png") if p.stem.isdigit()), key=lambda path: int(path.stem))
        by_name = {path.stem: path for path in colours[:: self.every]}

        def make(frame: str) -> HabitatFrame:
            colour = by_name[frame]
            if not (record := colour.with_suffix(".json")).is_file():
                raise ValueError(f"its pose is missing: expected {record}")
            return HabitatFrame(colour, self.horizontal_fov, _habitat_pose(record))

        views, skipped = sort_frames(folder, list(by_name), make)
        return Scene(name, views, aligned_from_world=aligned_from_up(up_vector("y")), skipped=skipped)


def is_habitat_room(folder: Path) -> bool:
    """Whether a folder holds views as 3DMV-VQA keeps them."""
    return any(path.stem.isdigit() and path.with_suffix(".json").is_file() for path in folder.glob("*.png"))


def _habitat_pose(path: Path) -> Tensor:
    record = read_json(path)
    try:
        if "pose" in record:
            pose = torch.tensor(record["pose"], dtype=torch.float32).reshape(4, 4)
        else:
            rotation = from_quaternion(*map(float, record["rotation"]))
            pose = rigid(rotation, torch.tensor(record["translation"], dtype=torch.float64)).float()
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a 4x4 pose, or a rotation and a translation ({error!r})") from None
    return check_pose(pose, str(path)) @ OPENCV_FROM_OPENGL


def _load_npy(path: Path) -> Tensor:
    try:
        values = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a readable array ({error})") from None
    return torch.from_numpy(values.astype(np.float32).squeeze())


@dataclass(frozen=True)
class SemanticObject:
    """An object of HM3DSem: instance, colour of its texels, category, and the room it is in."""

    id: int
    colour: tuple[int, int, int]
    category: str
    region: int


def read_hm3d_semantics(path: str | Path) -> tuple[SemanticObject, ...]:
    """The objects of a house, from HM3DSem's `.semantic.txt`. It gives no extents; rooms have numbers but no names.

    Raises:
        ValueError: not such a file; names the line.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].strip().startswith("HM3D Semantic Annotations"):
        raise ValueError(f"{path}: expected the first line to be 'HM3D Semantic Annotations'")
    objects = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        found = re.fullmatch(r'\s*(\d+)\s*,\s*([0-9A-Fa-f]{6})\s*,\s*"(.*)"\s*,\s*(-?\d+)\s*', line)
        if not found:
            raise ValueError(f'{path}, line {number}: expected id,RRGGBB,"category",region, got {line!r}')
        red, green, blue = bytes.fromhex(found[2])
        objects.append(SemanticObject(int(found[1]), (red, green, blue), found[3], int(found[4])))
    return tuple(objects)
