"""Held-out clips of the world with the truth that judges of video tasks need: one object, its place, its colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from genworld.data.loader import WorldData
from genworld.data.synthetic import from_bytes, to_bytes
from genworld.types import CameraPath, ClipShape
from genworld.world import WorldConfig, sample_clip
from genworld.world.clip import WorldClip
from genworld.world.language import describe
from genworld.world.objects import COLOURS

MOVES = 2 / 64
"""Shorter sides of the picture that an object's centre goes before it is called moving."""


@dataclass(frozen=True)
class Case:
    """A held-out clip of one object and what is true about it.

    Attributes:
        pixels: rounded to 8 bits, as training sees them.
        text: its caption.
        other_text: the same caption with `other_colour` in it.
        colour: of the object.
        other_colour: one of quite another hue.
        path: where the object's centre projects to, column and row in pixels; NaN outside the picture.
        mask: the object's pixels.
        camera: where the camera is.
    """

    pixels: Float[Tensor, "3 F H W"]
    text: str
    other_text: str
    colour: str
    other_colour: str
    path: Float[np.ndarray, "F 2"]
    mask: Bool[Tensor, "F H W"]
    camera: CameraPath

    @property
    def moves(self) -> bool:
        """Whether the object goes anywhere in the picture."""
        seen = self.path[np.isfinite(self.path).all(1)]
        return bool(np.ptp(seen, axis=0).max() > MOVES * min(self.pixels.shape[2:]))


def still_cases(data: WorldData, shape: ClipShape, num: int) -> list[Case]:
    """Held-out clips of one object under a standing camera; else as the data's config has them."""
    world = replace(data.world, min_objects=1, max_objects=1, occluders=0.0, cameras=("stand",))
    return _cases(data, world, shape, num)


def camera_cases(data: WorldData, shape: ClipShape, num: int) -> list[Case]:
    """Held-out clips of one object that stays where it is, under cameras that move.

    Raises:
        ValueError: no camera of the data's config moves.
    """
    cameras = tuple(name for name in data.world.cameras if name != "stand")
    if not cameras:
        raise ValueError(f"data.world.cameras is {list(data.world.cameras)}: camera paths are judged by moving ones")
    world = replace(data.world, min_objects=1, max_objects=1, occluders=0.0, motions=("stay",), cameras=cameras)
    return _cases(data, world, shape, num)


def _cases(data: WorldData, world: WorldConfig, shape: ClipShape, num: int) -> list[Case]:
    first = data.offset + data.num_clips  # no scene from here on is trained on
    return [_case(sample_clip(seed, world, shape)) for seed in tqdm(range(first, first + num), desc="rendering")]


def _case(clip: WorldClip) -> Case:
    thing = clip.scene.objects[0]
    other = COLOURS[(COLOURS.index(thing.colour) + len(COLOURS) // 2) % len(COLOURS)]
    story = replace(clip.story, objects=(replace(thing, colour=other),))
    path = clip.pixel_positions[:, 0].double().numpy()
    inside = np.asarray(((path > 0) & (path < (clip.shape.width, clip.shape.height))).all(1))
    return Case(
        pixels=from_bytes(to_bytes(clip.clip.pixels)),
        text=clip.caption,
        other_text=describe(story, clip.scene.caption_style),
        colour=thing.colour,
        other_colour=other,
        path=np.where(inside[:, None], path, np.nan),
        mask=clip.masks[:, 0],
        camera=CameraPath(clip.world_from_camera, clip.intrinsics),
    )
