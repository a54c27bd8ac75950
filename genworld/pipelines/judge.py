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
    """What was asked for and seen in one video; None where nothing could be read."""

    prompt: str
    colour: bool
    shape: bool | None
    motion: bool

    @property
    def all(self) -> bool:
        """Everything that was judged is right."""
        return self.colour and self.motion and self.shape is not False


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
                motion=read_motion(track) == wish.motion,
            )
        )
    return verdicts


def summarise(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The part of the videos that is right, by aspect."""
    names = ("colour", "shape", "motion", "all")
    values = {name: [getattr(v, name) for v in verdicts] for name in names}
    return {name: sum(map(bool, found)) / len(found) for name, found in values.items() if None not in found}
