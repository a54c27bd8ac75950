"""How well an autoencoder gives back what it was given, and what its latents are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.utilities import dim_zero_cat

from genworld.eval.frechet import (
    FrechetDistance,
    count_of,
    covariance_of,
    empty_moments,
    mean_of,
    merge_moments,
    moments_of,
)
from genworld.eval.fvd import I3D, I3D_SHA256
from genworld.models.vae_base import Gaussian
from genworld.ops.quality import RANGE, psnr

Axis = Literal["time", "rows", "columns"]
_WINDOW = 11  # pixels of SSIM's window
_HALF_LEVEL = 0.5 * RANGE / 255  # what rounding to 8 bits hides


def ssim(real: Float[Tensor, "B 3 F H W"], other: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, " B"]:
    """Structural similarity of each clip, the mean over its frames (Gaussian window of 11, sigma 1.5).

    Pixels are compared as values in [0, 1]: the measure is not the same about zero, where means may vanish.

    Raises:
        ValueError: the frames are smaller than the window.
    """
    if min(real.shape[3:]) < _WINDOW:
        raise ValueError(f"SSIM needs frames of at least {_WINDOW} x {_WINDOW} pixels, got {list(real.shape[3:])}")
    one, two = (rearrange((clip.float() + 1) / RANGE, "b c f h w -> (b f) c h w") for clip in (other, real))
    each = structural_similarity_index_measure(one, two, data_range=1.0, reduction="none")
    assert isinstance(each, Tensor), "no contrast map was asked for"
    return rearrange(each, "(b f) -> b f", b=len(real)).mean(dim=1)


def seam(
    errors: Float[Tensor, "B 3 F H W"], axis: Axis, borders: Sequence[int], stride: int = 1
) -> Float[Tensor, " B"]:
    """How much larger jumps are across borders of chunks or tiles than elsewhere: 1 is as everywhere.

    Mean absolute jump between neighbours at the borders against the mean elsewhere, half an 8-bit level added to both,
    since what is smaller cannot be seen.

    Args:
        errors: reconstruction minus original, so that what moves or ends in the picture itself does not count; or the
            pixels of a video that has no original.
        axis: along which the parts were put together.
        borders: indices of the first frame, row or column of each part but the first.
        stride: of a latent along the axis. An autoencoder may jump from latent to latent; with it, borders are compared
            with other places between latents only.

    Raises:
        ValueError: a border lies outside, or there is nothing to compare with.
    """
    dim = {"time": 2, "rows": 3, "columns": 4}[axis]
    places = torch.arange(1, errors.shape[dim], device=errors.device)
    expected = torch.tensor(sorted(set(borders)), device=errors.device)
    at = torch.isin(places, expected)
    elsewhere = ~at & torch.isin(places % stride, expected % stride)
    if not borders or at.sum() < len(expected) or not elsewhere.any():
        raise ValueError(
            f"seams along {axis} need borders between 1 and {errors.shape[dim] - 1} and, at a stride of {stride}, "
            f"other places to compare with, got {list(borders)}"
        )
    others = [i for i in range(1, 5) if i != dim]
    jumps = errors.float().diff(dim=dim).abs().mean(dim=others)
    return (jumps[:, at].mean(dim=1) + _HALF_LEVEL) / (jumps[:, elsewhere].mean(dim=1) + _HALF_LEVEL)


@dataclass(frozen=True, kw_only=True)
class Borders:
    """Where the parts begin that a reconstruction was put together from, see `seam`; () where there are none."""

    time: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    time_stride: int = 1
    space_stride: int = 1

    def seams(self, errors: Float[Tensor, "B 3 F H W"]) -> dict[str, Float[Tensor, " B"]]:
        """`seam_time`, `seam_rows` and `seam_columns`, of those axes that have borders."""
        axes: dict[Axis, tuple[tuple[int, ...], int]] = {
            "time": (self.time, self.time_stride),
            "rows": (self.rows, self.space_stride),
            "columns": (self.columns, self.space_stride),
        }
        return {f"seam_{axis}": seam(errors, axis, *where) for axis, where in axes.items() if where[0]}


class PerVideo(Metric):
    """A metric that keeps a few values of every video, so that its means can be given a confidence interval.

    Args:
        names: of the values; a video may lack some.
    """

    full_state_update = False
    rows: list[Tensor] | Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.add_state("rows", [], dist_reduce_fx="cat")

    def per_video(self) -> dict[str, Float[Tensor, " n"]]:
        """The values by name, and `position`, as far as any video has them; NaN for a video that has none.

        In order of position, videos without one last. Every process has to call it, and gets the same.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return self.table()

    def compute(self) -> dict[str, Tensor]:
        """The mean of each value over the videos that have it.

        Raises:
            ValueError: there are no videos, or two have the same position.
        """
        return {name: column.nanmean().float() for name, column in self.table().items() if name != "position"}

    def table(self) -> dict[str, Float[Tensor, " n"]]:
        """As `per_video`, of what this process knows: for `compute`, where that is everything."""
        rows = dim_zero_cat(self.rows) if len(self.rows) else torch.zeros(0, 1 + len(self.names))
        if not len(rows):
            raise ValueError(f"{type(self).__name__} has seen no videos")
        positions = rows[:, 0]
        known = positions[~positions.isnan()]
        if len(known.unique()) < len(known):
            raise ValueError(f"{type(self).__name__} has seen two videos of one position: each counts once")
        columns = zip(("position", *self.names), rows[positions.argsort(stable=True)].unbind(dim=1), strict=True)
        return {name: column for name, column in columns if name == "position" or not column.isnan().all()}

    def keep(self, values: Mapping[str, Float[Tensor, " B"]], positions: Sequence[int] | None) -> None:
        """Add the values of a batch.

        Args:
            values: by name; a name that is not there has no values for these videos.
            positions: of the videos in the set they come from, whatever process sees them.

        Raises:
            ValueError: a value is not finite, or there are more or fewer positions than videos.
        """
        num = len(next(iter(values.values())))
        if positions is not None and len(positions) != num:
            raise ValueError(f"{num} videos need as many positions, got {list(positions)}")
        absent = torch.full((num,), torch.nan)
        for name, column in values.items():
            if not column.isfinite().all():
                where = list(range(num)) if positions is None else list(positions)
                bad = [where[i] for i in (~column.isfinite()).nonzero().flatten().tolist()]
                raise ValueError(f"{name} of the videos {bad} is not finite: are their pixels?")
        place = absent if positions is None else torch.tensor(positions)
        columns = [place, *(values.get(name, absent) for name in self.names)]
        row = torch.stack([column.detach().to(self.device, torch.float64) for column in columns], dim=1)
        assert isinstance(self.rows, list), "states are added to before they are gathered"
        self.rows.append(row)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """As of torchmetrics, which can gather tables from processes only if each has one, if of no rows."""
        if isinstance(self.rows, list) and not self.rows:
            self.rows = [torch.zeros(0, 1 + len(self.names), dtype=torch.float64, device=self.device)]
        super().sync(*args, **kwargs)


class Reconstruction(PerVideo):
    """Likeness of videos and their reconstructions, by video and on average.

    - `psnr`: from the squared error over all of a video, in dB, at most 100;
    - `psnr_frames`: the mean of the PSNR of each frame, as most tables of autoencoders have it; never below `psnr`;
    - `psnr_first`, `psnr_later`: of the first frame and of all others, told apart because causal autoencoders spend a
      whole latent frame on the first frame and only a share of one on each later frame;
    - `ssim`: the mean over frames;
    - `lpips`: the mean over frames, if there is a network for it;
    - `seam_time`, `seam_rows`, `seam_columns`: see `seam`, if there are borders.

    Pixels are clipped to [-1, 1] but not rounded.

    Args:
        perceptual: distance of images in [-1, 1], such as `PerceptualDistance`.
        borders: where the reconstructions were put together.
        frames_at_once: images that `perceptual` is given at a time.
    """

    LIKENESS = ("psnr", "psnr_frames", "ssim", "psnr_first", "psnr_later", "lpips")
    SEAMS = ("seam_time", "seam_rows", "seam_columns")

    def __init__(
        self, perceptual: nn.Module | None = None, borders: Borders | None = None, frames_at_once: int = 32
    ) -> None:
        super().__init__((*self.LIKENESS, *self.SEAMS))
        self.perceptual = perceptual
        self.borders = borders or Borders()
        self.frames_at_once = frames_at_once

    def update(
        self,
        real: Float[Tensor, "B 3 F H W"],
        other: Float[Tensor, "B 3 F H W"],
        positions: Sequence[int] | None = None,
    ) -> None:
        """Add clips and their reconstructions; images count as first frames only.

        Raises:
            ValueError: the shapes differ, pixels are not finite, or the frames are too small for SSIM.
        """
        if real.shape != other.shape:
            raise ValueError(f"a reconstruction of {list(real.shape)} should be of that shape, got {list(other.shape)}")
        real, other = real.float(), other.float().clamp(-1.0, 1.0)
        frames = [rearrange(clip, "b c f h w -> (b f) c 1 h w") for clip in (real, other)]
        values = {
            "psnr": psnr(real, other),
            "psnr_frames": rearrange(psnr(*frames), "(b f) -> b f", b=len(real)).mean(dim=1),
            "ssim": ssim(real, other),
            "psnr_first": psnr(real[:, :, :1], other[:, :, :1]),
        }
        if real.shape[2] > 1:
            values["psnr_later"] = psnr(real[:, :, 1:], other[:, :, 1:])
        if self.perceptual is not None:
            values["lpips"] = self._lpips(real, other)
        self.keep(values | self.borders.seams(other - real), positions)

    def _lpips(self, real: Tensor, other: Tensor) -> Tensor:
        assert self.perceptual is not None
        one, two = (rearrange(clip, "b c f h w -> (b f) c h w").split(self.frames_at_once) for clip in (real, other))
        with torch.no_grad():
            each = torch.cat([self.perceptual(*pair) for pair in zip(one, two, strict=True)])
        return rearrange(each, "(b f) -> b f", b=len(real)).mean(dim=1)


class ReconstructionFrechet(FrechetDistance):
    """Fréchet distance of videos and their reconstructions: `rfvd` through the published I3D, else `rfd[NAME]`."""

    @property
    def title(self) -> str:
        """Its name in the result."""
        published = isinstance(self.encoder, I3D) and self.encoder.sha256 == I3D_SHA256
        return "rfvd" if published else f"r{super().title}"

    def update_pairs(
        self,
        real: Float[Tensor, "B 3 F H W"],
        other: Float[Tensor, "B 3 F H W"],
        *,
        fps: float,
        positions: Sequence[int],
    ) -> None:
        """Add clips and their reconstructions, which are clipped to [-1, 1]; see `FeatureDistance.update`."""
        self.update(real, real=True, fps=fps, positions=positions)
        self.update(other.clamp(-1.0, 1.0), real=False, fps=fps, positions=positions)


class LatentStatistics(Metric):
    """What a model of the latents will meet, over all positions of all clips.

    - `latent_mean`, `latent_std`: of each channel [C], raw;
    - `latent_correlation`: the largest absolute correlation of two channels;
    - `latent_kl`: divergence from the standard normal distribution in nats per value.
    """

    full_state_update = False
    moments: Tensor
    kl: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.add_state("moments", empty_moments(num_channels), dist_reduce_fx=merge_moments)
        self.add_state("kl", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, posterior: Gaussian) -> None:
        """Add what an encoder returns for a batch.

        Raises:
            ValueError: the number of channels is another.
        """
        if posterior.mean.shape[1] != self.num_channels:
            raise ValueError(f"expected latents of {self.num_channels} channels, got {posterior.mean.shape[1]}")
        values = rearrange(posterior.mean.detach(), "b c t h w -> (b t h w) c")
        self.moments = merge_moments(torch.stack([self.moments, moments_of(values)]))
        self.kl = self.kl + posterior.kl().detach().double().sum()

    def compute(self) -> dict[str, Tensor]:
        """The statistics by name.

        Raises:
            ValueError: there are no latents.
        """
        covariance = covariance_of(self.moments, "unbiased")
        deviations = covariance.diagonal().sqrt()
        scale = deviations.clamp_min(torch.finfo(deviations.dtype).tiny)
        others = (covariance / scale[:, None] / scale).fill_diagonal_(0.0)
        return {
            "latent_mean": mean_of(self.moments).float(),
            "latent_std": deviations.float(),
            "latent_correlation": others.abs().max().float(),
            "latent_kl": (self.kl / (count_of(self.moments) * self.num_channels)).float(),
        }
