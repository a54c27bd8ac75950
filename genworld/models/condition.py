"""What the video transformer is given. Training, sampling and evaluation all build it here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.ops.patches import patchify, unpatchify
from genworld.ops.ragged import Segments, pack, unpack
from genworld.types import TokenGrid

TIME_UNITS_PER_SECOND = 4.0
"""RoPE's unit of time: 16 frames per second at a temporal stride of 4 give 0, 1, 2, ... as in Wan."""


@dataclass(frozen=True)
class Piece:
    """Latents of one stretch of a video that was encoded as a clip of its own.

    The first piece of a video is all of it. Further ones are media that are given somewhere else than at its start: a
    causal VAE gives the same frames other latents at a clip's start than in its middle, so what is given is always
    encoded as a clip that begins with it, and laid at its own time beside the tokens to be made.

    Attributes:
        latents: normalised latents, already noised as `levels` says.
        levels: how noisy: one number, or three dimensions that broadcast to the grid of patches (`[T 1 1]` for a level
            per frame).
        fps: pixel frames per second; an image's is irrelevant.
        start: seconds from the video's first frame to the first one of this piece.
        rays: where the camera's rays run, for every patch, and how they differ from those of the video's first frame
            through the same patch; None where nothing is known of the camera.
        space_scale: what rows and columns are multiplied with; below 1 for frames larger than those trained on.
        use: which patches become tokens; None: all.
    """

    latents: Float[Tensor, "C T H W"]
    levels: Float[Tensor, ""] | Float[Tensor, "T H_patches W_patches"]
    fps: float
    start: float = 0.0
    rays: Float[Tensor, "T H_patches W_patches R"] | None = None
    space_scale: float = 1.0
    use: Bool[Tensor, "T H_patches W_patches"] | None = None


@dataclass(frozen=True)
class PackedVideo:
    """Videos of any shapes as one sequence of tokens.

    Attributes:
        tokens: patches of (noised) latents.
        positions: time in quarter seconds, row and column in patches; each video starts at 0.
        levels: how noisy each token is, from 0 (given) to 1 (pure noise).
        segments: tokens per video, all its pieces together.
        rays: the camera's rays through each token, their changes since the first frame, and a last number that is 1
            where they are known.
    """

    tokens: Float[Tensor, "L P"]
    positions: Float[Tensor, "L 3"]
    levels: Float[Tensor, " L"]
    segments: Segments
    rays: Float[Tensor, "L R"] | None = None

    def __len__(self) -> int:
        return len(self.segments)


@dataclass(frozen=True)
class PackedText:
    """Text features of several prompts as one sequence; no padding. Empty text still has at least one token."""

    features: Float[Tensor, "S D"]
    segments: Segments

    def __len__(self) -> int:
        return len(self.segments)


RAY_WIDTH = 13
"""Plücker coordinates of a ray, their changes since the first frame, and whether they are known."""


def pack_video(videos: Sequence[Sequence[Piece]], grid: TokenGrid) -> PackedVideo:
    """Lay videos of any shapes end to end as tokens with positions and noise levels.

    Args:
        videos: the pieces of each.
        grid: strides of the latents and size of a patch.

    Raises:
        ValueError: a level does not fit its piece, or a frame rate is not positive.
    """
    pieces = [piece for video in videos for piece in video]
    chosen = [_choose(piece, grid.patch) for piece in pieces]
    tokens, _ = pack([pick(patchify(x.latents, grid.patch)) for x, pick in zip(pieces, chosen, strict=True)])
    positions = [pick(_positions(piece, grid)) for piece, pick in zip(pieces, chosen, strict=True)]
    levels = [pick(_spread(piece, grid.patch)) for piece, pick in zip(pieces, chosen, strict=True)]
    rays = [pick(_rays(piece, grid.patch)) for piece, pick in zip(pieces, chosen, strict=True)]
    counts = iter([len(part) for part in levels])
    return PackedVideo(
        tokens,
        torch.cat(positions),
        torch.cat(levels),
        Segments(tuple(sum(islice(counts, len(video))) for video in videos)),
        torch.cat(rays) if any(piece.rays is not None for piece in pieces) else None,
    )


def unpack_video(
    tokens: Float[Tensor, "L P"], segments: Segments, shapes: Sequence[tuple[int, int, int]], patch: int
) -> list[Float[Tensor, "C T H W"]]:
    """Latents (or velocities) of the first piece of every video.

    Args:
        tokens: in the order of `pack_video`.
        segments: tokens per video.
        shapes: latent frames, height and width of each video's first piece.
        patch: side of a patch.
    """
    videos = zip(unpack(tokens, segments), shapes, strict=True)
    return [unpatchify(x[: math.prod(shape) // patch**2], shape, patch) for x, shape in videos]


def _choose(piece: Piece, patch: int) -> Callable[[Tensor], Tensor]:
    """What picks the tokens of a piece that are used."""
    if piece.use is None:
        return lambda tokens: tokens
    use = piece.use.expand(_patches(piece, patch)).flatten()
    return lambda tokens: tokens[use]


def _patches(piece: Piece, patch: int) -> tuple[int, int, int]:
    _, time, height, width = piece.latents.shape
    return time, height // patch, width // patch


def _positions(piece: Piece, grid: TokenGrid) -> Float[Tensor, "L 3"]:
    if not piece.fps > 0:
        raise ValueError(f"the frame rate must be positive, got {piece.fps}")
    axes = [torch.arange(n, dtype=torch.float32) for n in _patches(piece, grid.patch)]
    axes[0] = (axes[0] * (grid.time_stride / piece.fps) + piece.start) * TIME_UNITS_PER_SECOND
    axes[1:] = [axis * piece.space_scale for axis in axes[1:]]
    mesh = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return rearrange(mesh, "t h w three -> (t h w) three").to(piece.latents.device, non_blocking=True)


def _spread(piece: Piece, patch: int) -> Float[Tensor, " L"]:
    level, shape = piece.levels, _patches(piece, patch)
    fits = level.ndim == 0 or (level.ndim == 3 and all(n in (1, m) for n, m in zip(level.shape, shape, strict=True)))
    if not fits:
        raise ValueError(
            f"noise levels of shape {tuple(level.shape)} do not fit a video of {shape} patches (time, rows, columns): "
            "give one number, or three dimensions that broadcast to it"
        )
    return level.to(piece.latents.device, torch.float32).expand(shape).reshape(-1)


def _rays(piece: Piece, patch: int) -> Float[Tensor, "L R"]:
    if piece.rays is None:
        return piece.latents.new_zeros(math.prod(_patches(piece, patch)), RAY_WIDTH, dtype=torch.float32)
    known = torch.ones_like(piece.rays[..., :1])
    return torch.cat([piece.rays, known], dim=-1).flatten(0, 2).to(piece.latents.device, torch.float32)
