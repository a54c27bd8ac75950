"""The causal video autoencoder: principal components plus a residual of 2D spatial and 1D causal convolutions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.models.vae_base import Gaussian, VideoVAE
from genworld.models.vae_linear import LinearCodec
from genworld.nn.conv3d import ChannelNorm, Memory, SpaceConv, TimeConv, fold, unfold
from genworld.ops.precision import without_autocast


@dataclass(frozen=True, kw_only=True)
class CausalVAEConfig:
    """Sizes of a `CausalVAE`; the defaults are for real video.

    The network starts from blocks of `patch_frames` x `patch` x `patch` pixels. Each further level halves height and
    width, and the last ones also the frames, until `time_stride` is reached; so the spatial stride is
    `patch` * 2 ** (number of levels - 1). Widths and block counts go from the finest level to the coarsest.

    `spectrum` says how far the deviations of normalised latents follow what the channels contribute to the pixels: 0
    gives all the same deviation, 1 one in proportion. Latents of equal deviation are mostly fine detail, on which a
    small generative model spends itself before it has drawn one solid object.
    """

    kind: Literal["causal"] = "causal"
    latent_channels: int = 16
    time_stride: int = 4
    patch: int = 2
    patch_frames: int = 1
    widths: tuple[int, ...] = (256, 512, 640)
    encoder_blocks: tuple[int, ...] = (2, 3, 4)
    decoder_blocks: tuple[int, ...] = (3, 4, 6)
    initial_logvar: float = -6.0
    spectrum: float = 0.6

    def __post_init__(self) -> None:
        levels = len(self.widths)
        if not levels or {len(self.encoder_blocks), len(self.decoder_blocks)} != {levels}:
            raise ValueError("widths, encoder_blocks and decoder_blocks need one entry per level each")
        for name, value in (
            ("patch", self.patch),
            ("patch_frames", self.patch_frames),
            ("time_stride", self.time_stride),
        ):
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name}: expected a power of two, got {value}")
        if not 1 <= self.time_stride // self.patch_frames <= 2 ** (levels - 1):
            raise ValueError(
                f"{levels} levels on patches of {self.patch_frames} frames cannot make a time stride of "
                f"{self.time_stride}: change patch_frames or the number of levels"
            )

    @property
    def space_stride(self) -> int:
        """Pixels per latent cell, in height and in width."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def frame_steps(self) -> tuple[int, ...]:
        """By how much each transition between levels divides the number of frames: 1 or 2."""
        halvings = int(math.log2(self.time_stride // self.patch_frames))
        return tuple(2 if i >= len(self.widths) - 1 - halvings else 1 for i in range(len(self.widths) - 1))


class ResidualBlock(nn.Module):
    """Normalise, convolve in space, activate, convolve in time, add."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.space = SpaceConv(width, width)
        self.time = TimeConv(width, width)

    def forward(self, x: Float[Tensor, "B T H W C"], memory: Memory | None = None) -> Float[Tensor, "B T H W C"]:
        """One block; `memory` when `x` is a chunk of a stream."""
        return x + self.time(F.silu(self.space(self.norm(x))), memory)


class Head(nn.Module):
    """The last layer of a network: starts at zero.

    Scaled down by the root of its width, so that the first steps of Adam, which move all its weights equally far in
    the same direction, do not drown what the linear path already knows.
    """

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.linear = nn.Linear(width, out_channels)
        self.gain = width**-0.5
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W D"]:
        """Normalise, activate, project."""
        return self.gain * self.linear(F.silu(self.norm(x)))


class Level(nn.ModuleList):
    """The blocks of one resolution."""

    def forward(self, x: Float[Tensor, "B T H W C"], memory: Memory | None = None) -> Float[Tensor, "B T H W C"]:
        """One block after the other."""
        for block in self:
            x = block(x, memory)
        return x


class Encoder(nn.Module):
    """Pixels to `out_channels` per latent cell; the last layer starts at zero."""

    def __init__(self, config: CausalVAEConfig, out_channels: int) -> None:
        super().__init__()
        self.patch, self.patch_frames, self.frame_steps = config.patch, config.patch_frames, config.frame_steps
        widths = config.widths
        self.stem = nn.Linear(3 * config.patch_frames * config.patch**2, widths[0])
        self.levels = _levels(widths, config.encoder_blocks)
        self.downs = nn.ModuleList(
            nn.Linear(4 * step * fine, coarse)
            for fine, coarse, step in zip(widths, widths[1:], config.frame_steps, strict=False)
        )
        self.head = Head(widths[-1], out_channels)

    def forward(self, pixels: Float[Tensor, "B F H W 3"], memory: Memory | None = None) -> Float[Tensor, "B T h w C"]:
        """From the finest level to the coarsest."""
        x = self.stem(fold(pixels, self.patch_frames, self.patch, memory))
        for i, level in enumerate(self.levels):
            if i > 0:
                x = self.downs[i - 1](fold(x, self.frame_steps[i - 1], 2, memory))
            x = level(x, memory)
        return self.head(x)


class Decoder(nn.Module):
    """Latents to pixels; the last layer starts at zero."""

    def __init__(self, config: CausalVAEConfig) -> None:
        super().__init__()
        self.patch, self.patch_frames, self.frame_steps = config.patch, config.patch_frames, config.frame_steps
        widths = config.widths
        self.stem = nn.Linear(config.latent_channels, widths[-1])
        self.levels = _levels(widths, config.decoder_blocks)
        self.ups = nn.ModuleList(
            nn.Linear(coarse, 4 * step * fine)
            for fine, coarse, step in zip(widths, widths[1:], config.frame_steps, strict=False)
        )
        self.head = Head(widths[0], 3 * config.patch_frames * config.patch**2)

    def forward(self, latents: Float[Tensor, "B T h w C"], memory: Memory | None = None) -> Float[Tensor, "B F H W 3"]:
        """From the coarsest level to the finest."""
        x = self.stem(latents)
        for i in reversed(range(len(self.levels))):
            x = self.levels[i](x, memory)
            if i > 0:
                x = unfold(self.ups[i - 1](x), self.frame_steps[i - 1], 2, memory)
        return unfold(self.head(x), self.patch_frames, self.patch, memory)


class CausalVAE(VideoVAE):
    """Causal in time, normalised per pixel: encoding and decoding in chunks of any size equals doing it whole.

    latents = linear(pixels) + encoder(pixels) and pixels = linear(latents) + decoder(latents), where the linear maps
    start as principal components (`fit`) and the last layers of the networks at zero.
    """

    def __init__(self, config: CausalVAEConfig) -> None:
        super().__init__(config.time_stride, config.space_stride, config.latent_channels)
        self.config = config
        self.linear = LinearCodec(config.time_stride, config.space_stride, config.latent_channels)
        self.encoder = Encoder(config, 2 * config.latent_channels)
        self.decoder = Decoder(config)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weights that write the pixels, by whose gradient the adversarial loss is balanced."""
        weight = self.decoder.head.linear.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def encode_halo(self) -> int:
        """Spatial reach of the encoder, in latent cells."""
        return _reach(self.config.encoder_blocks)

    @property
    def decode_halo(self) -> int:
        """Spatial reach of the decoder, in latent cells."""
        return max(_reach(self.config.decoder_blocks), self.linear.DECODE_REACH)

    def encode(self, pixels: Float[Tensor, "B 3 F H W"]) -> Gaussian:
        """The posterior of whole clips, in raw latents.

        Raises:
            ValueError: the clip does not fit the strides.
        """
        return self.encode_chunk(pixels)

    def decode(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 F H W"]:
        """Pixels of whole clips from raw latents, not clipped."""
        return self.decode_chunk(latents)

    def encode_chunk(self, pixels: Float[Tensor, "B 3 f H W"], memory: Memory | None = None) -> Gaussian:
        """Encode the next frames of the stream that `memory` belongs to; without it, a whole clip.

        Raises:
            ValueError: the frames do not fit the strides.
        """
        self.check_pixels(pixels, first=memory is None or memory.fresh)
        x = rearrange(pixels, "b c f h w -> b f h w c")
        mean, logvar = self.encoder(x, memory).float().chunk(2, dim=-1)
        with without_autocast(pixels):  # a few FLOPs, of which every digit shows
            mean = mean + self.linear.encode(x.to(self.linear.down.weight.dtype), memory)
        logvar = (logvar + self.config.initial_logvar).clamp(-30.0, 20.0)
        if memory is not None:
            memory.fresh = False
        return Gaussian(*(rearrange(part, "b t h w c -> b c t h w") for part in (mean, logvar)))

    def decode_chunk(
        self, latents: Float[Tensor, "B C t H W"], memory: Memory | None = None
    ) -> Float[Tensor, "B 3 f H W"]:
        """Decode the next latent frames of the stream that `memory` belongs to; without it, a whole clip."""
        z = rearrange(latents, "b c t h w -> b t h w c")
        residual = self.decoder(z, memory)
        with without_autocast(latents):
            pixels = self.linear.decode(z.to(self.linear.up.weight.dtype), memory) + residual
        if memory is not None:
            memory.fresh = False
        return rearrange(pixels, "b f h w c -> b c f h w")

    def encode_stream(self, chunks: Iterable[Float[Tensor, "B 3 f H W"]]) -> Iterator[Float[Tensor, "B C t H W"]]:
        """`to_latents`, chunk by chunk, at constant memory.

        Args:
            chunks: 1 + `time_stride` * n frames first, then `time_stride` * n each.

        Raises:
            ValueError: a chunk does not fit the strides.
        """
        memory = Memory()
        for chunk in chunks:
            yield self.normalize(self.encode_chunk(chunk, memory).mean)

    def decode_stream(self, chunks: Iterable[Float[Tensor, "B C t H W"]]) -> Iterator[Float[Tensor, "B 3 f H W"]]:
        """`to_pixels`, chunk by chunk (any number of latent frames each), at constant memory."""
        memory = Memory()
        for chunk in chunks:
            yield self.decode_chunk(self.denormalize(chunk), memory).clamp(-1.0, 1.0)

    @torch.no_grad()
    def fit(self, clips: Iterable[Float[Tensor, "3 F H W"]], blocks: int, generator: torch.Generator) -> None:
        """Start the linear path from `clips` (see `LinearCodec.fit`); measure and weigh the latents.

        Args:
            clips: pixels in [-1, 1] of any shapes that the strides divide; iterated over several times.
            blocks: how many blocks are drawn from each clip.
            generator: draws them.

        Raises:
            ValueError: not more blocks than latent channels.
        """
        self.linear.fit(clips, blocks, generator)
        content = self.linear.down.weight.norm(dim=1).reciprocal()  # deviation of the pixels along each component
        self.latent_weight.copy_((content / content.max()) ** self.config.spectrum)
        count, total, squares = 0, torch.zeros(1), torch.zeros(1)
        for clip in clips:
            # The encoder's last layer is still zero: the linear path is all there is, and much cheaper.
            pixels = rearrange(clip[None].to(self.latent_mean.device), "b c f h w -> b f h w c")
            latents = self.linear.encode(pixels).flatten(0, 3).double().cpu()
            count += len(latents)
            total, squares = total + latents.sum(dim=0), squares + latents.square().sum(dim=0)
        self.latent_mean.copy_(total / count)
        self.latent_std.copy_((squares / count - (total / count).square()).clamp_min(1e-12).sqrt())


def _levels(widths: Sequence[int], blocks: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(
        Level(ResidualBlock(width) for _ in range(count)) for width, count in zip(widths, blocks, strict=True)
    )


def _reach(blocks: Sequence[int]) -> int:
    """Each block reaches one cell of its own level; a cell of the coarsest level holds 2 ** n of level -n."""
    return math.ceil(sum(count / 2**i for i, count in enumerate(reversed(blocks))))
