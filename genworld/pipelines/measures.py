"""What a set of videos is measured by: metrics by name, fed batch by batch, with what bounds each from both sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from genworld.eval.bootstrap import jackknife
from genworld.eval.clip_score import CLIPScore, ImageTextEncoder
from genworld.eval.flow_loss import FlowLoss
from genworld.eval.frechet import FeatureDistance
from genworld.eval.fvd import FVD
from genworld.eval.reconstruction import LatentStatistics, Reconstruction
from genworld.flow.bins import NUM_BINS, bin_names, shape_name
from genworld.ops.random import generator
from genworld.pipelines.entries import (
    MADE,
    REAL,
    Batch,
    Entry,
    Measure,
    column_mean,
    known,
    mean_entry,
    table_or_nothing,
)

BLIND = "baseline: blind to the clip"


class ReconstructionMeasure(Measure):
    """Likeness of clips and what the autoencoder gives back, and statistics of the latents between."""

    needs = frozenset({"real", "again", "posterior"})
    CONVENTIONS: Mapping[str, tuple[str, str, str]] = {
        "psnr": ("dB", "higher", "PSNR of the squared error over all of a clip, at most 100; mean over clips"),
        "psnr_frames": ("dB", "higher", "PSNR of each frame; mean over frames, then over clips"),
        "psnr_first": ("dB", "higher", "PSNR of the first frame; mean over clips"),
        "psnr_later": ("dB", "higher", "PSNR of all frames but the first together; mean over clips"),
        "ssim": (
            "",
            "higher",
            "SSIM of each frame in [0, 1], Gaussian window of 11, sigma 1.5; mean over frames, clips",
        ),
        "lpips": ("", "lower", "LPIPS of each frame in [-1, 1]; mean over frames, then over clips"),
    }

    def __init__(self, num_channels: int, perceptual: nn.Module | None = None, backbone: str = "") -> None:
        self.likeness = Reconstruction(perceptual)
        self.latents = LatentStatistics(num_channels)
        self.backbone = backbone

    def metrics(self) -> Iterable[nn.Module]:
        """Both."""
        return [self.likeness, self.latents]

    def update(self, batch: Batch) -> None:
        """See `Measure`."""
        if batch.real is not None and batch.again is not None and batch.posterior is not None:
            self.likeness.update(batch.real, batch.again, batch.positions)
            self.latents.update(batch.posterior)

    def tables(self) -> dict[str, dict[str, Tensor]]:
        """See `Measure`."""
        return {"reconstruction": self.likeness.per_video()}

    def entries(self) -> dict[str, Entry]:
        """PSNR, SSIM and so on, and the latents' correlation and divergence."""
        table, result = self.likeness.per_video(), {}
        shared = "; mean (not sampled) latents, float32, pixels in [-1, 1] clipped and not rounded"
        for name, (unit, better, words) in self.CONVENTIONS.items():
            if name in table:
                label = f"lpips[{self.backbone}]" if name == "lpips" else name
                words = words + shared
                result[label] = mean_entry(
                    table, name, convention=words, name="reconstruction", better=better, unit=unit
                )
        latents = self.latents.compute()
        num = len(table["position"])
        details = {name: latents[name].tolist() for name in ("latent_mean", "latent_std")}
        words = "largest absolute correlation of two channels of the raw latents, over all places of all clips"
        result["latent_correlation"] = Entry(float(latents["latent_correlation"]), num, words, "lower", details=details)
        words = "divergence of the raw latents from the standard normal distribution, mean over all values"
        result["latent_kl"] = Entry(float(latents["latent_kl"]), num, words, "", "nats")
        return result


class FlowMeasure(Measure):
    """The held-out flow loss; fed by `add`, not with videos."""

    def __init__(self, metric: FlowLoss, precision: str) -> None:
        self.metric = metric
        self.precision = precision

    def metrics(self) -> Iterable[nn.Module]:
        """The one."""
        return [self.metric]

    def update(self, batch: Batch) -> None:
        """Videos do not matter to it."""

    def tables(self) -> dict[str, dict[str, Tensor]]:
        """The losses of each clip."""
        table = self._table()
        return {"flow": {name: column for name, column in table.items() if not name.endswith("/blind")}}

    def _table(self) -> dict[str, Tensor]:
        """With the mean over bins, by shape."""
        table = self.metric.per_video()
        for shape in self.metric.shapes:
            if bin_names(shape)[0] in table:
                for end in ("", "/blind"):
                    columns = [table[f"{name}{end}"] for name in bin_names(shape)]
                    table[f"{shape_name(shape)}{end}"] = torch.stack(columns).mean(dim=0)
        return table

    def entries(self) -> dict[str, Entry]:
        """By shape, and by shape and bin."""
        table = self._table()
        words = (
            "mean squared error of the velocity, averaged weights, caption told, nothing given, no camera; one time in "
            f"each of {NUM_BINS} equal bins (t = 1 is noise) and noise fixed by seed and clip; {self.precision}"
        )
        names = [name for shape in self.metric.shapes for name in (shape_name(shape), *bin_names(shape))]
        return {
            name: mean_entry(
                table,
                name,
                convention=words if "/t" in name else f"{words}; mean over bins",
                name="flow",
                better="lower",
                beside=known({BLIND: column_mean(table, f"{name}/blind")}),
            )
            for name in names
            if name in table
        }


class ClipMeasure(Measure):
    """CLIP scores of videos and prompts, and the consistency of frames, beside those of real clips."""

    def __init__(
        self, encoder: ImageTextEncoder, name: str, warnings: Sequence[str] = (), with_prompts: bool = True
    ) -> None:
        self.name, self.warnings, self.with_prompts = name, warnings, with_prompts
        self.sides = {side: CLIPScore(encoder, name) for side in (MADE, REAL)}

    needs = frozenset({"made"})

    def metrics(self) -> Iterable[nn.Module]:
        """Of made and of real videos."""
        return self.sides.values()

    def update(self, batch: Batch) -> None:
        """See `Measure`."""
        texts = batch.texts if self.with_prompts and all(batch.texts) else None
        if batch.made is not None:
            self.sides[MADE].update(batch.made, texts, batch.positions, batch.others if texts else None)
        if batch.real is not None:
            self.sides[REAL].update(batch.real, texts, batch.positions)

    def tables(self) -> dict[str, dict[str, Tensor]]:
        """See `Measure`."""
        return {f"clip[{self.name}]": self._table(MADE)}

    def entries(self) -> dict[str, Entry]:
        """Those of the three that there is something to say of."""
        made, real, name = self._table(MADE), self._table(REAL), f"clip[{self.name}]"
        result: dict[str, Entry] = {}
        shared = {"name": name, "warnings": self.warnings}
        if "cosine" in made:
            varies = bool((made["num_frames"] != made["num_frames"][0]).any())
            words = (
                "100 x cosine of frame and prompt, mean over all frames of all videos, the mean no less than 0, no "
                "prefix and no factor of 2.5: as in torchmetrics"
            )
            entry = mean_entry(
                made,
                "cosine",
                convention=words,
                scale=100.0,
                weights="num_frames" if varies else "",
                beside=known(
                    {
                        "floor: another video's prompt": column_mean(made, "other", 100),
                        "ceiling: real clips": column_mean(real, "cosine", 100),
                    }
                ),
                **shared,  # type: ignore[arg-type]
            )
            result[f"clip_score[{self.name}]"] = replace(entry, value=max(entry.value, 0.0))
            words = "cosine of frame and prompt, mean over the frames of a video, then over videos"
            bounds = known(
                {
                    "floor: another video's prompt": column_mean(made, "other"),
                    "ceiling: real clips": column_mean(real, "cosine"),
                }
            )
            result[f"clipsim[{self.name}]"] = mean_entry(made, "cosine", convention=words, beside=bounds, **shared)  # type: ignore[arg-type]
        if "consistency" in made:
            words = "cosine of each frame and the next, mean over a video, then over videos; 1 for a still picture"
            bounds = known({"real clips": column_mean(real, "consistency")})
            entry = mean_entry(made, "consistency", convention=words, better="", beside=bounds, **shared)  # type: ignore[arg-type]
            result[f"frame_consistency[{self.name}]"] = entry
        return result

    def _table(self, side: str) -> dict[str, Tensor]:
        return table_or_nothing(self.sides[side])


class DistanceMeasure(Measure):
    """A distance between the features of two sets of videos."""

    def __init__(
        self, metric: FeatureDistance, convention: str, other: str = MADE, warnings: Sequence[str] = ()
    ) -> None:
        self.metric, self.convention, self.other, self.warnings = metric, convention, other, warnings
        self.needs = frozenset({"real", other})

    def metrics(self) -> Iterable[nn.Module]:
        """The one."""
        return [self.metric]

    def update(self, batch: Batch) -> None:
        """See `Measure`."""
        other = getattr(batch, self.other)
        if batch.real is not None:
            self.add(batch.real, batch, real=True)
        if other is not None:
            self.add(other.clamp(-1.0, 1.0), batch, real=False)

    def add(self, pixels: Tensor, batch: Batch, real: bool) -> None:
        """Add one side."""
        self.metric.update(pixels, real=real, fps=batch.fps, positions=batch.positions)

    def entries(self) -> dict[str, Entry]:
        """The distance with that of real from real."""
        report = self.metric.compute()
        title = next(iter(report))
        value = float(report.pop(title))
        parts = {name.removeprefix(f"{title}/"): part for name, part in report.items()}
        left_out = parts.pop("left_out", torch.zeros(0)).tolist()
        beside = {"real against real (halves)": float(parts.pop("real_against_real"))}
        if "finite_sample_bias" in parts:
            beside["a perfect generator"] = float(parts.pop("finite_sample_bias"))
        words = f"{self.convention}; {parts['num_real']} real and {parts['num_generated']} other videos"
        if "covariance" in parts:
            words += f"; {parts['covariance']} covariance"
        entry = Entry(
            value,
            int(parts["num_generated"]),
            words,
            "lower",
            interval=jackknife(value, left_out) if left_out else None,
            beside=beside,
            left_out=left_out,
            details=parts,
            warnings=tuple(self.warnings),
        )
        return {title: entry}


class FVDMeasure(DistanceMeasure):
    """FVD by its protocol: which frames, one random beginning for each real clip, the first frame of the others.

    Args:
        metric: by name; `exact` ones want their very number of videos.
        exact: whether the protocol was named, and not derived from what there is.
        seed: of the beginnings.
    """

    def __init__(self, metric: FVD, exact: bool, seed: int) -> None:
        stride = metric.protocol.stride
        words = f"StyleGAN-V's protocol, I3D logits of {metric.protocol.num_frames} frames {stride} apart"
        super().__init__(metric, words)
        self.exact, self.seed = exact, seed

    def add(self, pixels: Tensor, batch: Batch, real: bool) -> None:
        """Add the frames that the protocol takes."""
        assert isinstance(self.metric, FVD)
        chances = [generator(self.seed, "fvd", position) if real else None for position in batch.positions]
        picks = [self.metric.protocol.pick(pixels.shape[2], chance) for chance in chances]
        if None in picks:
            raise ValueError(
                f"{self.metric.title} is of clips of {self.metric.protocol.num_frames * self.metric.protocol.stride} "
                f"frames, but they have {pixels.shape[2]}: give longer ones (--frames), or name a shorter protocol"
            )
        frames = torch.stack([video[:, pick] for video, pick in zip(pixels, picks, strict=True)])
        fps = batch.fps / self.metric.protocol.stride
        self.metric.update(frames, real=real, fps=fps, positions=batch.positions)

    def entries(self) -> dict[str, Entry]:
        """See `DistanceMeasure`."""
        if not self.exact:
            assert isinstance(self.metric, FVD)
            with self.metric.sync_context(dist_sync_fn=self.metric.dist_sync_fn):
                num = self.metric.num_generated
            self.metric.protocol = replace(self.metric.protocol, num_videos=num)
        return super().entries()
