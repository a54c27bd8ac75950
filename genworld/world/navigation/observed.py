"""What an agent saw, as views of a scene."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8

from genworld.types import View
from genworld.world.navigation.camera import CameraConfig, world_from_camera
from genworld.world.navigation.motion import Stance


def view_of(
    rgb: UInt8[np.ndarray, "H W 3"], depth: Float[np.ndarray, "H W"], stance: Stance, camera: CameraConfig, name: str
) -> View:
    """An observation as a view of a scene, without depth at the ends of the camera's range.

    Scene axes are those of the pose, with the floor at 0.
    """
    pixels = rearrange(torch.from_numpy(rgb).float(), "h w c -> c h w") / 127.5 - 1
    known = torch.from_numpy(camera.readings(depth)).float()
    pose = torch.from_numpy(world_from_camera(stance, camera.height)).float()
    return View(pixels, known, pose, torch.from_numpy(camera.intrinsics).float(), name)
