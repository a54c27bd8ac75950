"""The procedural world as a data set: endless scenes by number, at any shape, rendered when asked for."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import genworld.world
from genworld.data.shapes import IMAGE_FPS, ShapeConfig
from genworld.types import ClipInfo, ClipShape, Pick, Sample
from genworld.world import WorldConfig, sample_clip

NATIVE_HEIGHT = 4320
"""Pixels a scene claims to have; it is rendered at the size asked for, so this only bounds what may be asked."""


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
    ) -> None:
        """Describe the data set; nothing is rendered yet.

        Args:
            seeds: of the scenes.
            config: what scenes contain.
            shapes: those that will be asked for; they decide how long and how fast a scene claims to be.
            aspect_ratio: width / height at which pixel budgets are spent.
            cache: folder to keep clips in. Only clips that start at the scene's beginning are kept: other starts
                hardly ever come up again. Any number of processes may share it, and may stop at any time.
        """
        self.seeds, self.config, self.aspect_ratio = seeds, config, aspect_ratio
        self.cache = cache / _digest(config) if cache else None
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
        """Render the picked scene, or take it from the cache."""
        seed = self.seeds[pick.index]
        cached = self.cache / str(pick.shape) / f"{seed}.safetensors" if self.cache and pick.start == 0 else None
        if cached is not None and cached.exists():
            with safe_open(cached, framework="pt") as file:
                pixels, text = file.get_tensor("pixels"), file.metadata()["text"]
        else:
            clip = sample_clip(seed, self.config, pick.shape, start=pick.start).clip
            pixels, text = to_bytes(clip.pixels), clip.text
            if cached is not None:
                _write(cached, pixels, text)
        return Sample(pick.position, pick.shape, text, pixels=from_bytes(pixels))


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


def _write(path: Path, pixels: UInt8[Tensor, "3 F H W"], text: str) -> None:
    """Write a cache entry in one rename, so that none is ever seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({"pixels": pixels.contiguous()}, temporary, metadata={"text": text})
    temporary.replace(path)
