"""Whether an encoder of videos and texts knows them apart: zero-shot classification, and retrieval both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genworld.eval.clip_score import ImageTextEncoder
from genworld.models.alignment_video import spread_frames

TEMPLATES = ("{}", "A {}.", "A {} stays still.", "A {} moves.", "A {} drops and bounces.")
"""Sentences around the name of a class, in the manner of the world's captions."""

_TIE = 1e-6  # cosines of float32 features that are nearer are equal


class VideoTextEncoder(ImageTextEncoder, Protocol):
    """Images, videos and texts into one space."""

    def encode_videos(self, videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Features of videos in [-1, 1], of any length."""


@dataclass(frozen=True)
class MeanOfFrames:
    """Videos through an encoder of images: the mean of their frames' unit features (mean pooling of CLIP4Clip).

    It knows nothing of the order of frames.

    Attributes:
        encoder: of images and texts.
        max_frames: longer videos are looked at in so many frames, evenly spread.
    """

    encoder: ImageTextEncoder
    max_frames: int = 8

    def encode_images(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n D"]:
        """As the encoder does."""
        return self.encoder.encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n D"]:
        """As the encoder does."""
        return self.encoder.encode_texts(texts)

    def encode_videos(self, videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Unit features."""
        videos = videos[:, :, spread_frames(videos.shape[2], self.max_frames)]
        frames = self.encoder.encode_images(rearrange(videos, "b c f h w -> (b f) c h w"))
        means = rearrange(F.normalize(frames.float(), dim=-1), "(b f) d -> b f d", b=len(videos)).mean(dim=1)
        return F.normalize(means, dim=-1)


def class_features(
    encoder: ImageTextEncoder, classes: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Float[Tensor, "K D"]:
    """Unit features of classes by prompt ensembling (Radford et al. 2021, section 3.1.4).

    The unit features of a class in all templates are averaged, and the mean is made a unit vector again.

    Args:
        encoder: of texts.
        classes: names, such as "red ball".
        templates: sentences with `{}` where the name goes.

    Raises:
        ValueError: no classes, one twice, no templates, or one without `{}`.
    """
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"expected classes, each once, got {list(classes)}")
    if not templates or any("{}" not in template for template in templates):
        raise ValueError(f"expected templates with {{}} in the place of the class, got {list(templates)}")
    texts = [template.replace("{}", name) for name in classes for template in templates]
    each = F.normalize(encoder.encode_texts(texts).double(), dim=-1)
    return F.normalize(rearrange(each, "(k t) d -> k t d", k=len(classes)).mean(dim=1), dim=-1)


def classify(features: Float[Tensor, "n D"], classes: Float[Tensor, "K D"]) -> Int[Tensor, " n"]:
    """The class with the largest cosine; among equals the first. See `accuracy` for an honest score of those."""
    return (F.normalize(features.double(), dim=-1) @ classes.double().T).argmax(dim=1)


def accuracy(features: Float[Tensor, "n D"], classes: Float[Tensor, "K D"], labels: Int[Tensor, " n"]) -> float:
    """Part of the samples whose class is the most alike; where several are equally so, the chance to name it."""
    cosines = F.normalize(features.double(), dim=-1) @ classes.double().T
    right = F.one_hot(labels, len(classes)).bool()
    return float(recall(cosines, right, 1))


def recall(similarity: Float[Tensor, "n m"], matches: Bool[Tensor, "n m"], k: int) -> Float[Tensor, ""]:
    """R@k: for how many of n queries a match is among the k most similar of m items.

    Items of equal similarity come in random order, and what counts is the expectation: an encoder to which all things
    are alike gets what chance gets, and not 1.

    Raises:
        ValueError: a query has no match, similarities are not finite, or k is not between 1 and m.
    """
    if not matches.any(dim=1).all():
        raise ValueError(f"every query needs a match, but {int((~matches.any(dim=1)).sum())} have none")
    if not torch.isfinite(similarity).all():
        raise ValueError("similarities are not all finite: the features are broken")
    if not 1 <= k <= similarity.shape[1]:
        raise ValueError(
            f"R@{k} needs at least {k} items to choose from, and k at least 1; there are {similarity.shape[1]}"
        )
    similarity = similarity.double()
    best = similarity.masked_fill(~matches, -torch.inf).amax(dim=1, keepdim=True)
    before = (similarity > best + _TIE).sum(dim=1)
    level = (similarity - best).abs() <= _TIE
    wrong, right = (level & ~matches).sum(dim=1), (level & matches).sum(dim=1)
    places = (k - before).clamp(min=0)  # for those that are level
    return 1 - _chance_of_none(places, wrong, right).mean()


def _chance_of_none(places: Tensor, wrong: Tensor, right: Tensor) -> Float[Tensor, " n"]:
    """That none of the first p of `wrong` + `right` things in random order is right: C(wrong, p) / C(all, p)."""
    p, w, every = places.double(), wrong.double(), (wrong + right).double()
    logs = torch.lgamma(w + 1) - torch.lgamma((w - p).clamp(min=0) + 1)
    logs = logs + torch.lgamma((every - p).clamp(min=0) + 1) - torch.lgamma(every + 1)
    return torch.where(p > w, 0.0, logs.exp())


def retrieval(
    videos: Float[Tensor, "n D"], texts: Float[Tensor, "n D"], captions: Sequence[str], ks: Iterable[int] = (1, 5, 10)
) -> dict[str, float]:
    """R@k in both directions among n videos and their captions; a caption that several share is right for each.

    Args:
        videos: features of the videos.
        texts: features of their captions, in the same order.
        captions: which are the same.
        ks: those k are left out that are more than n.

    Returns:
        By `text_to_video/R@k` and `video_to_text/R@k`.

    Raises:
        ValueError: numbers differ, or there is nothing to search.
    """
    if not len(videos) == len(texts) == len(captions) > 0:
        raise ValueError(f"expected a caption for each video, got {len(videos)}, {len(texts)} and {len(captions)}")
    cosines = F.normalize(texts.double(), dim=-1) @ F.normalize(videos.double(), dim=-1).T
    numbers: Mapping[str, int] = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    keys = torch.tensor([numbers[caption] for caption in captions], device=cosines.device)
    same = keys[:, None] == keys
    directions = {"text_to_video": cosines, "video_to_text": cosines.T}
    return {
        f"{name}/R@{k}": float(recall(each, same, k))
        for name, each in directions.items()
        for k in ks
        if k <= len(captions)
    }
