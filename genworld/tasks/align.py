"""Alignment: an image-or-video tower and a text tower learn one space from captioned clips, by contrast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genworld.data.reading import readable
from genworld.models.alignment import DualEncoder, DualEncoderConfig
from genworld.models.alignment_video import spread_frames
from genworld.ops.collectives import gather_rows
from genworld.ops.pictures import write_sheet
from genworld.ops.precision import without_autocast
from genworld.ops.random import seed_of, uniform
from genworld.tasks.base import ClipTask, TaskOutput, check_captions, group_by_shape
from genworld.types import ClipSource, Pack, Pick, Sample, TokenGrid


@dataclass(frozen=True, kw_only=True)
class CLIPLossConfig:
    """Symmetric cross-entropy over all cosines of a batch (Radford et al. 2021, figure 3).

    Attributes:
        temperature: that the learned one starts from.
        max_scale: what 1 / temperature is kept below.
    """

    kind: Literal["clip"] = "clip"
    temperature: float = 0.07
    max_scale: float = 100.0


@dataclass(frozen=True, kw_only=True)
class SigLIPLossConfig:
    """Every pair of a batch judged by itself (Zhai et al. 2023, algorithm 1).

    Attributes:
        scale: that the learned one starts from.
        bias: that the learned one starts from; far below 0, because most pairs do not match.
        max_scale: what the scale is kept below.
    """

    kind: Literal["siglip"] = "siglip"
    scale: float = 10.0
    bias: float = -10.0
    max_scale: float = 100.0


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Two towers and the loss that aligns them.

    Attributes:
        encoder: the towers.
        loss: what aligns them.
        frames: training looks at so many frames of a clip, evenly spread; fewer than the encoder looks at in use cost
            little, since what it makes of time does not depend on their number.
        single: how often training sees a single frame of a clip, from anywhere in it. Motions tell a small batch of
            clips apart before shapes have to; in one frame there are none.
    """

    kind: Literal["align"] = "align"
    encoder: DualEncoderConfig = field(default_factory=DualEncoderConfig)
    loss: CLIPLossConfig | SigLIPLossConfig = field(default_factory=CLIPLossConfig)
    frames: int = 3
    single: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.single <= 1:
            raise ValueError(f"single is a probability, got {self.single}")
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")


@dataclass(frozen=True)
class Rows:
    """The samples of this process, and those of all processes that they are compared with; all of unit length.

    Attributes:
        videos: of this process.
        texts: their captions.
        all_videos: of all processes.
        all_texts: their captions.
        same: whether sample i here and sample j of all have the same caption; true of each with itself.
    """

    videos: Float[Tensor, "n D"]
    texts: Float[Tensor, "n D"]
    all_videos: Float[Tensor, "N D"]
    all_texts: Float[Tensor, "N D"]
    same: Bool[Tensor, "n N"]


class CLIPLoss(nn.Module):
    """See `CLIPLossConfig`.

    Two clips with the same caption are no counterexamples for each other, and the captions of a small world repeat in
    nearly every batch. So the target is the uniform distribution over all samples with a row's caption, as in UniCL
    (Yang et al. 2022), and the loss the divergence from it: 0 is reached however often captions repeat, and where none
    does it is CLIP's cross-entropy.
    """

    def __init__(self, config: CLIPLossConfig) -> None:
        super().__init__()
        self.limit = math.log(config.max_scale)
        self.log_scale = nn.Parameter(torch.full((1,), math.log(1 / config.temperature)))

    def scale(self) -> Float[Tensor, " 1"]:
        """What cosines are multiplied by."""
        return keep_below(self.log_scale, self.limit).exp()

    def forward(self, rows: Rows) -> Float[Tensor, ""]:
        """Sum over this process's samples, of the mean of both directions."""
        matches = rows.same.sum(dim=1)
        target = rows.same / matches[:, None]
        total = rows.videos.new_zeros(())
        for one, other in ((rows.videos, rows.all_texts), (rows.texts, rows.all_videos)):
            log_likely = (self.scale() * one @ other.T).log_softmax(dim=1)
            total = total - (target * log_likely).sum() - matches.log().sum()
        return total / 2


class SigLIPLoss(nn.Module):
    """See `SigLIPLossConfig`. Pairs with the same caption match, wherever they come from."""

    def __init__(self, config: SigLIPLossConfig) -> None:
        super().__init__()
        self.limit = math.log(config.max_scale)
        self.log_scale = nn.Parameter(torch.full((1,), math.log(config.scale)))
        self.bias = nn.Parameter(torch.full((1,), config.bias))

    def scale(self) -> Float[Tensor, " 1"]:
        """What cosines are multiplied by."""
        return keep_below(self.log_scale, self.limit).exp()

    def forward(self, rows: Rows) -> Float[Tensor, ""]:
        """Sum over the pairs of this process's videos with all texts."""
        logits = self.scale() * rows.videos @ rows.all_texts.T + self.bias
        return -F.logsigmoid(torch.where(rows.same, logits, -logits)).sum()


class Align(ClipTask):
    """Trains a `DualEncoder` on the pixels and captions of clips and images.

    In training every sample is compared with those of all processes, so that the batch is the whole step: there is no
    accumulation. In validation the packs are judged each by itself, whoever holds them.
    """

    whole_steps = True

    def __init__(self, config: AlignConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DualEncoder(config.encoder)
        self.loss = CLIPLoss(config.loss) if isinstance(config.loss, CLIPLossConfig) else SigLIPLoss(config.loss)
        self.grid = TokenGrid(1, config.encoder.video.stride)

    def units(self, pack: Pack) -> int:
        """Samples."""
        return len(pack)

    def networks(self) -> dict[str, nn.Module]:
        """The towers, and the temperature."""
        return {"encoder": self.encoder, "loss": self.loss}

    def forward(self, pack: Pack, seed: int, step: int) -> TaskOutput:
        """Sums over samples; `accuracy` is how often the best of the batch has the right caption, both ways."""
        seen = Pack(tuple(self._glimpse(sample, seed) for sample in pack)) if self.training else pack
        videos, texts = self.features(seen)
        with without_autocast(videos):
            rows = self._rows(videos, texts, [sample.text for sample in pack])
            loss = self.loss(rows)
            right = (
                _is_right(rows.videos, rows.all_texts, rows.same),
                _is_right(rows.texts, rows.all_videos, rows.same),
            )
        logs = {"accuracy": (right[0] + right[1]) / 2, "scale": self.loss.scale().detach().sum() * len(pack)}
        return TaskOutput(loss, logs)

    def features(self, pack: Pack) -> tuple[Float[Tensor, "n D"], Float[Tensor, "n D"]]:
        """Unit features of the clips and of the captions of a pack; clips of equal shape are encoded together."""
        found: dict[int, Tensor] = {}
        for samples in group_by_shape(pack):
            features = self.encoder.embed_videos(torch.stack([sample.need_pixels() for sample in samples]))
            found |= {id(sample): row for sample, row in zip(samples, features, strict=True)}
        return torch.stack([found[id(sample)] for sample in pack]), self.encoder.embed_texts(
            [sample.text for sample in pack]
        )

    def _glimpse(self, sample: Sample, seed: int) -> Sample:
        """What training sees of a clip: a few frames, or only one."""
        pixels = sample.need_pixels()
        chosen = spread_frames(pixels.shape[1], self.config.frames)
        draw, place = uniform((2,), seed, "glimpse", sample.position).tolist()
        if draw < self.config.single:
            chosen = [int(place * pixels.shape[1])]
        return replace(sample, pixels=pixels[:, chosen])

    def _rows(self, videos: Tensor, texts: Tensor, captions: Sequence[str]) -> Rows:
        keys = torch.tensor([_key(caption) for caption in captions], device=videos.device)
        everyone, all_keys = torch.cat([videos, texts], dim=1), keys
        if self.training:
            everyone, all_keys = gather_rows(everyone), gather_rows(keys)
        all_videos, all_texts = everyone.chunk(2, dim=1)
        return Rows(videos, texts, all_videos, all_texts, keys[:, None] == all_keys)

    def prepare(self, source: ClipSource, picks: Sequence[Pick]) -> None:
        """Learns tokens and words from all captions, and from some clips what all clips have in common.

        Raises:
            ValueError: a clip has no caption, or one that is too long; names the clip.
        """
        infos = [source.info(index) for index in range(len(source))]
        silent = [info.name or f"clip {index}" for index, info in enumerate(infos) if not info.text.strip()]
        if silent:
            raise ValueError(
                f"{len(silent)} of {len(infos)} clips have no caption, the first is {silent[0]}: what is to be aligned "
                "needs one; give it, or leave the clip out"
            )
        samples = list(readable(source, picks))
        videos = [torch.stack([item.need_pixels() for item in group]) for group in group_by_shape(samples)]
        self.encoder.fit((info.text for info in infos), videos)
        check_captions(self.encoder.text, infos)

    def assets(self) -> dict[str, str]:
        """Tokens and words that were learned from captions."""
        return self.encoder.assets()

    def load_assets(self, assets: Mapping[str, str]) -> None:
        """Take them back."""
        self.encoder.load_assets(assets)

    def preview(self, packs: Sequence[Pack], folder: Path, seed: int) -> list[Path]:
        """Held-out clips, each with its caption and the caption that is found for it among all."""
        samples = [sample for pack in packs for sample in pack]
        features = [self.features(pack) for pack in packs]
        videos, texts = (torch.cat(parts) for parts in zip(*features, strict=True))
        best = (videos @ texts.T).argmax(dim=1).tolist()
        pairs = list(zip(samples, best, strict=True))[:16]
        labels = [f"{sample.text} | found: {samples[found].text}" for sample, found in pairs]
        return [write_sheet(folder / "found.png", [sample.need_pixels() for sample, _ in pairs], labels, columns=2)]


def keep_below(x: Tensor, limit: float) -> Tensor:
    """`x`, but at most `limit`. Where it is above, a gradient passes only if descent along it leads back below.

    So a parameter that a step carried too far is neither driven further nor stuck, and no step needs a hook.
    """
    return _KeepBelow.apply(x, limit)


class _KeepBelow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(x > limit)
        return x.clamp(max=limit)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return torch.where(above, grad.clamp(min=0), grad), None


def _key(caption: str) -> int:
    """A number for a caption: the same for those that differ in case or spaces only."""
    return seed_of(" ".join(caption.lower().split()))


def _is_right(queries: Tensor, targets: Tensor, same: Bool[Tensor, "n N"]) -> Float[Tensor, ""]:
    best: Int[Tensor, " n"] = (queries @ targets.T).argmax(dim=1)
    return same.gather(1, best[:, None]).sum().detach().float()
