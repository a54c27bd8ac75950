"""What is given of a video before it is made: the patterns of training, and how pixels become given tokens.

Image to video, extension, connection, inpainting and editing are one thing: some tokens have a noise level below 1 from
the start. Training draws at random what is given of a clip; sampling is told. Both lay it out by `lay_given`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.flow.rectified import interpolate
from genworld.models.vae import VideoVAE
from genworld.types import ClipShape, TokenGrid

HIDDEN_SIDES = (0.25, 0.75)
"""Sides of a hidden box, as parts of the picture's."""
MASK_CELLS = 4
"""Cells of a random mask along the shorter side."""


@dataclass(frozen=True, kw_only=True)
class GivenConfig:
    """How often training shows which part of a clip as given: weights of patterns, which need not sum to one.

    Attributes:
        nothing: all is to be made, as in text to video.
        first_frame: image to video.
        last_frame: what led to an image.
        both_ends: head and tail, each of one frame or more: connection, first and last frame.
        head: a beginning of random length, to be continued.
        tail: an end of random length, to be led up to.
        frames: one to three images somewhere.
        box: all but a box, standing or moving; sometimes the box alone (outpainting).
        mask: all but a random region, standing or moving.
        forcing: nothing is given, but every latent frame has a noise level of its own (Chen et al. 2024, "Diffusion
            Forcing"), which staggered sampling needs.
        jitter: given tokens have a noise level drawn from 0 to this, so that slightly noisy ones (`given_level` of a
            stream's history) are known too.
    """

    nothing: float = 1.0
    first_frame: float = 0.0
    last_frame: float = 0.0
    both_ends: float = 0.0
    head: float = 0.0
    tail: float = 0.0
    frames: float = 0.0
    box: float = 0.0
    mask: float = 0.0
    forcing: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        weights = self.weights
        if min(weights.values()) < 0 or not sum(weights.values()) > 0:
            raise ValueError(f"task.given: weights must be at least 0 and one of them above, got {weights}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"task.given.jitter is a noise level from 0 to below 1, got {self.jitter}")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every pattern."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "jitter"}


@dataclass(frozen=True)
class Given:
    """Pixels that are known of a video before it is made.

    Attributes:
        pixels: in [-1, 1], of the video's own height and width.
        first: the frame of the video that `pixels` begin with.
        known: which pixels are meant; None: all.
        strength: 1 keeps them. Less starts from a noised version of them, at level 1 - strength (before the flow's
            shift), and needs `first` to be 0.
    """

    pixels: Float[Tensor, "3 n H W"]
    first: int = 0
    known: Bool[Tensor, "n H W"] | None = None
    strength: float = 1.0

    @property
    def num_frames(self) -> int:
        """Frames that are given."""
        return self.pixels.shape[1]

    def check(self, shape: ClipShape) -> None:
        """Refuse what does not fit a video.

        Raises:
            ValueError: another size, frames outside the video, or a strength that cannot be honoured.
        """
        size, last = tuple(self.pixels.shape[2:]), self.first + self.num_frames
        if size != (shape.height, shape.width):
            raise ValueError(
                f"given frames of {size[0]}x{size[1]} (height x width) do not fit a video of {shape.height}x"
                f"{shape.width}: resize or crop them, or ask for their size"
            )
        if not 0 <= self.first < last <= shape.num_frames:
            raise ValueError(
                f"given frames {self.first} to {last - 1} lie outside a video of {shape.num_frames} frames"
            )
        if self.known is not None and self.known.shape != self.pixels.shape[1:]:
            raise ValueError(
                f"a mask of shape {list(self.known.shape)} (frames, height, width) does not fit given frames of shape "
                f"{list(self.pixels.shape[1:])}"
            )
        if not 0 <= self.strength <= 1 or (self.strength < 1 and self.first > 0):
            raise ValueError(
                f"strength must be in [0, 1], and below 1 only for media that begin with the video: got "
                f"{self.strength} at frame {self.first}"
            )


class Layout(NamedTuple):
    """What is given, in latents.

    Attributes:
        latents: of the tokens in the video's own grid that are given; anything elsewhere.
        start: the level, before the shift, at which each token of that grid begins: 0 is given, 1 is to be made.
        extras: latents, first frame and used tokens of whatever is given elsewhere.
    """

    latents: Float[Tensor, "C T H W"]
    start: Float[Tensor, "T H_patches W_patches"]
    extras: list[tuple[Float[Tensor, "C t H W"], int, Bool[Tensor, "t H_patches W_patches"] | None]]


@torch.no_grad()
def lay_given(vae: VideoVAE, grid: TokenGrid, shape: ClipShape, given: Sequence[Given]) -> Layout:
    """Encode what is given of a video.

    What begins with the video goes into its own grid: a token is given if all its pixels are. (The VAE is causal, so
    that its latents do not depend on what follows.) All else is encoded as clips of their own; where a length is not
    1 + n strides, pieces overlap or are single frames.

    Raises:
        ValueError: something given does not fit the video.
    """
    time, height, width = grid.latent_shape(shape)
    device = vae.latent_mean.device
    latents = torch.zeros(vae.latent_channels, time, height, width, device=device)
    start = torch.ones(time, height // grid.patch, width // grid.patch, device=device)
    for each in given:
        each.check(shape)
    head = [each for each in given if each.first == 0]
    stretches = [(each, begin, length) for each in given for begin, length in _stretches(each, grid.time_stride)]
    if head:
        pixels, levels = _compose(head, grid.time_stride)
        encoded = encode_known(vae, pixels, levels < 1)
        latents[:, : encoded.shape[1]] = encoded
        start[: encoded.shape[1]] = _per_token(levels.to(device), grid)
    extras = []
    for each, begin, length in stretches:
        known = None if each.known is None else each.known[begin : begin + length]
        encoded = encode_known(vae, each.pixels[:, begin : begin + length], known)
        use = None if known is None else _per_token((~known).float().to(device), grid) == 0
        if use is None or bool(use.any()):
            extras.append((encoded, each.first + begin, use))
    return Layout(latents, start, extras)


def encode_known(
    vae: VideoVAE, pixels: Float[Tensor, "3 n H W"], known: Bool[Tensor, "n H W"] | None
) -> Float[Tensor, "C t H W"]:
    """Normalised latents of a clip of which some pixels are unknown: each frame's mean colour stands in for them."""
    device = vae.latent_mean.device
    pixels = pixels.to(device)
    if known is not None and not bool(known.all()):
        weight = known.to(pixels)
        total = reduce(pixels * weight, "c n h w -> c n 1 1", "sum")
        pixels = torch.where(known.to(device), pixels, total / reduce(weight, "n h w -> n 1 1", "sum").clamp_min(1))
    return vae.to_latents(pixels[None])[0].float()


def mix(
    x: Float[Tensor, "C T H W"], noise: Float[Tensor, "C T H W"], levels: Float[Tensor, "*levels"], patch: int
) -> Float[Tensor, "C T H W"]:
    """Latents noised to a level, or to a level for each patch (three dimensions that broadcast to the patches)."""
    if levels.ndim == 0:
        return interpolate(x, noise, levels)
    _, time, height, width = x.shape
    levels = spread(levels.expand(time, height // patch, width // patch), patch)
    return (1 - levels) * x + levels * noise


def spread(levels: Float[Tensor, "T H_patches W_patches"], patch: int) -> Float[Tensor, "T H W"]:
    """What is said of patches, said of every latent pixel in them."""
    return repeat(levels, "t h w -> t (h p) (w q)", p=patch, q=patch)


def _stretches(given: Given, stride: int) -> Iterator[tuple[int, int]]:
    """First frame and length of the clips in which given frames are encoded, as far as they are not in the grid."""
    frames, whole = given.num_frames, _whole(given.num_frames, stride)
    if given.first > 0:
        yield 0, whole
    if frames > whole and given.strength == 1:
        if frames > stride:
            yield frames - 1 - stride, 1 + stride
        else:
            yield from ((i, 1) for i in range(whole, frames))


def _whole(frames: int, stride: int) -> int:
    """The most of `frames` that a VAE takes: 1 + n strides."""
    return 1 + (frames - 1) // stride * stride


def _compose(head: Sequence[Given], stride: int) -> tuple[Float[Tensor, "3 n H W"], Float[Tensor, "n H W"]]:
    """Pixels of what is given from the first frame on, the later over the earlier, and each one's noise level."""
    frames = max(_whole(each.num_frames, stride) for each in head)
    first = head[0].pixels
    pixels = first.new_zeros(3, frames, *first.shape[2:])
    levels = first.new_ones(frames, *first.shape[2:])
    for each in head:
        n = min(each.num_frames, frames)
        known = torch.ones_like(levels[:n], dtype=torch.bool) if each.known is None else each.known[:n].to(first.device)
        pixels[:, :n] = torch.where(known, each.pixels[:, :n].to(first), pixels[:, :n])
        levels[:n] = torch.where(known, 1 - each.strength, levels[:n])
    return pixels, levels


def _per_token(levels: Float[Tensor, "n H W"], grid: TokenGrid) -> Float[Tensor, "t H_patches W_patches"]:
    """The highest level among each token's pixels."""
    side = grid.size_multiple
    rows = rearrange(levels, "n (h p) (w q) -> n h w (p q)", p=side, q=side).amax(-1)
    later = reduce(rows[1:], "(t s) h w -> t h w", "max", s=grid.time_stride)
    return torch.cat([rows[:1], later])


# ---- training ----


class Draw(NamedTuple):
    """What one sample of training is given: parts of its own clip, and whether levels differ from frame to frame."""

    given: tuple[Given, ...] = ()
    forcing: bool = False


def draw_given(
    config: GivenConfig, shape: ClipShape, stride: int, chance: torch.Generator, pixels: Callable[[], Tensor]
) -> Draw:
    """Choose what is given of a clip in training.

    Args:
        config: weights of the patterns.
        shape: of the clip. Of an image nothing can be given but a region.
        stride: the VAE's temporal one.
        chance: all choices are drawn from it.
        pixels: called for the clip's pixels [3 F H W] if any are given.
    """
    weights = config.weights
    if sum(weights.values()) == weights["nothing"]:
        return Draw()
    names = list(weights)
    name = names[int(torch.multinomial(torch.tensor(list(weights.values())), 1, generator=chance))]
    if name in ("box", "mask"):
        known = ~(_hidden_box if name == "box" else _hidden_region)(shape, chance)
        return Draw((Given(pixels(), known=known),))
    steps = (shape.num_frames - 1) // stride
    if name == "nothing" or steps == 0:
        return Draw()
    if name == "forcing":
        return Draw(forcing=True)
    return Draw(tuple(Given(pixels()[:, a:b], first=a) for a, b in _spans(name, shape.num_frames, stride, chance)))


def _spans(name: str, frames: int, stride: int, chance: torch.Generator) -> Sequence[tuple[int, int]]:
    """First and last (exclusive) frames of what is given; at least one latent frame is left to be made."""
    steps = (frames - 1) // stride
    if name == "first_frame":
        return [(0, 1)]
    if name == "last_frame":
        return [(frames - 1, frames)]
    if name == "head":
        return [(0, 1 + stride * _integer(steps, chance))]
    if name == "tail":
        return [(frames - 1 - stride * _integer(steps, chance), frames)]
    if name == "both_ends":
        head = _integer(steps, chance)
        tail = _integer(steps - head, chance)
        return [(0, 1 + stride * head), (frames - 1 - stride * tail, frames)]
    assert name == "frames", name
    chosen = torch.randperm(frames, generator=chance)[: 1 + _integer(3, chance)]
    return [(i, i + 1) for i in sorted(chosen.tolist())]


def _hidden_box(shape: ClipShape, chance: torch.Generator) -> Bool[Tensor, "F H W"]:
    """A box that stands or moves evenly; in three of ten draws all but the box."""
    low, high = HIDDEN_SIDES
    sides = low + (high - low) * torch.rand(2, generator=chance)
    ends = torch.rand(2, 2, generator=chance) * (1 - sides)
    moves, inverted = torch.rand(2, generator=chance)
    along = torch.linspace(0, 1, shape.num_frames)[:, None] * float(moves < 0.5)
    corner = torch.lerp(ends[0], ends[1], along)
    axes = [
        (corner[:, i, None] <= place) & (place <= corner[:, i, None] + sides[i])
        for i, place in enumerate(_places(size) for size in (shape.height, shape.width))
    ]
    box = axes[0][:, :, None] & axes[1][:, None, :]
    return ~box if float(inverted) < 0.3 else box


def _hidden_region(shape: ClipShape, chance: torch.Generator) -> Bool[Tensor, "F H W"]:
    """About half of the picture in smooth blots, which stand or change."""
    cells = [max(2, round(MASK_CELLS * size / min(shape.height, shape.width))) for size in (shape.height, shape.width)]
    field = torch.randn(1, 1, 2, *cells, generator=chance)
    if float(torch.rand((), generator=chance)) < 0.5:
        field = field[:, :, :1].expand(-1, -1, 2, -1, -1)
    size = (shape.num_frames, shape.height, shape.width)
    return F.interpolate(field, size, mode="trilinear", align_corners=True)[0, 0] > 0


def _places(size: int) -> Float[Tensor, " size"]:
    return (torch.arange(size) + 0.5) / size


def _integer(below: int, chance: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=chance))
