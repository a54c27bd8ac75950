"""Whether a video of the world shows what its prompt asked for, for one object under a standing camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.eval.palette import read_motion, read_prompt, track_object
from genworld.eval.shape_recogniser import ShapeRecogniser, recognise_shapes


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
