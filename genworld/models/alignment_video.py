"""The tower of images and videos: a convolutional stem, attention within frames, and a parabola over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.nn.block import EncoderBlock, block_flops
from genworld.ops.ragged import Segments
from genworld.types import ClipShape

_NUM_WAVES = 4  # per axis of a position: half a turn over the picture, one, two and four
_NUM_COURSES = 3  # mean over time, slope, and bend
_STILL = 1e-6  # a channel with less deviation does not vary
_MOST_STRETCHED = 2.0  # longer to shorter side of what is looked at; more is cut off at both ends


@dataclass(frozen=True, kw_only=True)
class FrameTowerConfig:
    """A convolutional stem, and transformer blocks over the cells of a frame.

    The stem is there because a transformer on bare patches does not learn shapes in minutes.

    Attributes:
        size: pixels of a frame's shorter side; frames of other sizes are resized to it.
        stem: channels after each convolution, the first of stride 4, the others of stride 2; the last is the
            transformer's width.
        depth: blocks over the cells of a frame.
        num_heads: heads of attention and of pooling.
    """

    size: int = 64
    stem: tuple[int, ...] = (48, 96, 128)
    depth: int = 2
    num_heads: int = 4

    def __post_init__(self) -> None:
        if not self.stem or min(self.stem) < 1 or self.stem[-1] % self.num_heads:
            raise ValueError(
                f"stem needs at least one number of channels, the last divisible by num_heads {self.num_heads}, "
                f"got {self.stem}"
            )
        if self.size < self.stride or self.size % self.stride:
            raise ValueError(f"size must be a multiple of the stem's stride {self.stride}, got {self.size}")
        if self.depth < 0:
            raise ValueError(f"depth must be at least 0, got {self.depth}")

    @property
    def stride(self) -> int:
        """Pixels along the side of a cell."""
        return 2 ** (len(self.stem) + 1)


@dataclass(frozen=True, kw_only=True)
class VideoTowerConfig(FrameTowerConfig):
    """Cells of frames, and what becomes of frames over time.

    Attributes:
        max_frames: longer videos are looked at in so many frames, evenly spread from the first to the last.
    """

    max_frames: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames}")


class FrameTower(nn.Module):
    """Frames to features of their cells: what the towers of videos and of regions have in common."""

    def __init__(self, config: FrameTowerConfig):
        super().__init__()
        width, channels = config.stem[-1], [5, *config.stem]
        self.config = config
        self.convolutions = nn.ModuleList(
            nn.Conv2d(narrow, wide, 3 if i else 7, stride=2 if i else 4, padding=1 if i else 3)
            for i, (narrow, wide) in enumerate(pairwise(channels))
        )
        self.scales = nn.ModuleList(Standard(wide) for wide in config.stem)
        self.place = nn.Linear(4 * _NUM_WAVES, width)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.convolutions.to(memory_format=torch.channels_last)

    def look(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 5 h w"]:
        """Frames in [-1, 1] at the size they are looked at.

        To red, green and blue come how bright and how colourful a pixel is: in these an outline looks the same in every
        colour.
        """
        frames = frames.float()
        height, width = frames.shape[2:]
        scale, stride = self.config.size / min(height, width), self.config.stride
        wanted = [max(round(side * scale / stride) * stride, stride) for side in (height, width)]
        if wanted != [height, width]:
            frames = F.interpolate(frames, wanted, mode="bilinear", antialias=True, align_corners=False)
        high, low = frames.amax(dim=1, keepdim=True), frames.amin(dim=1, keepdim=True)
        frames = torch.cat([frames, (high + low) / 2, high - low], dim=1)
        return frames.contiguous(memory_format=torch.channels_last)

    def convolve(self, looks: Float[Tensor, "n 5 h w"]) -> list[Float[Tensor, "n channels rows columns"]]:
        """The maps of the stem, from fine to coarse."""
        maps: list[Tensor] = []
        for convolution, scale in self._stem():
            looks = F.silu(scale(convolution(looks), dim=1))
            maps.append(looks)
        return maps

    def relate(self, cells: Float[Tensor, "n D rows columns"]) -> Float[Tensor, "n rows*columns D"]:
        """Blocks over the cells of each frame."""
        count, _, rows, columns = cells.shape
        places = _places(rows, columns, self.config.size // self.config.stride).to(cells.device)
        tokens = rearrange(cells, "n d h w -> n (h w) d") + self.place(places)
        tokens, segments = rearrange(tokens, "n l d -> (n l) d"), Segments((rows * columns,) * count)
        for block in self.blocks:
            tokens = block(tokens, segments)
        return rearrange(self.norm(tokens), "(n l) d -> n l d", n=count)

    def fit_stem(self, batches: list[Float[Tensor, "n 5 h w"]]) -> list[Float[Tensor, "n D rows columns"]]:
        """Set every `Standard` of the stem by what is looked at, so that what pictures have in common is taken away.

        Most of a picture is like that of any other, and cosines of what is not centred are all near 1. Batch
        normalisation would centre too, but by whatever meets in a batch; this depends on the data alone.

        Returns:
            the cells of each batch.
        """
        for convolution, scale in self._stem():
            batches = [convolution(frames) for frames in batches]
            scale.fit(torch.cat([rearrange(frames, "n d h w -> (n h w) d") for frames in batches]))
            batches = [F.silu(scale(frames, dim=1)) for frames in batches]
        return batches

    def _stem(self) -> list[tuple[nn.Module, Standard]]:
        scales = [scale for scale in self.scales if isinstance(scale, Standard)]
        return list(zip(self.convolutions, scales, strict=True))


class VideoTower(FrameTower):
    """Videos, or images as videos of one frame, to one vector each.

    Every frame is encoded by itself. Over time a parabola is fitted to the vectors of frames (their mean, slope and
    bend), so that left is not right although no frame knows of another.
    """

    config: VideoTowerConfig

    def __init__(self, config: VideoTowerConfig, out: int):
        super().__init__(config)
        width = config.stem[-1]
        self.attend = nn.Linear(width, config.num_heads)
        self.standard = Standard(2 * _NUM_COURSES * width)
        self.mix = nn.Linear(2 * _NUM_COURSES * width, 2 * width)
        self.out = nn.Linear(2 * width, out)
        nn.init.zeros_(self.attend.weight)  # pooling starts as the mean

    def forward(self, videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Features of videos in [-1, 1], of any size and number of frames."""
        frames, num_frames = self._frames(videos)
        return self._conclude(self._courses(self.convolve(frames)[-1], num_frames))

    def fit(self, videos: Sequence[Float[Tensor, "B 3 F H W"]]) -> None:
        """Set every `Standard` by videos, batches of any shapes; see `fit_stem`."""
        looks = [self._frames(batch) for batch in videos]
        batches = self.fit_stem([frames for frames, _ in looks])
        courses = [self._courses(frames, count) for frames, (_, count) in zip(batches, looks, strict=True)]
        self.standard.fit(torch.cat(courses))

    def flops(self, shape: ClipShape) -> int:
        """Operations (a multiply-add is two) for one video, as `describe` counts them: convolutions and blocks."""
        sides = [self.config.size // 2 ** (i + 2) for i in range(len(self.convolutions))]
        weights = [each.numel() for each in self.convolutions.parameters() if each.ndim == 4]
        operations = sum(2 * side**2 * weight for side, weight in zip(sides, weights, strict=True))
        operations += self.config.depth * block_flops(self.config.stem[-1], sides[-1] ** 2)
        return operations * min(shape.num_frames, self.config.max_frames)

    def _frames(self, videos: Float[Tensor, "B 3 F H W"]) -> tuple[Float[Tensor, "n 5 h w"], int]:
        """The frames that are looked at, and how many there are of each video."""
        count = videos.shape[2]
        if count > self.config.max_frames:
            videos = videos[:, :, spread_frames(count, self.config.max_frames)]
        return self.look(rearrange(_cut(videos), "b c f h w -> (b f) c h w")), videos.shape[2]

    def _courses(self, cells: Float[Tensor, "n D h w"], num_frames: int) -> Float[Tensor, "B courses*2*D"]:
        """One vector for each frame, and what becomes of these over time."""
        frames = self._pool(self.relate(cells).float())
        fit = _fit_over_time(num_frames).to(frames)
        return torch.einsum("kf,bfd->bkd", fit, rearrange(frames, "(b f) d -> b f d", f=num_frames)).flatten(1)

    def _pool(self, tokens: Float[Tensor, "n L D"]) -> Float[Tensor, "n 2*D"]:
        """One vector for each frame: what it attends to, and the largest values.

        An object fills few cells, and in a mean of all it is lost at first; with the largest values beside it, shapes
        are learned in half the steps.
        """
        weights = self.attend(tokens).softmax(dim=1)
        heads = rearrange(tokens, "n l (heads k) -> n l heads k", heads=weights.shape[-1])
        return torch.cat([torch.einsum("nlh,nlhk->nhk", weights, heads).flatten(1), tokens.amax(dim=1)], dim=1)

    def _conclude(self, courses: Float[Tensor, "B courses*2*D"]) -> Float[Tensor, "B D"]:
        return self.out(F.silu(self.mix(self.standard(courses, dim=1))))


class Standard(nn.Module):
    """A learned scale and shift for each channel that starts where the channel has mean 0 and deviation 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, dim: int) -> Tensor:
        """Scale and shift along a dimension."""
        shape = [1] * x.ndim
        shape[dim] = -1
        return x * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "n channels"]) -> None:
        """Start from the mean and the deviation of these; a channel that does not vary is only centred."""
        mean, deviation = x.double().mean(dim=0), x.double().std(dim=0, correction=0)
        scale = torch.where(deviation > _STILL, 1 / deviation.clamp(min=_STILL), 1.0)
        self.weight.copy_(scale)
        self.bias.copy_(-mean * scale)


def spread_frames(num_frames: int, most: int) -> list[int]:
    """Indices of at most `most` frames, evenly spread from the first to the last."""
    places = torch.linspace(0, num_frames - 1, min(num_frames, most), dtype=torch.float64)
    return places.round().long().tolist()


def _cut(videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B 3 F h w"]:
    """The middle of videos that are very long or very high."""
    height, width = videos.shape[3:]
    most = int(_MOST_STRETCHED * min(height, width))
    top, left = max(height - most, 0) // 2, max(width - most, 0) // 2
    return videos[:, :, :, top : top + most, left : left + most]


def _places(rows: int, columns: int, cells: int) -> Float[Tensor, "rows*columns waves"]:
    """Waves of the position of each cell, measured from the middle in sides of a square frame of `cells` cells."""
    axes = [(torch.arange(count) + 0.5 - count / 2) / cells for count in (rows, columns)]
    mesh = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    angles = rearrange(mesh, "r c two -> (r c) two 1") * math.pi * 2.0 ** torch.arange(_NUM_WAVES)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _fit_over_time(num_frames: int) -> Float[Tensor, "courses F"]:
    """What makes mean, slope and bend of values at evenly spread times: the least-squares parabola.

    The same for few frames and for many, where a few can show it: one frame has no slope, two have no bend.
    """
    times = torch.linspace(-1, 1, num_frames, dtype=torch.float64) if num_frames > 1 else torch.zeros(1).double()
    legendre = torch.stack([torch.ones_like(times), times, (3 * times**2 - 1) / 2])[:num_frames]
    # The mean over frames itself, which the constant of the parabola is not.
    fit = torch.linalg.pinv(legendre.T)
    fit[0] = 1 / num_frames
    return F.pad(fit, (0, 0, 0, _NUM_COURSES - len(fit))).float()
