"""Camera paths from words such as "orbit:+30deg", or from a file of poses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from genworld.types import CameraPath, ClipShape
from genworld.world.cameras import Camera

UNITS = {"orbit": "deg", "dolly": "m", "pan": "deg"}
GRAMMAR = "orbit:+30deg, dolly:0.5m, pan:-20deg (or several of them, joined by commas), stand, or a path.json"
TOLERANCE = 1e-3
"""How far a rotation of a file may be from orthonormal: poses are often kept with few digits."""

_MOVE = re.compile(r"(?P<motion>[a-z]+):(?P<amount>[+-]?(\d+\.?\d*|\.\d+))(?P<unit>[a-z]*)")


def parse_camera(text: str, shape: ClipShape, view: Camera | None = None) -> CameraPath:
    """The path that a person asks for in words.

    Motions begin at the first frame, are steady, and have done their total at the last one. Signs are those of the
    world's cameras: an orbit goes around the point that the camera looks at, at constant height, to the camera's own
    right where positive; a dolly comes closer to that point; a pan turns right on the spot. Joined by commas, they
    are done at once.

    Args:
        text: such as "orbit:+30deg", "dolly:-0.5m,pan:20deg", "stand", or the path of a .json file (see `read_camera`).
        shape: of the video.
        view: where the camera stands at first, and what it looks at from how far; by default as in the world, from
            which models learn about cameras.

    Raises:
        ValueError: the words cannot be understood or done; says which can.
    """
    if text.lower().endswith(".json"):
        return read_camera(Path(text), shape)
    view = view or Camera()
    amounts = _amounts(text)
    away = math.hypot(view.distance, view.height - view.target[2])
    if amounts.get("dolly", 0.0) >= away:
        raise ValueError(
            f"camera {text!r}: the camera would pass through what it looks at, {away:.2g} m away: come less close"
        )
    if shape.num_frames == 1 and any(amounts.values()):
        raise ValueError(f"camera {text!r}: a single frame shows no motion: ask for more frames, or leave it out")
    poses = [_pose(view, amounts, away, share) for share in np.linspace(0.0, 1.0, shape.num_frames)]
    return _path(np.stack(poses), view.intrinsics(shape.height, shape.width))


def read_camera(path: Path, shape: ClipShape) -> CameraPath:
    """The path in a JSON file: an object with these entries.

    - `world_from_camera`: one 4x4 matrix per frame, OpenCV axes (x right, y down, z forward), metres,
    - `intrinsics`: a 3x3 matrix in pixels,
    - `size`: height and width of the picture these pixels belong to; by default the video's own. The view is fitted
      as clips are: it covers the video, and its centre is kept.

    Raises:
        ValueError: the file is not there, or does not hold this; says what to change.
    """
    entries = _load(path)
    poses = _matrix(path, entries, "world_from_camera", (shape.num_frames, 4, 4))
    intrinsics = _matrix(path, entries, "intrinsics", (3, 3))
    rotation = poses[:, :3, :3]
    error = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = (error > TOLERANCE) | (np.linalg.det(rotation) < 0)
    wrong |= np.abs(poses[:, 3] - [0, 0, 0, 1]).max(axis=1) > TOLERANCE
    if wrong.any():
        raise ValueError(
            f"{path}: pose {wrong.argmax()} of world_from_camera is not a rotation and a translation: "
            "its upper left 3x3 must be orthonormal with determinant +1, its last row 0 0 0 1"
        )
    if min(intrinsics[0, 0], intrinsics[1, 1]) <= 0 or not np.allclose(intrinsics[2], [0, 0, 1]):
        raise ValueError(f"{path}: intrinsics must have positive focal lengths and the last row 0 0 1")
    if "size" in entries:
        height, width = _matrix(path, entries, "size", (2,))
        if min(height, width) <= 0:
            raise ValueError(f"{path}: size must be a positive height and width, got {entries['size']}")
        scale = max(shape.height / height, shape.width / width)
        intrinsics[:2] *= scale
        intrinsics[:2, 2] += (shape.width - scale * width) / 2, (shape.height - scale * height) / 2
    return _path(poses, intrinsics)


def _amounts(text: str) -> dict[str, float]:
    """How far each motion goes in all, in radians or metres."""
    if text.strip().lower() == "stand":
        return {}
    amounts: dict[str, float] = {}
    for part in text.lower().replace(" ", "").split(","):
        match = _MOVE.fullmatch(part)
        motion = match["motion"] if match else part.partition(":")[0]
        if match is None or motion not in UNITS:
            raise ValueError(f"camera {text!r}: {part!r} is not understood: give {GRAMMAR}")
        if match["unit"] != UNITS[motion]:
            raise ValueError(f"camera {text!r}: {motion} is measured in {UNITS[motion]}: give {GRAMMAR}")
        if motion in amounts:
            raise ValueError(f"camera {text!r}: {motion} comes twice: add the two up")
        amount = float(match["amount"])
        amounts[motion] = math.radians(amount) if UNITS[motion] == "deg" else amount
    return amounts


def _pose(view: Camera, amounts: Mapping[str, float], away: float, share: float) -> Float[np.ndarray, "4 4"]:
    """The pose when a share of the way is done. The world's own cameras make it, so that signs cannot differ."""
    left = 1 - share * amounts.get("dolly", 0.0) / away
    camera = replace(
        view,
        motion="stand",
        azimuth=view.azimuth + share * amounts.get("orbit", 0.0),
        distance=view.distance * left,
        height=view.target[2] + (view.height - view.target[2]) * left,
    )
    pose = camera.world_from_camera(np.zeros(1))[0]
    yaw = share * amounts.get("pan", 0.0)  # clockwise as seen from above
    turn = [[math.cos(yaw), math.sin(yaw), 0.0], [-math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
    pose[:3, :3] = np.array(turn) @ pose[:3, :3]
    return pose


def _path(poses: Float[np.ndarray, "F 4 4"], intrinsics: Float[np.ndarray, "3 3"]) -> CameraPath:
    return CameraPath(torch.from_numpy(poses).float(), torch.from_numpy(intrinsics).float())


def _load(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): give {GRAMMAR}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    needed, optional = {"world_from_camera", "intrinsics"}, {"size"}
    found = set(entries) if isinstance(entries, dict) else set()
    if not needed <= found <= needed | optional:
        raise ValueError(
            f"{path}: expected an object with world_from_camera, intrinsics and, optionally, size; got "
            + (f"{sorted(found)}" if isinstance(entries, dict) else f"a {type(entries).__name__}")
        )
    return entries


def _matrix(path: Path, entries: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An entry as numbers of the shape it must have."""
    try:
        values = np.array(entries[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{path}: {name} must be nested lists of numbers, {_times(shape)} of them") from None
    if name == "world_from_camera" and values.shape[1:] == shape[1:] and len(values) != shape[0]:
        raise ValueError(
            f"{path}: {len(values)} poses, but the video has {shape[0]} frames: give one pose per frame, "
            f"or ask for {len(values)} frames"
        )
    if values.shape != shape:
        raise ValueError(f"{path}: {name} must be {_times(shape)} numbers, got {_times(values.shape) or 'one'}")
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {name} holds numbers that are not finite")
    return values


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
