"""What every video autoencoder of genworld offers, whoever trained it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genworld.models.vae_tiling import Tiling, tiled


class Gaussian(NamedTuple):
    """A diagonal normal distribution over latents: what an encoder returns."""

    mean: Float[Tensor, "B C T H W"]
    logvar: Float[Tensor, "B C T H W"]

    def sample(self, noise: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Reparametrised sample from given standard normal `noise`."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Float[Tensor, "B C T H W"]:
        """Divergence from the standard normal distribution, elementwise, in nats."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar)


class VideoVAE(nn.Module):
    """Pixels [B 3 F H W] in [-1, 1] to latents [B C T H W] and back; 1 + `time_stride` * n frames become 1 + n.

    `encode` and `decode` speak raw latents; everything a user needs (`to_latents`, `to_pixels` and the streams) speaks
    latents normalised per channel by the measured `latent_mean` and `latent_std` to a deviation of `latent_weight`.
    All three travel with the weights. A weight is 1 unless the network knows better: see `CausalVAEConfig.spectrum`.
    """

    latent_mean: Tensor
    latent_std: Tensor
    latent_weight: Tensor

    def __init__(self, time_stride: int, space_stride: int, latent_channels: int) -> None:
        super().__init__()
        self.time_stride = time_stride
        self.space_stride = space_stride
        self.latent_channels = latent_channels
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))
        self.register_buffer("latent_weight", torch.ones(latent_channels))

    def encode(self, pixels: Float[Tensor, "B 3 F H W"]) -> Gaussian:
        """The posterior of whole clips, in raw latents.

        Raises:
            ValueError: the clip does not fit the strides.
        """
        raise NotImplementedError

    def decode(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 F H W"]:
        """Pixels of whole clips from raw latents, not clipped."""
        raise NotImplementedError

    @property
    def last_layer(self) -> nn.Parameter:
        """The weights that write the pixels, by whose gradient an adversarial loss is balanced."""
        raise NotImplementedError

    @property
    def encode_halo(self) -> int | None:
        """How many latent cells beyond its own a latent depends on, in space; None: it is not bounded."""
        return None

    @property
    def decode_halo(self) -> int | None:
        """How many latent cells beyond its own a pixel depends on, in space; None: it is not bounded."""
        return None

    def normalize(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Raw latents to zero mean and a deviation of `latent_weight` per channel."""
        return (latents - _per_channel(self.latent_mean)) * _per_channel(self.latent_weight / self.latent_std)

    def denormalize(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """The inverse of `normalize`."""
        return latents * _per_channel(self.latent_std / self.latent_weight) + _per_channel(self.latent_mean)

    def to_latents(
        self, pixels: Float[Tensor, "B 3 F H W"], tiling: Tiling | None = None
    ) -> Float[Tensor, "B C T H W"]:
        """Normalised mean latents of whole clips; with `tiling`, of large clips at bounded memory.

        Raises:
            ValueError: the clip does not fit the strides.
        """
        self.check_pixels(pixels)
        if tiling is None:
            return self.normalize(self.encode(pixels).mean)

        def encode(part: Tensor) -> Tensor:
            return torch.cat(list(self.encode_stream(self.split_pixels(part, tiling.frames))), dim=2)

        return tiled(encode, pixels, tiling, self.space_stride, 1, self.encode_halo)

    def to_pixels(
        self, latents: Float[Tensor, "B C T H W"], tiling: Tiling | None = None
    ) -> Float[Tensor, "B 3 F H W"]:
        """Pixels in [-1, 1] from normalised latents; with `tiling`, of large clips at bounded memory."""
        if tiling is None:
            return self.decode(self.denormalize(latents)).clamp(-1.0, 1.0)

        def decode(part: Tensor) -> Tensor:
            return torch.cat(list(self.decode_stream(part.split(tiling.frames, dim=2))), dim=2)

        return tiled(decode, latents, tiling, 1, self.space_stride, self.decode_halo)

    def encode_stream(self, chunks: Iterable[Float[Tensor, "B 3 f H W"]]) -> Iterator[Float[Tensor, "B C t H W"]]:
        """`to_latents`, chunk by chunk: 1 + `time_stride` * n frames first, then `time_stride` * n each.

        This default gathers all chunks and encodes them whole, for networks that cannot stream.
        """
        yield self.to_latents(torch.cat(list(chunks), dim=2))

    def decode_stream(self, chunks: Iterable[Float[Tensor, "B C t H W"]]) -> Iterator[Float[Tensor, "B 3 f H W"]]:
        """`to_pixels`, chunk by chunk: any number of latent frames each.

        This default gathers all chunks and decodes them whole, for networks that cannot stream.
        """
        yield self.to_pixels(torch.cat(list(chunks), dim=2))

    def split_pixels(self, pixels: Float[Tensor, "B 3 F H W"], latent_frames: int) -> Iterator[Tensor]:
        """Views of `pixels` that make `latent_frames` latent frames each (the last perhaps fewer)."""
        first = 1 + (latent_frames - 1) * self.time_stride
        yield pixels[:, :, :first]
        if pixels.shape[2] > first:
            yield from pixels[:, :, first:].split(latent_frames * self.time_stride, dim=2)

    def check_pixels(self, pixels: Float[Tensor, "B 3 F H W"], first: bool = True) -> None:
        """Refuse clips that the strides cannot divide.

        Args:
            pixels: a clip, or a chunk of one.
            first: whether it begins with the first frame of the video.

        Raises:
            ValueError: what came, and which sizes would do.
        """
        if pixels.ndim != 5 or pixels.shape[1] != 3:
            raise ValueError(f"expected pixels of shape [B 3 F H W], got {list(pixels.shape)}")
        stride = self.time_stride
        if (pixels.shape[2] - first) % stride:
            below = max((pixels.shape[2] - first) // stride * stride + first, first or stride)
            form = f"1 + {stride} n" if first else f"{stride} n"
            raise ValueError(f"got {pixels.shape[2]} frames, expected {form}: use {below} or {below + stride}")
        for name, size in zip(("height", "width"), pixels.shape[3:], strict=True):
            if size % self.space_stride:
                below = max(size // self.space_stride, 1) * self.space_stride
                raise ValueError(
                    f"{name} {size} is not divisible by the spatial stride {self.space_stride}: "
                    f"use {below} or {below + self.space_stride}"
                )


def _per_channel(values: Float[Tensor, " C"]) -> Float[Tensor, "1 C 1 1 1"]:
    return values.view(1, -1, 1, 1, 1)
