"""The procedural world as a data set: endless scenes by number, at any shape, rendered when asked for."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import genworld.world
from genworld.data.shapes import IMAGE_FPS, ShapeConfig
from genworld.types import CameraPath, ClipInfo, ClipShape, Pick, Sample
from genworld.world import WorldConfig, sample_clip, sample_scene
from genworld.world.cameras import Camera

NATIVE_HEIGHT = 4320
"""Pixels a scene claims to have; it is rendered at the size asked for, so this only bounds what may be asked."""

CAMERA = ("world_from_camera", "intrinsics")
"""Tensors of a camera in a cache entry."""


class WorldSource:
    """One clip per scene. A scene is as long as the longest shape, which therefore always starts at its beginning.

    Pixels are rounded to 8 bits, as a video file's are, so that a cached clip equals one rendered anew.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        config: WorldConfig,
        shapes: Sequence[ShapeConfig],
        aspect_ratio: float = 1.0,
        cache: Path | None = None,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        """Describe the data set; nothing is rendered yet.

        Args:
            seeds: of the scenes.
            config: what scenes contain.
            shapes: those that will be asked for; they decide how long and how fast a scene claims to be.
            aspect_ratio: width / height at which pixel budgets are spent.
            cache: folder to keep clips in. Only clips that start at the scene's beginning are kept: other starts
                hardly ever come up again. Any number of processes may share it, and may stop at any time.
            device: where clips are rendered. They come back to the CPU, as a file's would: as bytes that costs little.

        Raises:
            ValueError: the device is not there.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("data.device is cuda, but torch finds no GPU here: set data.device=cpu")
        self.seeds, self.config, self.aspect_ratio = seeds, config, aspect_ratio
        self.cache = cache / _digest(config) if cache else None
        self.device = device
        longest = max(shapes, key=lambda shape: (shape.frames - 1) / (shape.fps or IMAGE_FPS))
        self._fps = longest.fps or IMAGE_FPS
        self._frames = longest.frames
        # A whole multiple of the longest shape's rate, so that its duration is exactly the scene's.
        self._faster = math.ceil(max(shape.fps or IMAGE_FPS for shape in shapes) / self._fps)
        self._captions: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.seeds)

    def facts(self, index: int) -> ClipInfo:
        """Claimed shape and name of a scene, without its caption, which takes milliseconds."""
        return ClipInfo(
            text="",
            num_frames=(self._frames - 1) * self._faster + 1,
            height=NATIVE_HEIGHT,
            width=round(NATIVE_HEIGHT * self.aspect_ratio),
            fps=self._fps * self._faster,
            name=f"world-{self.seeds[index]}",
        )

    def info(self, index: int) -> ClipInfo:
        """Claimed shape, name, and caption of the longest clip; renders nothing."""
        if index not in self._captions:
            self._captions[index] = self._caption(self.seeds[index])
        return replace(self.facts(index), text=self._captions[index])

    def _caption(self, seed: int) -> str:
        longest = ClipShape(self._frames, 64, 64, self._fps)  # captions do not depend on the size
        folders = self.cache.glob(f"{self._frames}x*@{self._fps:g}") if self.cache else ()
        for path in (folder / f"{seed}.safetensors" for folder in folders):
            if path.exists():
                with safe_open(path, framework="pt") as file:
                    return file.metadata()["text"]
        return sample_clip(seed, self.config, longest).caption

    def read(self, pick: Pick) -> Sample:
        """Render the picked scene, or take it from the cache; its camera comes along."""
        seed, shape = self.seeds[pick.index], pick.shape
        cached = self.cache / str(shape) / f"{seed}.safetensors" if self.cache and pick.start == 0 else None
        if cached is not None and cached.exists():
            with safe_open(cached, framework="pt") as file:
                pixels, text = file.get_tensor("pixels"), file.metadata()["text"]
                # Beside the pixels, because finding it takes 5 ms: the whole scene is drawn. Old entries lack it.
                both = [file.get_tensor(name) for name in CAMERA if name in file.keys()]  # noqa: SIM118
            camera = CameraPath(*both) if both else camera_path(sample_scene(seed, self.config).camera, shape)
        else:
            made = sample_clip(seed, self.config, shape, pick.start, self.device)
            pixels, text = to_bytes(made.clip.pixels).cpu(), made.caption
            camera = camera_path(made.scene.camera, shape, pick.start)
            if cached is not None:
                _write(cached, pixels, text, camera)
        return Sample(pick.position, shape, text, pixels=from_bytes(pixels), camera=camera)


def camera_path(camera: Camera, shape: ClipShape, start: float = 0.0) -> CameraPath:
    """A camera of the world at every frame of a clip that begins `start` seconds after the scene."""
    times = start + np.arange(shape.num_frames) / shape.fps
    poses, intrinsics = camera.world_from_camera(times), camera.intrinsics(shape.height, shape.width)
    return CameraPath(torch.from_numpy(poses).float(), torch.from_numpy(intrinsics).float())


def to_bytes(pixels: Float[Tensor, "3 F H W"]) -> UInt8[Tensor, "3 F H W"]:
    """[-1, 1] to 0 .. 255."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_bytes(pixels: UInt8[Tensor, "3 F H W"]) -> Float[Tensor, "3 F H W"]:
    """0 .. 255 to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def _digest(config: WorldConfig) -> str:
    """Names what scenes look like: their config and the code that draws them."""
    digest = hashlib.sha256(repr(config).encode())
    for path in sorted(Path(genworld.world.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _write(path: Path, pixels: UInt8[Tensor, "3 F H W"], text: str, camera: CameraPath) -> None:
    """Write a cache entry in one rename, so that none is ever seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    tensors = {"pixels": pixels.contiguous()} | {name: getattr(camera, name) for name in CAMERA}
    save_file(tensors, temporary, metadata={"text": text})
    temporary.replace(path)
