"""Text to video: a diffusion transformer learns the velocity from noise to the latents of captioned clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from genworld.flow.guidance import GuidanceConfig, guided
from genworld.flow.rectified import FlowConfig, interpolate, sample_time, schedule
from genworld.flow.rectified import velocity as velocity_of
from genworld.flow.samplers import SamplerConfig, sample
from genworld.models.condition import PackedText, pack_video, unpack_video
from genworld.models.dit import DiTConfig, VideoDiT
from genworld.models.text import TextConfig, TextEncoder, build_text_encoder
from genworld.models.vae import CausalVAE, CausalVAEConfig, VAEConfig, VideoVAE
from genworld.ops.patches import patchify
from genworld.ops.pictures import write_sheet
from genworld.ops.ragged import Segments
from genworld.ops.ragged import pack as pack_ragged
from genworld.ops.random import generator, normal, uniform
from genworld.tasks.base import PickedPixels, Task, TaskOutput
from genworld.types import ClipShape, ClipSource, Pack, Pick, Sample, TokenGrid

FIT_BLOCKS = 128
"""Blocks of pixels that a new VAE's linear path is fitted to, from each clip it may look at."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What sampling does when it is not told otherwise: shape, sampler and guidance."""

    size: tuple[int, int] = (64, 64)
    frames: int = 17
    fps: float = 8.0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)

    @property
    def shape(self) -> ClipShape:
        """The shape as a record."""
        return ClipShape(self.frames, *self.size, self.fps)


@dataclass(frozen=True, kw_only=True)
class TextToVideoConfig:
    """A frozen VAE, a text encoder, a transformer, the flow it learns and how it is sampled.

    Attributes:
        patch: side of the square of latent pixels that makes one token.
        drop_text: how often training sees the empty prompt, which classifier-free guidance needs.
        sample: how the trained model is sampled by default.
    """

    kind: Literal["text_to_video"] = "text_to_video"
    vae: VAEConfig
    dit: DiTConfig
    text: TextConfig
    patch: int = 2
    flow: FlowConfig = field(default_factory=FlowConfig)
    drop_text: float = 0.1
    sample: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.drop_text < 1:
            raise ValueError(f"drop_text is a probability below 1, got {self.drop_text}")


@dataclass(frozen=True)
class Request:
    """One video to sample. Its noise is a function of `seed` and `shape` alone."""

    prompt: str
    shape: ClipShape
    seed: int = 0
    negative: str = ""


class TextToVideo(Task):
    """Trains `dit` (and `text`, where it is trainable) on the latents of a frozen `vae`.

    The model's input is built by `pack_video` in training, validation and sampling alike.
    """

    def __init__(self, config: TextToVideoConfig, vae: VideoVAE) -> None:
        super().__init__()
        self.config = config
        self.vae = vae.requires_grad_(False).eval()
        self.text: TextEncoder = build_text_encoder(config.text)
        self.dit = VideoDiT(config.dit, vae.latent_channels, config.patch, self.text.width)
        self.grid = TokenGrid(vae.time_stride, vae.space_stride, config.patch)

    def train(self, mode: bool = True) -> TextToVideo:
        """As `nn.Module.train`; the VAE stays frozen."""
        super().train(mode)
        self.vae.eval()
        return self

    def networks(self) -> dict[str, nn.Module]:
        """What training changes."""
        return {"dit": self.dit} | ({"text": self.text} if self.text.trainable else {})

    def prepare(self, source: ClipSource, picks: Sequence[Pick]) -> None:
        """Builds the tokenizer of a trainable text encoder from all captions; fits a VAE that starts here.

        A VAE given by its sizes (`kind: causal`) is new: its linear path is fitted to the data, and serves as it is.

        Raises:
            ValueError: a caption has more tokens than the text encoder takes; names the clip.
        """
        infos = [source.info(index) for index in range(len(source))]
        if isinstance(self.config.vae, CausalVAEConfig) and isinstance(self.vae, CausalVAE):
            self.vae.fit(PickedPixels(source, picks), FIT_BLOCKS, generator(0, "fit"))
        if self.text.trainable:
            self.text.fit(info.text for info in infos)
        for info in infos:
            try:
                self.text.tokenize([info.text])
            except ValueError as error:
                raise ValueError(f"the caption of clip {info.name}: {error}") from None

    def assets(self) -> dict[str, str]:
        """The tokenizer that was built from captions."""
        text = self.text.asset()
        return {} if text is None else {"tokenizer.json": text}

    def load_assets(self, assets: Mapping[str, str]) -> None:
        """Take the tokenizer back."""
        if self.text.trainable:
            self.text.load_asset(assets["tokenizer.json"])

    def compile_blocks(self) -> None:
        """Compile the transformer block by block."""
        self.dit.compile_blocks()

    # ---- training ----

    def units(self, pack: Pack) -> int:
        """Tokens of the pack; the loss is summed over them."""
        return sum(self.grid.num_tokens(sample.shape) for sample in pack)

    def forward(self, pack: Pack, seed: int, step: int) -> TaskOutput:
        """Squared error of the predicted velocity: mean over a token's channels, summed over tokens."""
        latents = self.latents(pack)
        noises = [normal(x.shape, seed, "noise", s.position).to(x) for x, s in zip(latents, pack, strict=True)]
        times = [self._time(sample, seed).to(x) for x, sample in zip(latents, pack, strict=True)]
        noised = [interpolate(*each) for each in zip(latents, noises, times, strict=True)]
        video = pack_video(noised, times, [s.shape.fps for s in pack], self.grid)
        target, _ = pack_ragged([patchify(v, self.config.patch) for v in map(velocity_of, latents, noises)])
        predicted = self.dit(video, self._training_text(pack, seed))
        error = (predicted.float() - target).square().mean(-1)
        return TaskOutput(error.sum())

    @torch.no_grad()
    def latents(self, samples: Iterable[Sample]) -> list[Float[Tensor, "C T H W"]]:
        """Normalised latents: the precomputed ones, or of the pixels, encoded together where shapes agree."""
        samples = list(samples)
        found: dict[int, Tensor] = {}
        pixels: dict[ClipShape, list[int]] = defaultdict(list)
        for i, item in enumerate(samples):
            if item.latents is not None:
                found[i] = item.latents.float()
            else:
                pixels[item.shape].append(i)
        for group in pixels.values():
            encoded = self.vae.to_latents(torch.stack([samples[i].need_pixels() for i in group])).float()
            found |= dict(zip(group, encoded, strict=True))
        return [found[i] for i in range(len(samples))]

    def _time(self, item: Sample, seed: int) -> Float[Tensor, ""]:
        tokens = self.grid.num_tokens(item.shape)
        return sample_time(self.config.flow, tokens, generator(seed, "time", item.position))

    def _training_text(self, items: Pack, seed: int) -> PackedText:
        dropped = [bool(uniform((), seed, "drop", item.position) < self.config.drop_text) for item in items]
        if items.samples[0].text_features is None:
            return self.text.encode(["" if drop else item.text for drop, item in zip(dropped, items, strict=True)])
        empty = self.text.encode([""]).features
        features = [
            empty if drop or item.text_features is None else item.text_features.to(empty)
            for drop, item in zip(dropped, items, strict=True)
        ]
        return PackedText(*pack_ragged(features))

    # ---- sampling ----

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        sampler: SamplerConfig | None = None,
        guidance: GuidanceConfig | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Float[Tensor, "3 F H W"]]:
        """Sample videos of any shapes together; each is what it would be alone, up to rounding.

        Args:
            requests: what to sample.
            sampler: instead of the config's.
            guidance: instead of the config's.
            progress: called with the number of steps done.

        Returns:
            Pixels in [-1, 1], one video per request.

        Raises:
            ValueError: a shape does not fit the strides, or a prompt is too long.
        """
        sampler, guidance = sampler or self.config.sample.sampler, guidance or self.config.sample.guidance
        device = next(self.dit.parameters()).device
        shapes = [self.grid.latent_shape(request.shape) for request in requests]
        channels = self.vae.latent_channels
        noise = [normal((channels, *s), r.seed, "sample").to(device) for s, r in zip(shapes, requests, strict=True)]
        ones = [torch.ones((), device=device)] * len(requests)
        video = pack_video(noise, ones, [request.shape.fps for request in requests], self.grid)
        times = torch.stack([schedule(self.config.flow, sampler.num_steps, n) for n in video.segments.lengths], dim=1)
        times = times[:, video.segments.ids("cpu")].to(device)
        prompt = self.text.encode([request.prompt for request in requests])
        negative = self.text.encode([request.negative for request in requests])
        doubled = pack_video(noise * 2, ones * 2, [request.shape.fps for request in requests] * 2, self.grid)
        both_texts = PackedText(
            torch.cat([prompt.features, negative.features]),
            Segments(prompt.segments.lengths + negative.segments.lengths),
        )

        def conditional(x: Tensor, t: Tensor) -> Tensor:
            return self.dit(replace(video, tokens=x, levels=t), prompt).float()

        def both(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            pair = replace(doubled, tokens=repeat(x, "l p -> (two l) p", two=2), levels=t.repeat(2))
            with_prompt, without = self.dit(pair, both_texts).float().chunk(2)
            return with_prompt, without

        tokens = sample(sampler, guided(guidance, conditional, both), video.tokens, times, progress)
        return self.decode(unpack_video(tokens, shapes, self.config.patch))

    @torch.no_grad()
    def decode(self, latents: Sequence[Float[Tensor, "C T H W"]]) -> list[Float[Tensor, "3 F H W"]]:
        """Pixels of normalised latents, decoded together where shapes agree."""
        groups: dict[torch.Size, list[int]] = defaultdict(list)
        for i, x in enumerate(latents):
            groups[x.shape].append(i)
        found: dict[int, Tensor] = {}
        for group in groups.values():
            pixels = self.vae.to_pixels(torch.stack([latents[i] for i in group])).float()
            found |= dict(zip(group, pixels, strict=True))
        return [found[i] for i in range(len(latents))]

    def preview(self, packs: Sequence[Pack], folder: Path, seed: int) -> list[Path]:
        """Real clips above what the model makes of their captions."""
        items = [item for pack in packs for item in pack][:6]
        made = self.generate([Request(item.text, item.shape, seed) for item in items])
        real = [pixels for pixels in (item.pixels for item in items) if pixels is not None]
        if len(real) < len(items):
            real = self.decode(self.latents(items))
        rows = [clip for pair in zip(real, made, strict=True) for clip in pair]
        labels = [label for item in items for label in (f"real: {item.text}", "generated")]
        return [write_sheet(folder / "samples.png", rows, labels, columns=2)]
