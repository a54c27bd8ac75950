"""Records of clips: their shapes, their places in an order, and the samples and packs that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import TypeVar  # Python's own has no defaults before 3.13


class ClipShape(NamedTuple):
    """The shape a clip is used at: pixel frames, pixel height and width, frames per second."""

    num_frames: int
    height: int
    width: int
    fps: float

    def __str__(self) -> str:
        return f"{self.num_frames}x{self.height}x{self.width}@{self.fps:g}"


@dataclass(frozen=True)
class TokenGrid:
    """How pixels become tokens: the strides of the VAE and the patch of the transformer.

    A causal VAE turns 1 + n * `time_stride` frames into 1 + n latent frames.
    """

    time_stride: int
    space_stride: int
    patch: int = 1

    @property
    def size_multiple(self) -> int:
        """Height and width in pixels must be divisible by this."""
        return self.space_stride * self.patch

    def latent_shape(self, shape: ClipShape) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip.

        Raises:
            ValueError: the shape does not fit the grid.
        """
        if min(shape.num_frames, shape.height, shape.width) < 1 or not shape.fps > 0:
            raise ValueError(f"a clip needs at least 1 frame, 1x1 pixels and a positive frame rate, got {shape}")
        if (shape.num_frames - 1) % self.time_stride:
            below = (shape.num_frames - 1) // self.time_stride * self.time_stride + 1
            raise ValueError(
                f"{shape.num_frames} frames cannot be encoded at a temporal stride of {self.time_stride}: "
                f"use 1 + {self.time_stride} n, such as {below} or {below + self.time_stride}"
            )
        for name, size in (("height", shape.height), ("width", shape.width)):
            if size % self.size_multiple:
                below = max(size // self.size_multiple, 1) * self.size_multiple
                raise ValueError(
                    f"{name} {size} is not divisible by {self.size_multiple}: "
                    f"use {below} or {below + self.size_multiple}"
                )
        time = 1 + (shape.num_frames - 1) // self.time_stride
        return time, shape.height // self.space_stride, shape.width // self.space_stride

    def num_tokens(self, shape: ClipShape) -> int:
        """Transformer tokens of a clip."""
        time, rows, columns = self.latent_shape(shape)
        return time * (rows // self.patch) * (columns // self.patch)


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a source clip before a frame is decoded."""

    text: str
    num_frames: int
    height: int
    width: int
    fps: float
    name: str = ""

    @property
    def seconds(self) -> float:
        """Duration; an image (one frame) has none."""
        return self.num_frames / self.fps if self.num_frames > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Pick:
    """One sample of the global order: which clip, where in it, at what shape.

    `position` is its place in the global order; all randomness of the sample is a function of (seed, position).
    `start` is in seconds from the clip's first frame.
    """

    position: int
    index: int
    shape: ClipShape
    start: float


@dataclass(frozen=True)
class Clip:
    """Decoded frames: `pixels` in [-1, 1], frames per second, and what they show."""

    pixels: Float[Tensor, "3 F H W"]
    fps: float
    text: str = ""

    @property
    def shape(self) -> ClipShape:
        """Frames, height, width and rate."""
        _, frames, height, width = self.pixels.shape
        return ClipShape(frames, height, width, self.fps)


@dataclass(frozen=True)
class CameraPath:
    """Where the camera of a clip stands and looks, frame by frame.

    Attributes:
        world_from_camera: pose per pixel frame, OpenCV camera axes (x right, y down, z forward), metres. Any world axes
            will do: models see poses relative to the first one.
        intrinsics: pinhole matrix in pixels of the clip's own size; the first pixel spans 0 to 1.
    """

    world_from_camera: Float[Tensor, "F 4 4"]
    intrinsics: Float[Tensor, "3 3"]

    def __len__(self) -> int:
        return len(self.world_from_camera)

    def at(self, frames: slice | Sequence[int]) -> CameraPath:
        """The same camera at some of its frames."""
        return replace(self, world_from_camera=self.world_from_camera[frames])

    def map(self, change: Callable[[Tensor], Tensor]) -> CameraPath:
        """A copy with `change` applied to both tensors."""
        return CameraPath(change(self.world_from_camera), change(self.intrinsics))


@dataclass(frozen=True)
class Sample:
    """What the loader hands to a task: pixels or, when precomputed, latents and text features.

    `latents` are normalised VAE latents (see `VideoVAE.normalize`). `camera` is known of clips of the world.
    """

    position: int
    shape: ClipShape
    text: str
    pixels: Float[Tensor, "3 F H W"] | None = None
    latents: Float[Tensor, "C T H W"] | None = None
    text_features: Float[Tensor, "S D"] | None = None
    camera: CameraPath | None = None

    def need_pixels(self) -> Float[Tensor, "3 F H W"]:
        """The pixels.

        Raises:
            ValueError: only latents are at hand.
        """
        if self.pixels is None:
            raise ValueError("this needs pixels, but the data set holds precomputed latents: use the clips themselves")
        return self.pixels

    def map(self, change: Callable[[Tensor], Tensor]) -> Sample:
        """A copy with `change` applied to every tensor."""
        tensors = {name: getattr(self, name) for name in ("pixels", "latents", "text_features")}
        changed: dict[str, Any] = {name: change(x) for name, x in tensors.items() if x is not None}
        camera = None if self.camera is None else self.camera.map(change)
        return replace(self, **changed, camera=camera)


class Example(Protocol):
    """What a task is trained on: a `Sample` of video, a `Turn` about a scene, or another record of tensors."""

    @property
    def position(self) -> int:
        """Place in the global order: all randomness is a function of (seed, position)."""
        ...

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `change` applied to every tensor."""
        ...


ExampleT = TypeVar("ExampleT", bound=Example, default=Sample)


@dataclass(frozen=True)
class Pack(Generic[ExampleT]):
    """A micro-batch: examples of any shapes. Samples of video fit the token budget together."""

    samples: tuple[ExampleT, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[ExampleT]:
        return iter(self.samples)

    def map(self, change: Callable[[Tensor], Tensor]) -> Pack[ExampleT]:
        """A copy with `change` applied to every tensor, once to each: what examples share they still share."""
        changed: dict[int, Tensor] = {}

        def once(x: Tensor) -> Tensor:
            if id(x) not in changed:
                changed[id(x)] = change(x)
            return changed[id(x)]

        return Pack(tuple(sample.map(once) for sample in self.samples))

    def to(self, device: torch.device | str) -> Pack[ExampleT]:
        """A copy whose tensors are on `device`."""
        return self.map(lambda x: x.to(device, non_blocking=True))


class ClipSource(Protocol):
    """A data set of clips: a list of infos that cost nothing, and a way to read one at a given shape."""

    def __len__(self) -> int:
        """How many clips."""
        ...

    def info(self, index: int) -> ClipInfo:
        """What is known of clip `index`; never decodes."""
        ...

    def read(self, pick: Pick) -> Sample:
        """Decode (or make) the picked clip at the picked shape."""
        ...
