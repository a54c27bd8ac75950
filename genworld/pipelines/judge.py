"""Whether a video of the world shows what its prompt asked for, for one object under a standing camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from genworld.eval.palette import read_motion, read_prompt, track_object
from genworld.eval.shape_recogniser import ShapeRecogniser, recognise_shapes
from genworld.ops.quality import psnr
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.text_to_video import Request
from genworld.types import ClipSource, Pick, Sample


@dataclass(frozen=True)
class Verdict:
    """Whether one video shows the colour, shape and motion asked for; None for what was not asked or not judged."""

    prompt: str
    colour: bool
    shape: bool | None
    motion: bool | None

    @property
    def all(self) -> bool:
        """Everything that was judged is right."""
        return False not in (self.colour, self.shape, self.motion)


@torch.no_grad()
def judge(
    prompts: Sequence[str], videos: Sequence[Float[Tensor, "3 F H W"]], shapes: ShapeRecogniser | None = None
) -> list[Verdict]:
    """Judge each video by its prompt: colour by palette, motion by the track, shape by a recogniser (if given).

    Raises:
        ValueError: a prompt is not about one object of the world.
    """
    seen_shapes = recognise_shapes(shapes, videos) if shapes is not None else [None] * len(videos)
    verdicts = []
    for prompt, video, shape in zip(prompts, videos, seen_shapes, strict=True):
        wish, track = read_prompt(prompt), track_object(video)
        verdicts.append(
            Verdict(
                prompt,
                colour=track.colour == wish.colour,
                shape=None if shapes is None else shape == wish.shape,
                motion=None if wish.motion is None else read_motion(track) == wish.motion,
            )
        )
    return verdicts


def summarise(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The part of the videos that is right, by aspect, among those judged in it."""
    parts = {}
    for name in ("colour", "shape", "motion", "all"):
        judged = [value for value in (getattr(verdict, name) for verdict in verdicts) if value is not None]
        if judged:
            parts[name] = sum(judged) / len(judged)
    return parts


@dataclass(frozen=True)
class Evaluation:
    """How a run does on held-out clips: their reconstructions, and samples from their captions."""

    real: list[Sample]
    generated: list[Float[Tensor, "3 F H W"]]
    vae_psnr: float
    scores: dict[str, float]
    ceiling: dict[str, float]


@torch.no_grad()
def evaluate(
    generator: VideoGenerator,
    held_out: ClipSource,
    num: int,
    shapes: ShapeRecogniser | None = None,
    seed: int = 0,
    batch: int = 8,
) -> Evaluation:
    """Judge a run of the world by its held-out clips.

    Args:
        generator: the run.
        held_out: clips it was not trained on.
        num: how many of them.
        shapes: judges shapes, if given.
        seed: of the first sample; the next ones have the next seeds.
        batch: videos sampled at a time.

    Returns:
        The clips, a sample from each caption, the VAE's mean PSNR in dB, and the scores of the samples and (as a
        ceiling) of the VAE's reconstructions.
    """
    shape = generator.shape(None, None, None)
    settings = generator.settings(None, None)
    real = [held_out.read(Pick(i, i, shape, 0.0)) for i in range(min(num, len(held_out)))]
    generated: list[Tensor] = []
    again: list[Tensor] = []
    vae = generator.task.vae
    for first in tqdm(range(0, len(real), batch), desc="evaluating", unit="batch"):
        part = real[first : first + batch]
        pixels = torch.stack([item.need_pixels() for item in part]).to(vae.latent_mean.device)
        again += list(vae.to_pixels(vae.to_latents(pixels)).cpu())
        requests = [Request(item.text, shape, seed + first + i) for i, item in enumerate(part)]
        generated += [clip.pixels for clip in generator.sample(requests, settings)]
    prompts, pixels = [item.text for item in real], torch.stack([item.need_pixels() for item in real])
    return Evaluation(
        real=real,
        generated=generated,
        vae_psnr=psnr(pixels, torch.stack(again)).mean().item(),
        scores=summarise(judge(prompts, generated, shapes)),
        ceiling=summarise(judge(prompts, again, shapes)),
    )
