"""An agent's camera: upright at a fixed height, looking where the agent does."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from genworld.world.navigation.motion import Stance

NEAR = 0.05
"""Metres: nothing nearer to the camera is seen."""


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """RGB-D of one pinhole camera: colour and depth have one size. Height and field of view are those of R2R-CE.

    Attributes:
        size: height and width of the pictures, pixels.
        height: above the floor, metres; 0.88 in RxR-CE.
        fov: across the width, degrees; 79 in RxR-CE.
        near: depth is told as no less than this, metres; 0.5 in RxR-CE.
        far: and as no more than this; 5 in RxR-CE, 10 in R2R-CE.
    """

    size: tuple[int, int] = (128, 128)
    height: float = 1.25
    fov: float = 90.0
    near: float = 0.0
    far: float = math.inf

    def __post_init__(self) -> None:
        if not (min(self.size) >= 1 and self.height > 0 and 0 < self.fov < 180):
            raise ValueError(f"expected sizes >= 1, height > 0 metres and fov in (0, 180) degrees, got {self}")
        if not 0 <= self.near < self.far:
            raise ValueError(f"expected 0 <= near < far in metres, got near={self.near} and far={self.far}")

    def __repr__(self) -> str:
        # Names of kept points are made of it, and those of cameras without a range of depth are older than the range.
        shown = [each for each in fields(self) if each.name not in ("near", "far") or self.ranged]
        return f"CameraConfig({', '.join(f'{each.name}={getattr(self, each.name)!r}' for each in shown)})"

    @property
    def ranged(self) -> bool:
        """Whether depth is clamped."""
        return self.near > 0 or self.far < math.inf

    def clamped(self, depth: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
        """Depth as this camera tells it: Habitat's, in metres. No reading (0) becomes `near` too, as it does there."""
        return np.clip(depth, self.near, self.far) if self.ranged else depth

    def readings(self, depth: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
        """What it told, with 0 where that is an end of its range: something, or nothing, is nearer or farther there."""
        return np.where((depth > self.near) & (depth < self.far), depth, 0) if self.ranged else depth

    @property
    def focal(self) -> float:
        """Pixels."""
        return 0.5 * self.size[1] / math.tan(math.radians(self.fov) / 2)

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Pinhole matrix in pixels; the first pixel spans 0 to 1."""
        height, width = self.size
        return np.array([[self.focal, 0.0, width / 2], [0.0, self.focal, height / 2], [0.0, 0.0, 1.0]])

    def rays(self) -> tuple[Float[np.ndarray, " W"], Float[np.ndarray, " H"]]:
        """x/z of every column's middle and y/z of every row's, in the camera's axes."""
        height, width = self.size
        return (np.arange(width) + 0.5 - width / 2) / self.focal, (np.arange(height) + 0.5 - height / 2) / self.focal


class Viewer(Protocol):
    """What an agent sees in a place."""

    @property
    def camera(self) -> CameraConfig:
        """What it is seen with."""
        ...

    def __call__(self, stance: Stance) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
        """Colour, and depth in metres along the camera's z axis (0: no reading), clamped to its range, float32."""
        ...


def world_from_camera(stance: Stance, height: float) -> Float[np.ndarray, "4 4"]:
    """Pose of the camera at `height` in scene axes, metres; OpenCV camera axes."""
    c, s = math.cos(stance.heading), math.sin(stance.heading)
    cp, sp = math.cos(stance.pitch), math.sin(stance.pitch)
    pose = np.eye(4)
    pose[:3, 0] = s, -c, 0
    pose[:3, 1] = c * sp, s * sp, -cp
    pose[:3, 2] = c * cp, s * cp, sp
    pose[:3, 3] = stance.x, stance.y, height
    return pose


def sight_lines(
    camera: CameraConfig, stance: Stance, floor: float = 0.0, stride: int = 1
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "H W 3"]]:
    """Where the camera is, and which way every `stride`-th pixel looks; scene axes, metres.

    A pixel with depth z shows the place at the first plus z times the second.
    """
    u, v = (rays[::stride] for rays in camera.rays())
    pose = world_from_camera(stance, floor + camera.height)
    return pose[:3, 3], np.stack(np.broadcast_arrays(u[None], v[:, None], 1.0), axis=-1) @ pose[:3, :3].T
