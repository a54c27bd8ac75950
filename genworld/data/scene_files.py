"""What readers of scenes share: views that are read when asked for, matrices, pictures, depth, and checks of poses."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from genworld.types import Scene, Skipped, UnreadableViewError, View

logger = logging.getLogger(__name__)

OPENCV_FROM_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
"""Camera axes x right, y up, z backward (OpenGL, Blender, Habitat) into x right, y down, z forward; its own inverse."""
NO_READING = 65535  # what Kinects store beside 0
_ROTATION_ERROR = 0.02  # poses are printed with few digits


class Frame(Protocol):
    """A view that has not been read yet."""

    @property
    def name(self) -> str:
        """Which one it is."""
        ...

    def read(self) -> View:
        """Read it.

        Raises:
            ValueError: it cannot be used; says why.
        """
        ...


@dataclass(frozen=True)
class LazyViews(Sequence[View]):
    """Views that are read each time they are asked for; nothing is kept. Frames that fail: `UnreadableViewError`."""

    frames: tuple[Frame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> LazyViews: ...
    def __getitem__(self, index: int | slice) -> View | LazyViews:
        if isinstance(index, slice):
            return LazyViews(self.frames[index])
        frame = self.frames[index]
        try:
            return frame.read()
        except ValueError as error:
            raise UnreadableViewError(frame.name, str(error)) from error


def without_unreadable(scene: Scene) -> Scene:
    """The scene without the views that fail when they are read, which join `skipped`. Reads every view once.

    Raises:
        ValueError: not one view can be read.
    """
    lost: list[Skipped] = []
    good = [index for index, _ in scene.readable(lost)]
    return _keep(scene, good, lost)


def some_views(scene: Scene, most: int) -> tuple[Scene, list[View]]:
    """Views spread evenly over a scene, and the scene without those of them that cannot be read.

    Args:
        scene: its views are in world axes, and so are those that are given.
        most: how many to read. Others are tried only where not one of these can be read.

    Raises:
        ValueError: not one view can be read.
    """
    chosen = torch.linspace(0, scene.num_views - 1, min(most, scene.num_views)).round().long().tolist()
    lost: list[Skipped] = []
    seen = dict(scene.readable(lost, chosen))
    if lost and not seen:
        return some_views(without_unreadable(scene), most)
    bad = set(chosen) - set(seen)
    return _keep(scene, [index for index in range(scene.num_views) if index not in bad], lost), list(seen.values())


def _keep(scene: Scene, good: Sequence[int], lost: Sequence[Skipped]) -> Scene:
    """The scene with some of its views, the others in `skipped`."""
    if not lost:
        return scene
    skipped = (*scene.skipped, *lost)
    if not good:
        raise ValueError(f"{scene.name}: not one of its views can be read:{listing(skipped)}")
    if isinstance(scene.views, LazyViews):
        return replace(scene, views=LazyViews(tuple(scene.views.frames[i] for i in good)), skipped=skipped)
    return replace(scene, views=tuple(scene.views[i] for i in good), skipped=skipped)


def sort_frames(
    where: str | Path, names: Sequence[str], make: Callable[[str], Frame], skipped: Sequence[Skipped] = ()
) -> tuple[LazyViews, tuple[Skipped, ...]]:
    """The frames that can be used, and the others, each with its reason. Logs how many are left out.

    Args:
        where: the scene, for messages.
        names: of all frames.
        make: gives the frame, or raises `ValueError` for one that cannot be used.
        skipped: what had to be left out before.

    Raises:
        ValueError: there are no frames, or not one can be used.
    """
    frames, out = [], list(skipped)
    for name in names:
        try:
            frames.append(make(name))
        except ValueError as error:
            out.append(Skipped(name, str(error)))
    if not frames:
        raise ValueError(
            f"{where}: an empty scene: none of its {len(out)} frames can be used{':' if out else ''}{listing(out)}"
        )
    if out:
        logger.warning("%s: %d of %d frames are left out:%s", where, len(out), len(out) + len(frames), listing(out))
    return LazyViews(tuple(frames)), tuple(out)


def listing(skipped: Sequence[Skipped], most: int = 5) -> str:
    """Lines that name what was left out, and why."""
    lines = [f"\n  {item.name}: {item.reason}" for item in skipped[:most]]
    return "".join(lines + ([f"\n  and {len(skipped) - most} more"] if len(skipped) > most else []))


def scene_folders(root: str | Path, is_scene: Callable[[Path], bool], expected: str) -> dict[str, Path]:
    """Scenes by name: `root` itself if it is one, else those of its folders that are.

    Raises:
        ValueError: there are none; `expected` says what a scene looks like.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder: expected a scene, or a folder of scenes, with {expected}")
    if is_scene(root):
        return {root.resolve().name: root}
    found = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and is_scene(path)}
    if not found:
        raise ValueError(f"{root}: neither a scene nor a folder of scenes: expected {expected}")
    return found


def pick(scenes: dict[str, Path], name: str) -> Path:
    """The folder of a scene.

    Raises:
        ValueError: there is no such scene.
    """
    if name not in scenes:
        some = ", ".join(list(scenes)[:5])
        raise ValueError(f"no scene {name!r}: there are {len(scenes)}, such as {some}")
    return scenes[name]


def read_matrix(path: Path, shape: tuple[int, int]) -> Float[Tensor, "rows columns"]:
    """A matrix from a text file of numbers, row by row; of a larger one, the upper left part.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    try:
        values = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: expected a {shape[0]}x{shape[1]} matrix") from None
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: not a matrix of numbers ({error})") from None
    if values.size == shape[0] * shape[1]:
        values = values.reshape(shape)
    if values.shape[0] < shape[0] or values.shape[1] < shape[1]:
        raise ValueError(f"{path}: expected a {shape[0]}x{shape[1]} matrix, got {'x'.join(map(str, values.shape))}")
    return torch.from_numpy(values[: shape[0], : shape[1]].copy()).float()


def read_pose(path: Path) -> Float[Tensor, "4 4"]:
    """A rigid 4x4 pose from a text file.

    Raises:
        ValueError: it is missing, infinite, or no rigid motion.
    """
    if not path.is_file():
        raise ValueError(f"its pose is missing: expected {path}")
    return check_pose(read_matrix(path, (4, 4)), str(path))


def check_pose(pose: Float[Tensor, "4 4"], where: str) -> Float[Tensor, "4 4"]:
    """The pose, if it is a rigid motion.

    Raises:
        ValueError: it is infinite (tracking was lost), or no rigid motion.
    """
    if not bool(pose.isfinite().all()):
        raise ValueError(f"{where}: its pose is infinite or not a number: tracking was lost")
    rotation = pose[:3, :3].double()
    error = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if error > _ROTATION_ERROR or torch.linalg.det(rotation) < 0:
        det = float(torch.linalg.det(rotation))
        raise ValueError(
            f"{where}: not a rigid motion: R R^T is {error:.3g} away from the identity and det R is {det:.3g}"
        )
    if not torch.allclose(pose[3], torch.tensor([0.0, 0.0, 0.0, 1.0]), atol=1e-4):
        raise ValueError(f"{where}: the last row of a pose is 0 0 0 1, got {pose[3].tolist()}: is it transposed?")
    return pose


def pinhole(fx: float, fy: float, cx: float, cy: float) -> Float[Tensor, "3 3"]:
    """Intrinsics from a calibration that puts the centre of the first pixel at 0, as OpenCV does."""
    return torch.tensor([[fx, 0.0, cx + 0.5], [0.0, fy, cy + 0.5], [0.0, 0.0, 1.0]])


def pinhole_of(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "3 3"]:
    """`pinhole` of a matrix.

    Raises:
        ValueError: it has no positive focal length, or is not finite.
    """
    fx, fy, cx, cy = (float(matrix[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        raise ValueError(f"expected a pinhole matrix with positive focal lengths, got {matrix.tolist()}")
    return pinhole(fx, fy, cx, cy)


def field_of_view(degrees: float, height: int, width: int) -> Float[Tensor, "3 3"]:
    """Intrinsics of a simulated camera: square pixels, and a horizontal field of view."""
    focal = width / 2 / math.tan(math.radians(degrees) / 2)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def read_picture(source: Path | bytes, where: str) -> Image.Image:
    """A colour picture from a file or from its bytes.

    Raises:
        ValueError: it is missing, or no picture.
    """
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{where}: not a readable picture ({error})") from None


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width, from the header alone.

    Raises:
        ValueError: the file is missing, or no picture.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path}: not a readable picture ({error})") from None


def to_view_pixels(image: Image.Image) -> Float[Tensor, "3 H W"]:
    """Pixels in [-1, 1]."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float().div_(127.5).sub_(1)


def read_depth(path: Path, unit: float) -> Float[Tensor, "H W"]:
    """Metres from a 16-bit picture whose levels are `unit` metres; 0 where it says 0 or 65535.

    Raises:
        ValueError: no 16-bit picture.
    """
    try:
        with Image.open(path) as image:
            levels = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable depth picture ({error})") from None
    if levels.ndim != 2 or levels.dtype == np.uint8:
        raise ValueError(f"{path}: expected one channel of 16 bits, got {levels.dtype} of shape {levels.shape}")
    return metres(levels, unit)


def metres(levels: np.ndarray, unit: float) -> Float[Tensor, "H W"]:
    """Depth from levels of `unit` metres; 0 where the sensor gave none."""
    return torch.from_numpy(np.where(levels >= NO_READING, 0, levels).astype(np.float32) * np.float32(unit))


def check_depth(depth: Float[Tensor, "H W"], size: tuple[int, int], where: str) -> Float[Tensor, "H W"]:
    """The depth, if it fits the picture and says something; what is not finite or not positive becomes 0.

    Raises:
        ValueError: another size than the picture's, or not one valid reading.
    """
    if tuple(depth.shape) != size:
        raise ValueError(
            f"{where}: its depth is {depth.shape[1]}x{depth.shape[0]} but its picture {size[1]}x{size[0]}: "
            "resize one of them, with its intrinsics"
        )
    depth = torch.where(depth.isfinite() & (depth > 0), depth, 0.0)
    if not bool(depth.any()):
        raise ValueError(f"{where}: its depth has not one valid reading")
    return depth


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
        ValueError: it is missing, or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None


def rigid(rotation: Float[Tensor, "3 3"], translation: Float[Tensor, " 3"]) -> Float[Tensor, "4 4"]:
    """A pose from its parts."""
    pose = torch.eye(4, dtype=rotation.dtype)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def inverse(pose: Float[Tensor, "*N 4 4"]) -> Float[Tensor, "*N 4 4"]:
    """Of a rigid motion."""
    turned = pose[..., :3, :3].mT
    result = torch.zeros_like(pose)
    result[..., :3, :3], result[..., :3, 3:], result[..., 3, 3] = turned, -turned @ pose[..., :3, 3:], 1.0
    return result


def from_quaternion(w: float, x: float, y: float, z: float) -> Float[Tensor, "3 3"]:
    """Rotation of a quaternion, real part first, in float64; need not be of unit length.

    Raises:
        ValueError: it is zero or not finite.
    """
    q = torch.tensor([w, x, y, z], dtype=torch.float64)
    length = q.norm()
    if not 1e-6 < float(length) < math.inf:
        raise ValueError(f"a quaternion of length {float(length):g} is no rotation")
    w, x, y, z = (q / length).tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
