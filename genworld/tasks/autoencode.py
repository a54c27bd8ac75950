"""Training a video autoencoder."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from genworld.eval.perceptual import Backbone, PerceptualDistance
from genworld.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from genworld.models.vae import CausalVAE, CausalVAEConfig, DiffusersVAEConfig, VideoVAE, build_vae
from genworld.models.vae_base import Gaussian
from genworld.ops.quality import psnr
from genworld.ops.random import generator, normal
from genworld.tasks.base import ClipTask, PickedPixels, TaskOutput, group_by_shape
from genworld.types import ClipSource, Pack, Pick, Sample, TokenGrid

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """LPIPS on a few frames of each clip, with the backbone's weights from a local file."""

    path: Path
    backbone: Backbone = "vgg"
    weight: float = 1.0
    frames: int = 4


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The second phase: from step `start` on, a discriminator judges the reconstructions."""

    start: int
    weight: float = 0.1
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


@dataclass(frozen=True, kw_only=True)
class AutoencodeConfig:
    """What is trained and by which losses.

    All weights are per value: squared and absolute error per colour value (PSNR wants the square, sharp edges the
    absolute), divergence per latent value. From step `freeze_encoder_at` on only the decoder learns.
    """

    kind: Literal["autoencode"] = "autoencode"
    vae: CausalVAEConfig | DiffusersVAEConfig = field(default_factory=CausalVAEConfig)
    l1_weight: float = 0.0
    mse_weight: float = 4.0
    kl_weight: float = 1e-4
    perceptual: PerceptualConfig | None = None
    adversarial: AdversarialConfig | None = None
    freeze_encoder_at: int | None = None
    fit_clips: int = 256
    fit_blocks_per_clip: int = 128
    statistics_momentum: float = 0.01


class Autoencode(ClipTask):
    """Reconstruction, divergence, perceptual and adversarial losses of a video autoencoder.

    One optimiser trains both networks: the discriminator sees reconstructions cut off from the graph, the generator's
    loss sees discriminator weights cut off from theirs, so a single backward pass gives each its own gradients.
    """

    def __init__(self, config: AutoencodeConfig) -> None:
        super().__init__()
        self.config = config
        self.vae: VideoVAE = build_vae(config.vae)
        adversarial, perceptual = config.adversarial, config.perceptual
        self.discriminator = PatchDiscriminator(adversarial.discriminator) if adversarial else None
        self.distance = PerceptualDistance(perceptual.path, perceptual.backbone) if perceptual else None
        self.grid = TokenGrid(self.vae.time_stride, self.vae.space_stride)
        self.prepare_clips = config.fit_clips
        self.leaves_out_parameters = adversarial is not None or config.freeze_encoder_at is not None

    def units(self, pack: Pack) -> int:
        """Latent positions."""
        return sum(self.grid.num_tokens(sample.shape) for sample in pack)

    def networks(self) -> dict[str, nn.Module]:
        """The autoencoder, and the discriminator where there is one."""
        networks: dict[str, nn.Module] = {"vae": self.vae}
        return networks | ({"discriminator": self.discriminator} if self.discriminator is not None else {})

    def forward(self, pack: Pack, seed: int, step: int) -> TaskOutput:
        """Sums over latent positions; samples of equal shape share a batch."""
        sums: dict[str, Tensor] = defaultdict(lambda: self.vae.latent_mean.new_zeros(()))
        means = []
        for samples in group_by_shape(pack):
            pixels = torch.stack([sample.need_pixels() for sample in samples])
            posterior, other = self._reconstruct(pixels, samples, seed, step)
            means.append(posterior.mean.detach())
            units = self.grid.num_tokens(samples[0].shape)
            for name, value in self._losses(pixels, other, posterior, samples, seed, step).items():
                sums[name] = sums[name] + units * value
        if self.training and isinstance(self.vae, CausalVAE) and not self._is_frozen(step):
            self._track_statistics(means)
        loss = sums.pop("loss")
        return TaskOutput(loss, {name: value.detach() for name, value in sums.items()})

    def _is_frozen(self, step: int) -> bool:
        """Whether latents must not change any more: something else may be learning them already."""
        return self.config.freeze_encoder_at is not None and step >= self.config.freeze_encoder_at

    def _reconstruct(
        self, pixels: Float[Tensor, "B 3 F H W"], samples: Sequence[Sample], seed: int, step: int
    ) -> tuple[Gaussian, Float[Tensor, "B 3 F H W"]]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen(step)):
            posterior = Gaussian(*(part.float() for part in self.vae.encode(pixels)))
        shape = posterior.mean.shape[1:]
        noise = torch.stack([normal(shape, seed, "posterior", sample.position) for sample in samples])
        return posterior, self.vae.decode(posterior.sample(noise.to(pixels.device))).float()

    def _losses(
        self, real: Tensor, other: Tensor, posterior: Gaussian, samples: Sequence[Sample], seed: int, step: int
    ) -> dict[str, Tensor]:
        """Sums over the samples of a group, of means within each sample; `loss` is their weighted sum."""
        config, count = self.config, len(samples)
        error = other - real.float()
        terms = {"l1": error.abs().mean() * count, "mse": error.square().mean() * count}
        terms["kl"] = posterior.kl().mean() * count
        reconstruction = config.l1_weight * terms["l1"] + config.mse_weight * terms["mse"]
        if self.distance is not None and config.perceptual is not None:
            terms["perceptual"] = self._perceptual(real, other, samples, seed)
            reconstruction = reconstruction + config.perceptual.weight * terms["perceptual"]
        loss = reconstruction + config.kl_weight * terms["kl"]
        if config.adversarial is not None and step >= config.adversarial.start and torch.is_grad_enabled():
            adversarial = self._adversarial(real, other, reconstruction)
            loss = loss + adversarial.pop("loss")
            terms |= adversarial
        return {"loss": loss, **terms, "psnr": psnr(real, other.detach().clamp(-1.0, 1.0)).sum()}

    def _perceptual(self, real: Tensor, other: Tensor, samples: Sequence[Sample], seed: int) -> Tensor:
        assert self.distance is not None
        assert self.config.perceptual is not None
        total = real.new_zeros(())
        for one, two, sample in zip(real, other, samples, strict=True):
            order = torch.randperm(one.shape[1], generator=generator(seed, "perceptual", sample.position))
            frames = order[: self.config.perceptual.frames].to(one.device)
            pair = (rearrange(clip[:, frames], "c f h w -> f c h w") for clip in (one, two))
            total = total + self.distance(*pair).mean()
        return total

    def _adversarial(self, real: Tensor, other: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """Hinge losses of both sides; the generator's is balanced as in VQGAN (Esser et al. 2021, equation 7).

        Its weight makes the gradients of both losses at the last layer equally long, times the configured weight.
        """
        assert self.discriminator is not None
        assert self.config.adversarial is not None
        count = len(real)
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        generated = -functional_call(self.discriminator, frozen, (other,)).float().mean() * count
        balance = self._balance(reconstruction, generated)
        on_real = F.relu(1.0 - self.discriminator(real).float()).mean()
        on_other = F.relu(1.0 + self.discriminator(other.detach()).float()).mean()
        judged = 0.5 * (on_real + on_other) * count
        return {
            "loss": self.config.adversarial.weight * balance * generated + judged,
            "adversarial": generated,
            "discriminator": judged,
            "balance": balance * count,
        }

    def _balance(self, reconstruction: Tensor, generated: Tensor) -> Tensor:
        last = self.vae.last_layer
        lengths = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, generated)]
        return (lengths[0] / (lengths[1] + 1e-4)).clamp(0.0, 1e4).detach()

    @torch.no_grad()
    def _track_statistics(self, means: Sequence[Tensor]) -> None:
        """Move the stored mean and deviation of the latents a little towards those of this pack."""
        values = torch.cat([rearrange(mean, "b c t h w -> c (b t h w)") for mean in means], dim=1)
        mean, std = self.vae.latent_mean, self.vae.latent_std
        weight = self.config.statistics_momentum
        new_mean = mean.lerp(values.mean(dim=1), weight)
        new_square = (std.square() + mean.square()).lerp(values.square().mean(dim=1), weight)
        new_std = (new_square - new_mean.square()).clamp_min(1e-12).sqrt()
        sound = torch.isfinite(new_mean).all() & torch.isfinite(new_std).all()  # no sync with the device
        mean.copy_(torch.where(sound, new_mean, mean))
        std.copy_(torch.where(sound, new_std, std))

    def prepare(self, source: ClipSource, picks: Sequence[Pick]) -> None:
        """Start the linear path from data and measure the latents; foreign autoencoders bring theirs."""
        if isinstance(self.vae, CausalVAE):
            clips = PickedPixels(source, picks)
            self.vae.fit(clips, self.config.fit_blocks_per_clip, generator(0, "fit"))
            logger.info("linear path fitted on %d clips", len(clips))

    @torch.no_grad()
    def preview(self, packs: Sequence[Pack], folder: Path, seed: int) -> list[Path]:
        """A picture per clip: four of its frames above their reconstructions."""
        from PIL import Image

        folder.mkdir(parents=True, exist_ok=True)
        files: list[Path] = []
        for sample in [sample for pack in packs for sample in pack][:8]:
            pixels = sample.need_pixels()
            other = self.vae.to_pixels(self.vae.to_latents(pixels[None]))[0]
            frames = torch.linspace(0, pixels.shape[1] - 1, min(4, pixels.shape[1])).round().long()
            rows = rearrange([clip.float().cpu()[:, frames] for clip in (pixels, other)], "r c f h w -> (r h) (f w) c")
            files.append(folder / f"reconstruction_{len(files)}.png")
            Image.fromarray(((rows + 1.0) * 127.5).round().clamp(0, 255).byte().numpy()).save(files[-1])
        return files
