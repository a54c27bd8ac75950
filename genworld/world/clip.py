"""Clips of the world, with everything that is true about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genworld.types import Clip, ClipShape
from genworld.world.language import describe
from genworld.world.layout import Scene, WorldConfig, sample_scene
from genworld.world.physics import Event, Trajectory
from genworld.world.primitives import KINDS
from genworld.world.render import Geometry, render, trace
from genworld.world.stage import Stage
from genworld.world.story import Story, tell

_WATCH_RATE, _WATCH_SIZE = (
    24.0,
    64,
)  # frames per second and pixels at which hiding is looked for, whatever the clip's own
_HIDDEN = 0.02


@dataclass(frozen=True)
class WorldClip:
    """A stretch of a scene seen at some shape. Only what is asked for is computed, and then kept.

    Attributes:
        scene: what is filmed.
        trajectory: all motion and contacts from time 0 to the end of the clip.
        shape: frames, size, rate.
        start: time of the first frame, seconds.
        device: where pictures and geometry are made.
    """

    scene: Scene
    trajectory: Trajectory
    shape: ClipShape
    start: float
    device: torch.device

    @cached_property
    def times(self) -> Float[np.ndarray, " F"]:
        """Time of each frame, seconds."""
        return self.start + np.arange(self.shape.num_frames) / self.shape.fps

    @property
    def end(self) -> float:
        """Time of the last frame, seconds."""
        return float(self.times[-1])

    @cached_property
    def clip(self) -> Clip:
        """Pixels and caption, as every source gives them."""
        return Clip(render(self.stage, self.shape.height, self.shape.width), self.shape.fps, self.caption)

    @cached_property
    def caption(self) -> str:
        """What can be seen, in the style the scene drew."""
        return describe(self.story, self.scene.caption_style)

    @cached_property
    def story(self) -> Story:
        """What the objects and the camera do in this stretch: the facts that captions are made of."""
        walled = any(thing.shape == "wall" for thing in self.scene.objects)
        return tell(self.scene, self.trajectory, self.start, self.end, self.events if walled else self.contacts)

    @cached_property
    def contacts(self) -> tuple[Event, ...]:
        """Collisions, landings, bounces and stops within the clip."""
        return tuple(event for event in self.trajectory.events if self.start <= event.time <= self.end)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """`contacts`, and who gets hidden and reappears, in order of time; the same at every frame rate and size."""
        return tuple(sorted((*self.contacts, *self._hidings()), key=lambda event: event.time))

    @cached_property
    def positions(self) -> Float[Tensor, "F N 3"]:
        """Centres of the objects, metres, world axes."""
        return torch.from_numpy(self.trajectory.positions(self.times)).float()

    @cached_property
    def pixel_positions(self) -> Float[Tensor, "F N 2"]:
        """Where the centres project to: column, row in pixels; the first pixel spans 0 to 1. May be outside."""
        pose = self.world_from_camera
        seen = torch.einsum("fji,fnj->fni", pose[:, :3, :3], self.positions - pose[:, None, :3, 3])
        homogeneous = torch.einsum("ij,fnj->fni", self.intrinsics, seen)
        return homogeneous[..., :2] / homogeneous[..., 2:]

    @cached_property
    def world_from_camera(self) -> Float[Tensor, "F 4 4"]:
        """Camera poses, OpenCV axes, metres."""
        return torch.from_numpy(self.scene.camera.world_from_camera(self.times)).float()

    @cached_property
    def intrinsics(self) -> Float[Tensor, "3 3"]:
        """Pinhole matrix in pixels."""
        return torch.from_numpy(self.scene.camera.intrinsics(self.shape.height, self.shape.width)).float()

    @cached_property
    def stage(self) -> Stage:
        """The scene as the renderer takes it; `Stage.join` puts several clips into one call."""
        return stage_of(self.scene, self.trajectory, self.times, (self.shape.height, self.shape.width)).map(
            lambda x: x.to(self.device)
        )

    @property
    def depth(self) -> Float[Tensor, "F H W"]:
        """Metres along the camera's z axis, infinite in the sky."""
        return self._geometry.depth

    @property
    def ids(self) -> Int[Tensor, "F H W"]:
        """0 for floor and sky, 1 + index for an object."""
        return self._geometry.ids

    @cached_property
    def masks(self) -> Bool[Tensor, "F N H W"]:
        """Which pixels show each object."""
        numbers = torch.arange(1, len(self.scene.objects) + 1, device=self.ids.device)
        return rearrange(self.ids, "f h w -> f 1 h w") == rearrange(numbers, "n -> n 1 1")

    @property
    def normals(self) -> Float[Tensor, "F H W 3"]:
        """Outward unit normals in world axes, 0 in the sky."""
        return self._geometry.normals

    @property
    def visibility(self) -> Float[Tensor, "F N"]:
        """Part of each object's pixels that nothing else covers; 0 when it is out of the picture."""
        return self._geometry.visibility

    @cached_property
    def _geometry(self) -> Geometry:
        return trace(self.stage, self.shape.height, self.shape.width)

    def _hidings(self) -> list[Event]:
        first, last = int(np.ceil(self.start * _WATCH_RATE)), int(np.floor(self.end * _WATCH_RATE))
        if last <= first:
            return []
        times = np.arange(first, last + 1) / _WATCH_RATE
        stage = stage_of(self.scene, self.trajectory, times, (_WATCH_SIZE, _WATCH_SIZE))
        geometry = trace(stage, _WATCH_SIZE, _WATCH_SIZE)
        # An object out of the picture is neither hidden nor seen; it keeps the state it had.
        events: list[Event] = []
        for index in range(len(self.scene.objects)):
            hidden: bool | None = None
            track = zip(
                times, geometry.visibility[:, index].tolist(), geometry.in_picture[:, index].tolist(), strict=True
            )
            for time, visible, present in track:
                if not present:
                    continue
                now = visible < _HIDDEN
                if hidden is not None and now != hidden:
                    events.append(Event(float(time), "hidden" if now else "reappears", index))
                hidden = now
        return events


def sample_clip(
    seed: int,
    config: WorldConfig | None = None,
    shape: ClipShape = ClipShape(17, 64, 64, 8.0),  # noqa: B008 (immutable)
    start: float = 0.0,
    device: torch.device | str = "cpu",
) -> WorldClip:
    """The clip of a seed: a function of its arguments and nothing else.

    Args:
        seed: any integer.
        config: what may appear; default: everything.
        shape: any number of frames, any size and rate.
        start: time of the first frame, seconds after the scene begins.
        device: where pictures and geometry are made.

    Raises:
        ValueError: a shape without pixels or frames, or a negative start.
    """
    if min(shape) <= 0:
        raise ValueError(f"a clip needs positive frames, height, width and fps, got {shape}")
    if start < 0:
        raise ValueError(f"a scene begins at time 0, got a start of {start} seconds: use 0 or more")
    scene = sample_scene(seed, config)
    trajectory = scene.simulate(start + (shape.num_frames - 1) / shape.fps)
    return WorldClip(scene, trajectory, shape, start, torch.device(device))


def render_together(clips: Sequence[WorldClip]) -> list[Clip]:
    """The `clip` of each of several clips of one size, rendered in one call: on a GPU much faster than one by one.

    Raises:
        ValueError: the clips differ in height or width, or live on different devices.
    """
    sizes = {(clip.shape.height, clip.shape.width, clip.device) for clip in clips}
    if len(sizes) != 1:
        raise ValueError(f"clips rendered together need one size and one device, got {sorted(map(str, sizes))}")
    height, width, _ = sizes.pop()
    pixels = render(Stage.join([clip.stage for clip in clips]), height, width)
    parts = pixels.split([clip.shape.num_frames for clip in clips], dim=1)
    return [Clip(part, clip.shape.fps, clip.caption) for part, clip in zip(parts, clips, strict=True)]


def stage_of(scene: Scene, trajectory: Trajectory, times: Float[np.ndarray, " F"], size: tuple[int, int]) -> Stage:
    """A scene at some times, as tensors for the renderer; `size` is height and width of the picture."""
    frames, objects = len(times), scene.objects

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float32))

    def everywhen(values: object) -> Tensor:
        each = tensor(values)
        return each.expand(frames, *each.shape)

    kinds = [KINDS.index("cube" if thing.shape == "wall" else thing.shape) for thing in objects]
    light = scene.surroundings
    return Stage(
        kind=torch.tensor(kinds).expand(frames, -1),
        dims=everywhen([thing.dims for thing in objects]),
        bound=everywhen([thing.bounding_radius for thing in objects]),
        centre=tensor(trajectory.positions(times)),
        rotation=tensor(trajectory.rotations(times)),
        albedo=everywhen(np.square([thing.rgb for thing in objects])),
        gloss=everywhen([float(thing.material == "shiny") for thing in objects]),
        world_from_camera=tensor(scene.camera.world_from_camera(times)),
        intrinsics=everywhen(scene.camera.intrinsics(*size)),
        sun=everywhen(light.sun),
        floor=everywhen(np.square(light.floor)),
        zenith=everywhen(np.square(light.zenith)),
        horizon=everywhen(np.square(light.horizon)),
    )
