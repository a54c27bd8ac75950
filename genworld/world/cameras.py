"""Cameras that stand, orbit, dolly and pan, as functions of time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

CameraMotion = Literal["stand", "orbit", "dolly", "pan"]
CAMERA_MOTIONS: tuple[CameraMotion, ...] = ("stand", "orbit", "dolly", "pan")

_EASE = 3.0  # seconds after which dolly and pan have done two thirds of their way


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that looks at a point near the world's origin.

    Attributes:
        motion: what it does.
        rate: speed and sense of the motion per second at time 0. orbit: radians (positive goes to the camera's own
            right); dolly: part of the distance (positive comes closer); pan: radians (positive turns right).
        azimuth: where it stands at time 0, radians; 0 looks along +y.
        distance: horizontal metres from the target at time 0.
        height: metres above the floor.
        target: the point it looks at.
        half_fov: half the field of view across the shorter side of the image, radians.
    """

    motion: CameraMotion = "stand"
    rate: float = 0.0
    azimuth: float = 0.0
    distance: float = 6.8
    height: float = 3.0
    target: tuple[float, float, float] = (0.0, 0.0, 0.55)
    half_fov: float = math.radians(22.0)

    @property
    def phrase(self) -> str:
        """What it does, in words."""
        forward, backward = {
            "stand": ("stands still", "stands still"),
            "orbit": ("orbits to the right", "orbits to the left"),
            "dolly": ("moves closer", "moves back"),
            "pan": ("pans right", "pans left"),
        }[self.motion]
        return forward if self.rate >= 0 else backward

    def world_from_camera(self, times: Float[np.ndarray, " F"]) -> Float[np.ndarray, "F 4 4"]:
        """Poses at `times`, OpenCV axes (x right, y down, z forward), world z up, metres."""
        times = np.asarray(times, dtype=np.float64)
        eased = _EASE * -np.expm1(-times / _EASE)  # starts at unit speed and comes to rest: no camera runs away
        zero = np.zeros_like(times)
        azimuth = self.azimuth + (self.rate * times if self.motion == "orbit" else zero)
        distance = self.distance * np.exp(-self.rate * eased if self.motion == "dolly" else zero)
        height = self.target[2] + (self.height - self.target[2]) * distance / self.distance
        yaw = self.rate * eased if self.motion == "pan" else zero
        # At azimuth 0 the camera stands at -y; a growing azimuth takes it to its own right, +x.
        eye = np.stack(
            [self.target[0] + distance * np.sin(azimuth), self.target[1] - distance * np.cos(azimuth), height], axis=-1
        )
        heading = -azimuth + yaw  # clockwise from +y
        pitch = np.arctan2(height - self.target[2], distance)
        forward = np.stack([np.sin(heading) * np.cos(pitch), np.cos(heading) * np.cos(pitch), -np.sin(pitch)], axis=-1)
        right = np.stack([np.cos(heading), -np.sin(heading), zero], axis=-1)
        pose = np.tile(np.eye(4), (len(times), 1, 1))
        pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2] = right, np.cross(forward, right), forward
        pose[:, :3, 3] = eye
        return pose

    def intrinsics(self, height: int, width: int) -> Float[np.ndarray, "3 3"]:
        """Pinhole matrix in pixels for an image of any size; the centre of the first pixel is at (0.5, 0.5)."""
        focal = 0.5 * min(height, width) / math.tan(self.half_fov)
        return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
