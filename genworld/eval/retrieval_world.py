"""How well an encoder of videos and texts knows the world: 40 classes by name, and captions among a hundred."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.synthetic import from_bytes, to_bytes
from genworld.eval.retrieval import TEMPLATES, VideoTextEncoder, accuracy, class_features, classify, retrieval
from genworld.types import ClipShape
from genworld.world import WorldConfig, sample_clip
from genworld.world.clip import WorldClip
from genworld.world.layout import CaptionStyle
from genworld.world.objects import COLOURS, SHAPES

FIRST_SEED = 1_000_000_000
"""Of the scenes that are judged by; training counts from 0 and never gets there."""

_NOUNS = {"sphere": "ball", "torus": "ring"}
CLASSES = tuple(f"{colour} {_NOUNS.get(shape, shape)}" for colour in COLOURS for shape in SHAPES)
"""What single objects of the world are called: every colour with every shape."""

STYLES: tuple[CaptionStyle, ...] = ("sentence", "detailed")
_BATCH = 32
_TRIES = 50  # scenes looked at for each clip that is wanted, before captions are too few


@dataclass(frozen=True)
class WorldProtocol:
    """What is asked.

    Attributes:
        num_classified: clips named by zero-shot classification.
        num_searched: clips, all with different captions, among which each caption and each clip is searched.
        shape: of the clips.
        world: what they show; the number of objects is one.
        first_seed: of the scenes.
    """

    num_classified: int = 400
    num_searched: int = 100
    shape: ClipShape = ClipShape(17, 64, 64, 8.0)  # noqa: RUF009 (immutable)
    world: WorldConfig = WorldConfig(max_objects=1)  # noqa: RUF009 (immutable)
    first_seed: int = FIRST_SEED


def evaluate_on_world(
    encoder: VideoTextEncoder, protocol: WorldProtocol | None = None, templates: Sequence[str] = TEMPLATES
) -> dict[str, float]:
    """Zero-shot accuracy over `CLASSES` of clips and of their first frames, and R@k of captions of both styles.

    `zero_shot/colour` and `zero_shot/shape` say how often that half of the name is right.

    Args:
        encoder: in evaluation mode.
        protocol: how many clips, and of what.
        templates: see `class_features`.

    Raises:
        ValueError: the world has too few different captions.
    """
    protocol = protocol or WorldProtocol()
    clips = [clip for clip, _ in zip(_clips(protocol), range(protocol.num_classified), strict=False)]
    labels = torch.tensor([CLASSES.index(clip.scene.objects[0].name) for clip in clips])
    classes = class_features(encoder, CLASSES, templates).cpu()
    features = encode(encoder, clips)
    named = classify(features, classes)
    width = len(SHAPES)
    result = {
        "zero_shot/accuracy": accuracy(features, classes, labels),
        "zero_shot/colour": float((named // width == labels // width).double().mean()),
        "zero_shot/shape": float((named % width == labels % width).double().mean()),
        "zero_shot/first_frame": accuracy(encode(encoder, clips, frames=1), classes, labels),
    }
    for style in STYLES:
        searched = _distinct(protocol, style)
        captions = [clip.caption for clip in searched]
        found = retrieval(encode(encoder, searched), encoder.encode_texts(captions).cpu(), captions)
        result |= {f"{style}/{name}": value for name, value in found.items()}
    return result


def encode(encoder: VideoTextEncoder, clips: Sequence[WorldClip], frames: int | None = None) -> Float[Tensor, "n D"]:
    """Features of clips, or of their first `frames`, as a file of 8 bits would show them."""
    parts = []
    for first in range(0, len(clips), _BATCH):
        pixels = [from_bytes(to_bytes(clip.clip.pixels))[:, :frames] for clip in clips[first : first + _BATCH]]
        parts.append(encoder.encode_videos(torch.stack(pixels)).cpu())
    return torch.cat(parts)


def _clips(protocol: WorldProtocol, style: CaptionStyle | None = None) -> Iterator[WorldClip]:
    world = replace(protocol.world, min_objects=1, max_objects=1)
    world = world if style is None else replace(world, caption_styles=(style,))
    for seed in count(protocol.first_seed):
        yield sample_clip(seed, world, protocol.shape)


def _distinct(protocol: WorldProtocol, style: CaptionStyle) -> list[WorldClip]:
    """The first clips with captions that none before them has."""
    found: dict[str, WorldClip] = {}
    for tried, clip in enumerate(_clips(protocol, style)):
        if len(found) == protocol.num_searched:
            break
        if tried == _TRIES * protocol.num_searched:
            raise ValueError(
                f"{tried} scenes of this world have only {len(found)} different captions of style {style!r}, but "
                f"{protocol.num_searched} are to be told apart: search fewer"
            )
        found.setdefault(clip.caption, clip)
    return list(found.values())
