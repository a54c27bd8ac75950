"""ScanNet's `.sens` recordings (Dai et al. 2017): one binary file with every colour picture, depth map and pose."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from genworld.data.scene_files import check_depth, metres, pinhole_of, read_picture, to_view_pixels
from genworld.types import View

VERSION = 4
COLOUR_CODECS = {0: "raw", 1: "png", 2: "jpeg"}
DEPTH_CODECS = {0: "raw_ushort", 1: "zlib_ushort"}


@dataclass(frozen=True)
class Camera:
    """Size and intrinsics of one of the two cameras."""

    height: int
    width: int
    intrinsics: Float[Tensor, "3 3"]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True)
class SensFrame:
    """A view of a recording: where in the file it stands. Colour is given as the depth camera sees it."""

    path: Path
    index: int
    world_from_camera: Float[Tensor, "4 4"]
    offset: int
    sizes: tuple[int, int]
    codecs: tuple[str, str]
    cameras: tuple[Camera, Camera]
    depth_unit: float

    @property
    def name(self) -> str:
        """Number of the frame."""
        return str(self.index)

    def read(self) -> View:
        """See `Frame`."""
        where = f"{self.path}, frame {self.index}"
        with self.path.open("rb") as file:
            file.seek(self.offset)
            colour, depth = (_take(file, size, self.path) for size in self.sizes)
        (colour_camera, depth_camera), size = self.cameras, self.cameras[1].size
        if self.codecs[0] == "raw":
            shape = (*colour_camera.size, 3)
            image = Image.fromarray(_array(colour, np.uint8, shape, f"{where}, colour"))
        else:
            image = read_picture(colour, f"{where}, colour")
        try:
            packed = zlib.decompress(depth) if self.codecs[1] == "zlib_ushort" else depth
        except zlib.error as error:
            raise ValueError(f"{where}: its depth cannot be decompressed ({error})") from None
        levels = _array(packed, np.dtype("<u2"), size, f"{where}, depth")
        seen = check_depth(metres(levels, self.depth_unit), size, where)
        pixels = to_view_pixels(seen_by(image, colour_camera.intrinsics, depth_camera))
        return View(pixels, seen, self.world_from_camera, depth_camera.intrinsics, self.name)


def seen_by(image: Image.Image, intrinsics: Float[Tensor, "3 3"], camera: Camera) -> Image.Image:
    """A picture as a camera in the same place, with other intrinsics, would have taken it; black beyond its edge."""
    k, target = intrinsics.double(), camera.intrinsics.double()
    corners = torch.tensor([[0.0, 0.0], [camera.width, camera.height]], dtype=torch.float64)
    focal, centre = torch.stack([k[0, 0], k[1, 1]]), k[:2, 2]
    target_focal = torch.stack([target[0, 0], target[1, 1]])
    (left, top), (right, bottom) = ((corners - target[:2, 2]) / target_focal * focal + centre).tolist()
    x, y = int(np.floor(min(left, 0))), int(np.floor(min(top, 0)))
    edge = (x, y, int(np.ceil(max(right, image.width))), int(np.ceil(max(bottom, image.height))))
    padded = image if edge == (0, 0, *image.size) else image.crop(edge)
    box = (left - x, top - y, right - x, bottom - y)
    return padded.resize((camera.width, camera.height), Image.Resampling.BILINEAR, box)


def read_sens(path: Path) -> list[SensFrame]:
    """The frames of a recording; reads its index alone. Poses are not checked.

    ScanNet's extrinsics between the two cameras are taken to be the identity, as its own tools do.

    Raises:
        ValueError: not such a file, a codec that is not supported, or the file ends early.
    """
    with path.open("rb") as file:
        (version,) = _unpack(file, "<I", path)
        if version != VERSION:
            raise ValueError(f"{path}: expected a .sens file of version {VERSION}, got version {version}")
        (length,) = _unpack(file, "<Q", path)
        _take(file, min(length, 1 << 16), path)
        matrices = np.frombuffer(_take(file, 4 * 64, path), "<f4").reshape(4, 4, 4).copy()
        codes = _unpack(file, "<ii", path)
        codecs = COLOUR_CODECS.get(codes[0]), DEPTH_CODECS.get(codes[1])
        if codecs[0] is None or codecs[1] is None:
            raise ValueError(
                f"{path}: compressed by codecs {codes}: expected colour {COLOUR_CODECS} and depth {DEPTH_CODECS}"
            )
        width, height, depth_width, depth_height = _unpack(file, "<4I", path)
        shift, count = _unpack(file, "<fQ", path)
        if not shift > 0:
            raise ValueError(f"{path}: expected positive depth levels per metre, got {shift}")
        intrinsics = [pinhole_of(torch.from_numpy(matrices[i])) for i in (0, 2)]
        cameras = Camera(height, width, intrinsics[0]), Camera(depth_height, depth_width, intrinsics[1])
        frames = []
        for index in range(count):
            pose = torch.from_numpy(np.frombuffer(_take(file, 64, path), "<f4").reshape(4, 4).copy())
            _, _, colour, depth = _unpack(file, "<4Q", path)
            frames.append(
                SensFrame(path, index, pose, file.tell(), (colour, depth), (codecs[0], codecs[1]), cameras, 1 / shift)
            )
            file.seek(colour + depth, 1)
        if file.tell() > path.stat().st_size:
            raise ValueError(f"{path}: it ends within frame {count - 1} of {count}: download it again")
    return frames


def _take(file: BinaryIO, size: int, path: Path) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{path}: it ends early: expected {size} bytes more, got {len(data)}")
    return data


def _unpack(file: BinaryIO, layout: str, path: Path) -> tuple:
    return struct.unpack(layout, _take(file, struct.calcsize(layout), path))


def _array(data: bytes, dtype: np.typing.DTypeLike, shape: tuple[int, ...], where: str) -> np.ndarray:
    values = np.frombuffer(data, dtype)
    if values.size != np.prod(shape):
        raise ValueError(f"{where}: expected {'x'.join(map(str, shape))} values, got {values.size}")
    return values.reshape(shape)
