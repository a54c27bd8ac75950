"""Video autoencoders: the configs and one builder. See `vae_base` for what each of them offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from genworld.models.vae_base import Gaussian, VideoVAE
from genworld.models.vae_causal import CausalVAE, CausalVAEConfig
from genworld.models.vae_diffusers import DiffusersVAE, DiffusersVAEConfig, load_diffusers_vae
from genworld.models.vae_tiling import Tiling

__all__ = [
    "CausalVAE",
    "CausalVAEConfig",
    "DiffusersVAE",
    "DiffusersVAEConfig",
    "Gaussian",
    "RunVAEConfig",
    "Tiling",
    "VAEConfig",
    "VideoVAE",
    "build_vae",
    "flops_per_pixel",
]


@dataclass(frozen=True, kw_only=True)
class RunVAEConfig:
    """An autoencoder that genworld trained.

    Attributes:
        path: folder of its run, or of `save_vae`; it says what the autoencoder is.
        trained_by: the experiment that makes it, for describing what is not there yet.
    """

    kind: Literal["run"] = "run"
    path: Path
    trained_by: Path | None = None


VAEConfig = CausalVAEConfig | DiffusersVAEConfig | RunVAEConfig


def build_vae(config: CausalVAEConfig | DiffusersVAEConfig) -> VideoVAE:
    """A new causal autoencoder, or a foreign one with its weights.

    Raises:
        ValueError: a foreign folder that cannot be used.
    """
    if isinstance(config, CausalVAEConfig):
        return CausalVAE(config)
    return load_diffusers_vae(config)


@torch.no_grad()
def flops_per_pixel(vae: VideoVAE, num_frames: int = 17, size: int = 128) -> tuple[float, float]:
    """Floating-point operations of encoding and of decoding, per pixel of a clip (frames x height x width).

    Counted by running the network once: on the meta device this costs nothing.
    """
    pixels = torch.zeros(1, 3, num_frames, size, size, device=vae.latent_mean.device)
    with FlopCounterMode(display=False) as encoding:
        latents = vae.encode(pixels).mean
    with FlopCounterMode(display=False) as decoding:
        vae.decode(latents)
    count = num_frames * size * size
    return encoding.get_total_flops() / count, decoding.get_total_flops() / count
