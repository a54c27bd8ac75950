"""Video autoencoders of diffusers, from a local folder, behind the protocol of `VideoVAE`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genworld.models.vae_base import Gaussian, VideoVAE


@dataclass(frozen=True, kw_only=True)
class DiffusersVAEConfig:
    """A folder with the `config.json` and the safetensors of a diffusers autoencoder."""

    kind: Literal["diffusers"] = "diffusers"
    path: Path


class DiffusersVAE(VideoVAE):
    """A foreign autoencoder; its own normalisation of latents becomes `latent_mean` and `latent_std`."""

    def __init__(self, network: Any) -> None:
        config: Any = network.config
        time_stride, space_stride, channels = _geometry(config)
        super().__init__(time_stride, space_stride, channels)
        self.network = network
        mean, std = _statistics(network, channels)
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weights that write the pixels, by whose gradient an adversarial loss is balanced."""
        return next(p for p in self.network.decoder.conv_out.parameters() if p.ndim > 1)

    def encode(self, pixels: Float[Tensor, "B 3 F H W"]) -> Gaussian:
        """The posterior of whole clips, in raw latents.

        Raises:
            ValueError: the clip does not fit the strides.
        """
        self.check_pixels(pixels)
        posterior = self.network.encode(pixels).latent_dist
        return Gaussian(posterior.mean, posterior.logvar)

    def decode(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 F H W"]:
        """Pixels of whole clips from raw latents."""
        return self.network.decode(latents).sample


class DiffusersWanVAE(DiffusersVAE):
    """Wan's autoencoder, one latent frame at a time as it was trained, its caches owned by the stream.

    The library keeps these caches in the network, where a second stream would overwrite them, and clips the pixels,
    which stops their gradient; both are avoided here.
    """

    def encode(self, pixels: Float[Tensor, "B 3 F H W"]) -> Gaussian:
        """The posterior of whole clips, in raw latents.

        Raises:
            ValueError: the clip does not fit the strides.
        """
        parts = list(self._posteriors([pixels]))
        return Gaussian(*(torch.cat(part, dim=2) for part in zip(*parts, strict=True)))

    def decode(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 F H W"]:
        """Pixels of whole clips from raw latents, not clipped."""
        return torch.cat(list(self._pixels([latents])), dim=2)

    def encode_stream(self, chunks: Iterable[Float[Tensor, "B 3 f H W"]]) -> Iterator[Float[Tensor, "B C t H W"]]:
        """`to_latents`, one latent frame at a time, at constant memory.

        Raises:
            ValueError: a chunk does not fit the strides.
        """
        for posterior in self._posteriors(chunks):
            yield self.normalize(posterior.mean)

    def decode_stream(self, chunks: Iterable[Float[Tensor, "B C t H W"]]) -> Iterator[Float[Tensor, "B 3 f H W"]]:
        """`to_pixels`, one latent frame at a time, at constant memory."""
        for pixels in self._pixels(self.denormalize(chunk) for chunk in chunks):
            yield pixels.clamp(-1.0, 1.0)

    def _posteriors(self, chunks: Iterable[Tensor]) -> Iterator[Gaussian]:
        from diffusers.models.autoencoders import autoencoder_kl_wan as wan

        encoder, patch = self.network.encoder, self.network.config.patch_size
        cache = _empty_cache(encoder, wan.WanCausalConv3d)
        first = True
        for chunk in chunks:
            self.check_pixels(chunk, first)
            folded = wan.patchify(chunk, patch) if patch is not None else chunk
            head = [folded[:, :, :1]] if first else []
            rest = folded[:, :, len(head) :]
            for frames in [*head, *(rest.split(self.time_stride, dim=2) if rest.shape[2] else ())]:
                moments = self.network.quant_conv(encoder(frames, feat_cache=cache, feat_idx=[0]))
                mean, logvar = moments.chunk(2, dim=1)
                yield Gaussian(mean, logvar.clamp(-30.0, 20.0))
            first = False

    def _pixels(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        from diffusers.models.autoencoders import autoencoder_kl_wan as wan

        decoder, patch = self.network.decoder, self.network.config.patch_size
        cache = _empty_cache(decoder, wan.WanCausalConv3d)
        first = True
        for chunk in chunks:
            for frame in self.network.post_quant_conv(chunk).split(1, dim=2):
                pixels = decoder(frame, feat_cache=cache, feat_idx=[0], first_chunk=first)
                yield wan.unpatchify(pixels, patch) if patch is not None else pixels
                first = False


_CLASSES: dict[str, type[DiffusersVAE]] = {
    "AutoencoderKLWan": DiffusersWanVAE,
    "AutoencoderKLLTXVideo": DiffusersVAE,
    "AutoencoderKLCogVideoX": DiffusersVAE,
}


def load_diffusers_vae(config: DiffusersVAEConfig) -> DiffusersVAE:
    """Load the autoencoder that the folder's `config.json` names; on the meta device, only its shape.

    Raises:
        ValueError: no such folder, or a class that is not supported.
    """
    file = config.path / "config.json"
    if not file.is_file():
        raise ValueError(f"{file} does not exist: `path` must name the folder of one autoencoder, such as MODEL/vae")
    settings = json.loads(file.read_text())
    name = settings.get("_class_name")
    if name not in _CLASSES:
        raise ValueError(f"{file}: autoencoders of class {name!r} are not supported, only {sorted(_CLASSES)}")
    if settings.get("timestep_conditioning"):
        raise ValueError(f"{file}: a decoder with timestep_conditioning is not supported, use LTX-Video 0.9.0's")
    import diffusers

    network_class = getattr(diffusers, name)
    if torch.get_default_device().type == "meta":
        return _CLASSES[name](network_class.from_config(settings))
    network = network_class.from_pretrained(config.path, local_files_only=True, use_safetensors=True)
    return _CLASSES[name](network.eval())


def _geometry(config: Any) -> tuple[int, int, int]:
    """Temporal stride, spatial stride and channels, from the settings of any of the classes."""
    if "z_dim" in config:
        patch = config.patch_size or 1
        return 2 ** sum(config.temperal_downsample), patch * 2 ** (len(config.dim_mult) - 1), config.z_dim
    if "patch_size_t" in config:
        halvings = sum(config.spatio_temporal_scaling)
        return config.patch_size_t * 2**halvings, config.patch_size * 2**halvings, config.latent_channels
    levels = len(config.block_out_channels) - 1
    return int(config.temporal_compression_ratio), 2**levels, config.latent_channels


def _statistics(network: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation such that (latents - mean) / deviation is what the library's pipelines compute."""
    buffers = dict(network.named_buffers())

    def find(name: str, default: float) -> Tensor:
        values = buffers[name] if name in buffers else network.config.get(name)
        return torch.full((channels,), default) if values is None else torch.as_tensor(values, dtype=torch.float32)

    return find("latents_mean", 0.0), find("latents_std", 1.0) / network.config.get("scaling_factor", 1.0)


def _empty_cache(network: nn.Module, kind: type[nn.Module]) -> list[Tensor | None]:
    return [None] * sum(isinstance(module, kind) for module in network.modules())
