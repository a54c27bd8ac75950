"""Text to video: a diffusion transformer learns the velocity from noise to the latents of captioned clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from genworld.flow.bins import bin_times, sums_by_bin
from genworld.flow.guidance import GuidanceConfig, guided
from genworld.flow.rectified import interpolate, sample_time, token_times
from genworld.flow.rectified import velocity as velocity_of
from genworld.flow.samplers import SamplerConfig, sample
from genworld.models.condition import PackedText, PackedVideo, Piece, pack_video, unpack_video
from genworld.models.dit import VideoDiT
from genworld.models.text import TextEncoder, build_text_encoder
from genworld.models.vae import CausalVAE, CausalVAEConfig, VideoVAE
from genworld.ops.geometry import plucker, relative_to_first
from genworld.ops.patches import patchify
from genworld.ops.pictures import write_sheet
from genworld.ops.ragged import Segments
from genworld.ops.ragged import pack as pack_ragged
from genworld.ops.ragged import unpack as unpack_ragged
from genworld.ops.random import Key, generator, normal, uniform
from genworld.tasks.base import ClipTask, PickedPixels, TaskOutput, check_captions
from genworld.tasks.given import Given, Layout, draw_given, lay_given, mix, spread
from genworld.tasks.paste import paste
from genworld.tasks.text_to_video_config import TextToVideoConfig
from genworld.types import CameraPath, ClipShape, ClipSource, Pack, Pick, Sample, TokenGrid

FIT_BLOCKS = 128
"""Blocks of pixels that a new VAE's linear path is fitted to, from each clip it may look at."""


@dataclass(frozen=True)
class Request:
    """One video to sample. Its noise is a function of `seed` and `shape` alone.

    Attributes:
        prompt: what to show.
        shape: of the video; must fit the strides.
        seed: of the noise.
        negative: what to guide away from.
        given: what is known of it.
        camera: the path of the camera, one pose per frame; None leaves it to the model.
        stagger: by how many steps each latent frame lags behind the one before.
        given_level: noise level at which the network sees what is given.
        space_scale: see `Piece`.
    """

    prompt: str
    shape: ClipShape
    seed: int = 0
    negative: str = ""
    given: tuple[Given, ...] = ()
    camera: CameraPath | None = None
    stagger: int = 0
    given_level: float = 0.0
    space_scale: float = 1.0


class TextToVideo(ClipTask):
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
        check_captions(self.text, infos)

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
        """Squared error of the predicted velocity: mean over a token's channels, summed over the tokens to be made.

        In evaluation mode, `flow_losses` are logged too, by shape and bin of time.
        """
        latents = self.latents(pack)
        noises = [normal(x.shape, seed, "noise", item.position).to(x) for x, item in zip(latents, pack, strict=True)]
        inputs = [self._training_input(*each, seed) for each in zip(latents, noises, pack, strict=True)]
        video = pack_video([pieces for pieces, _ in inputs], self.grid)
        target, main = pack_ragged([patchify(v, self.config.patch) for v in map(velocity_of, latents, noises)])
        predicted = self.dit(video, self._training_text(pack, seed))
        if video.segments != main:  # what is given elsewhere has tokens behind those of the video itself
            ends = zip(video.segments.lengths, main.lengths, strict=True)
            predicted = predicted[torch.cat([torch.arange(length) < own for length, own in ends]).to(predicted.device)]
        error = (predicted.float() - target).square().mean(-1)
        loss = (error * torch.cat([made for _, made in inputs])).sum()
        if self.training:
            return TaskOutput(loss)
        shapes = [item.shape for item in pack]
        tokens = [self.grid.num_tokens(shape) for shape in shapes]
        return TaskOutput(loss, *sums_by_bin(self.flow_losses(pack, seed, latents), shapes, tokens))

    @torch.no_grad()
    def flow_losses(
        self, samples: Iterable[Sample], seed: int, latents: Sequence[Float[Tensor, "C T H W"]] | None = None
    ) -> Float[Tensor, "n bins"]:
        """Squared error of the velocity of each clip, at one time in each bin (see `genworld.flow.bins`).

        As in sampling from a caption: text is told, nothing is given, and the camera is not known.

        Args:
            samples: clips of any shapes.
            seed: of times and noise, together with the clips' positions.
            latents: of the clips, if they are at hand.
        """
        samples = list(samples)
        latents = self.latents(samples) if latents is None else latents
        text = self._text(samples, [False] * len(samples))
        times = torch.stack([bin_times(seed, item.position) for item in samples]).to(latents[0])
        losses = []
        for i in range(times.shape[1]):
            clips = list(zip(samples, latents, times[:, i], strict=True))
            noises = [normal(x.shape, seed, "flow noise", item.position, i).to(x) for item, x, _ in clips]
            pieces = [
                self._pieces(Request(item.text, item.shape), interpolate(x, noise, t), t, None, ())
                for (item, x, t), noise in zip(clips, noises, strict=True)
            ]
            target, segments = pack_ragged([patchify(v, self.config.patch) for v in map(velocity_of, latents, noises)])
            error = (self.dit(pack_video(pieces, self.grid), text).float() - target).square().mean(-1)
            losses.append(torch.stack([each.mean() for each in unpack_ragged(error, segments)]))
        return torch.stack(losses, dim=1)

    def _training_input(
        self, x: Float[Tensor, "C T H W"], noise: Float[Tensor, "C T H W"], item: Sample, seed: int
    ) -> tuple[list[Piece], Float[Tensor, " L"]]:
        """The pieces of a noised clip of which some part is given, and which of its own tokens are to be made (1)."""
        key = (seed, "given", item.position)
        draw = draw_given(self.config.given, item.shape, self.grid.time_stride, generator(*key), item.need_pixels)
        levels = self._time(item, seed).to(x)
        made = x.new_ones(self.grid.num_tokens(item.shape))
        if draw.forcing:
            levels = torch.stack([self._time(item, seed, t) for t in range(x.shape[1])])[:, None, None].to(x)
        layout, jitter = None, 0.0
        if draw.given:
            layout = lay_given(self.vae, self.grid, item.shape, draw.given)
            jitter = self.config.given.jitter * float(uniform((), *key, "jitter"))
            levels = torch.where(layout.start == 0, jitter, levels)
            x = torch.where(spread(layout.start, self.config.patch) == 0, layout.latents, x)
            made = (layout.start > 0).flatten().to(x)
        hidden = bool(uniform((), seed, "camera", item.position) < self.config.drop_camera)
        noised = mix(x, noise, levels, self.config.patch)
        request = Request(item.text, item.shape, camera=None if hidden else item.camera, given_level=jitter)
        return self._pieces(request, noised, levels, layout, key), made

    def _pieces(
        self, request: Request, noised: Tensor, levels: Tensor, layout: Layout | None, key: tuple[Key, ...]
    ) -> list[Piece]:
        """The pieces of a video: itself, and what is given elsewhere; the same in training and in sampling.

        Args:
            request: shape, camera, scale, and the level of what is given.
            noised: latents of the video itself.
            levels: their noise levels.
            layout: what is given.
            key: of the noise on what is given elsewhere.
        """
        shape, scale = request.shape, request.space_scale
        pieces = [Piece(noised, levels, shape.fps, rays=self._rays(request, 0, noised), space_scale=scale)]
        for i, (x, first, use) in enumerate(layout.extras if layout is not None else []):
            level = x.new_tensor(request.given_level)
            noisy = interpolate(x, normal(x.shape, *key, i).to(x), level) if request.given_level else x
            rays = self._rays(request, first, x)
            pieces.append(Piece(noisy, level, shape.fps, first / shape.fps, rays, scale, use))
        return pieces

    def _rays(self, request: Request, first: int, latents: Tensor) -> Float[Tensor, "T H_patches W_patches 12"] | None:
        """Where the camera looks through every patch, at the last of the frames that each latent frame stands for.

        And by how much that differs from the first frame: a pan is the same few hundredths for all patches, which could
        hardly be told from their places otherwise.
        """
        if request.camera is None or not self.config.dit.camera:
            return None
        poses = relative_to_first(request.camera.world_from_camera)
        chosen = poses[first : first + 1 + (latents.shape[1] - 1) * self.grid.time_stride : self.grid.time_stride]
        cells = (latents.shape[2] // self.config.patch, latents.shape[3] // self.config.patch)
        size = (request.shape.height, request.shape.width)
        start, *rays = plucker(torch.cat([poses[:1], chosen]), request.camera.intrinsics, size, cells)
        return torch.stack([torch.cat([ray, ray - start], dim=-1) for ray in rays]).to(latents)

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

    def _time(self, item: Sample, seed: int, *frame: int) -> Float[Tensor, ""]:
        tokens = self.grid.num_tokens(item.shape)
        return sample_time(self.config.flow, tokens, generator(seed, "time", item.position, *frame))

    def _training_text(self, items: Pack, seed: int) -> PackedText:
        dropped = [bool(uniform((), seed, "drop", item.position) < self.config.drop_text) for item in items]
        return self._text(items.samples, dropped)

    def _text(self, items: Sequence[Sample], dropped: Sequence[bool]) -> PackedText:
        """Features of the captions, those that are dropped being empty."""
        if items[0].text_features is None:
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
        videos = [self._begin(request, sampler.num_steps) for request in requests]
        video = pack_video([pieces for pieces, _, _ in videos], self.grid)
        doubled = pack_video([pieces for pieces, _, _ in videos] * 2, self.grid)
        times = _join_times([times for _, times, _ in videos], video)
        prompt = self.text.encode([request.prompt for request in requests])
        negative = self.text.encode([request.negative for request in requests])
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

        steps = replace(sampler, num_steps=len(times) - 1)
        tokens = sample(steps, guided(guidance, conditional, both), video.tokens, times, progress)
        shapes = [self.grid.latent_shape(request.shape) for request in requests]
        latents = unpack_video(tokens, video.segments, shapes, self.config.patch)
        whole = [
            x if layout is None else self._clean(x, layout) for x, (_, _, layout) in zip(latents, videos, strict=True)
        ]
        # A latent frame; and as far as the margin that was made although it is known, on average.
        reach = (self.grid.time_stride, self.grid.size_multiple // 2)
        return [paste(x, request.given, reach) for x, request in zip(self.decode(whole), requests, strict=True)]

    def _begin(self, request: Request, num_steps: int) -> tuple[list[Piece], Float[Tensor, "steps L"], Layout | None]:
        """The pieces of a video before the first step, the times of all their tokens, and what is given."""
        time, height, width = shape = self.grid.latent_shape(request.shape)
        patch, flow = self.config.patch, self.config.flow
        noise = normal((self.vae.latent_channels, *shape), request.seed, "sample").to(
            next(self.dit.parameters()).device
        )
        start, layout = noise.new_ones(time, height // patch, width // patch), None
        x = noise
        if request.given:
            layout = lay_given(self.vae, self.grid, request.shape, request.given)
            start, x = layout.start, layout.latents
        times = token_times(flow, num_steps, start, request.stagger)
        times = torch.where(start == 0, request.given_level, times)
        pieces = self._pieces(request, mix(x, noise, times[0], patch), times[0], layout, (request.seed, "given"))
        return pieces, times.flatten(1), layout

    def _clean(self, x: Float[Tensor, "C T H W"], layout: Layout | None) -> Float[Tensor, "C T H W"]:
        """Latents in which what was given is as it was given, without the noise of `given_level`."""
        if layout is None:
            return x
        return torch.where(spread(layout.start, self.config.patch) == 0, layout.latents, x)

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


def _join_times(times: Sequence[Float[Tensor, "steps L"]], video: PackedVideo) -> Float[Tensor, "steps L"]:
    """The times of all tokens: those of the videos themselves, and one level for what is given beside them."""
    steps = max(len(each) for each in times)
    parts = []
    for each, levels in zip(times, unpack_ragged(video.levels, video.segments), strict=True):
        own = torch.cat([each, each[-1:].expand(steps - len(each), -1)])
        parts.append(torch.cat([own, levels[each.shape[1] :].expand(steps, -1)], dim=1))
    return torch.cat(parts, dim=1)
