"""What the video transformer is given. Training, sampling and evaluation all build it here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from genworld.ops.patches import patchify, unpatchify
from genworld.ops.ragged import Segments, pack, unpack
from genworld.types import TokenGrid

TIME_UNITS_PER_SECOND = 4.0
"""RoPE's unit of time: 16 frames per second at a temporal stride of 4 give 0, 1, 2, ... as in Wan."""


@dataclass(frozen=True)
class PackedVideo:
    """Videos of any shapes as one sequence of tokens.

    Attributes:
        tokens: patches of (noised) latents.
        positions: time in quarter seconds, row and column in patches; each video starts at 0.
        levels: how noisy each token is, from 0 (given) to 1 (pure noise).
        segments: tokens per video.
    """

    tokens: Float[Tensor, "L P"]
    positions: Float[Tensor, "L 3"]
    levels: Float[Tensor, " L"]
    segments: Segments

    def __len__(self) -> int:
        return len(self.segments)


@dataclass(frozen=True)
class PackedText:
    """Text features of several prompts as one sequence; no padding. Empty text still has at least one token."""

    features: Float[Tensor, "S D"]
    segments: Segments

    def __len__(self) -> int:
        return len(self.segments)


def pack_video(
    latents: Sequence[Float[Tensor, "C T H W"]],
    levels: Sequence[Float[Tensor, ""] | Float[Tensor, "T H_patches W_patches"]],
    fps: Sequence[float],
    grid: TokenGrid,
) -> PackedVideo:
    """Lay latents of any shapes end to end as tokens with positions and noise levels.

    Args:
        latents: normalised latents, one per video; already noised as `levels` says.
        levels: per video one number, or a tensor of three dimensions that broadcasts to its grid of patches
            (`[T 1 1]` for a level per frame).
        fps: pixel frames per second, per video; an image's is irrelevant.
        grid: strides of the latents and size of a patch.

    Raises:
        ValueError: counts differ, a level does not fit its video, or a frame rate is not positive.
    """
    if not len(latents) == len(levels) == len(fps):
        raise ValueError(
            f"got {len(latents)} latents, {len(levels)} levels and {len(fps)} frame rates; one each needed"
        )
    tokens, segments = pack([patchify(x, grid.patch) for x in latents])
    positions = [_positions(x, rate, grid) for x, rate in zip(latents, fps, strict=True)]
    spread = [_spread(level, x, grid.patch) for x, level in zip(latents, levels, strict=True)]
    return PackedVideo(tokens, torch.cat(positions), torch.cat(spread), segments)


def unpack_video(
    tokens: Float[Tensor, "L P"], shapes: Sequence[tuple[int, int, int]], patch: int
) -> list[Float[Tensor, "C T H W"]]:
    """Latents (or velocities) from packed tokens.

    Args:
        tokens: in the order of `pack_video`.
        shapes: latent frames, height and width of each video.
        patch: side of a patch.
    """
    segments = Segments(tuple(time * height * width // patch**2 for time, height, width in shapes))
    return [unpatchify(x, shape, patch) for x, shape in zip(unpack(tokens, segments), shapes, strict=True)]


def _positions(latents: Tensor, fps: float, grid: TokenGrid) -> Float[Tensor, "L 3"]:
    _, time, height, width = latents.shape
    if not fps > 0:
        raise ValueError(f"the frame rate must be positive, got {fps}")
    axes = [torch.arange(n, dtype=torch.float32) for n in (time, height // grid.patch, width // grid.patch)]
    axes[0] *= grid.time_stride / fps * TIME_UNITS_PER_SECOND
    mesh = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return rearrange(mesh, "t h w three -> (t h w) three").to(latents.device, non_blocking=True)


def _spread(level: Tensor, latents: Tensor, patch: int) -> Float[Tensor, " L"]:
    _, time, height, width = latents.shape
    shape = (time, height // patch, width // patch)
    fits = level.ndim == 0 or (level.ndim == 3 and all(n in (1, m) for n, m in zip(level.shape, shape, strict=True)))
    if not fits:
        raise ValueError(
            f"noise levels of shape {tuple(level.shape)} do not fit a video of {shape} patches (time, rows, columns): "
            "give one number, or three dimensions that broadcast to it"
        )
    return level.to(latents.device, torch.float32).expand(shape).reshape(-1)
