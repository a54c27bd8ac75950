"""Distances between sets of videos in the features of any encoder: running moments, and Fréchet's distance on them.

An encoder is any callable from pixels [B 3 F H W] in [-1, 1] to features [B D].

The moments of all features seen so far are one float64 matrix [1 + D, 1 + D]: their count in the corner, their mean in
the rest of the first row, and below it their scatter, the sum of outer products of deviations from the mean. One
tensor, so that it is a single state of a metric that merges over chunks and processes; deviations rather than raw
squares, because E[x x^T] - mean mean^T loses every digit when the mean is large against the deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from genworld.ops.precision import without_autocast
from genworld.types import ClipShape

Encoder = Callable[[Float[Tensor, "B 3 F H W"]], Float[Tensor, "B D"]]
Covariance = Literal["biased", "unbiased"]
"""Whether scatter is divided by N (StyleGAN-V, cd-FVD) or by N - 1 (TF-GAN, VideoGPT); 6 % of the distance at 16 clips,
0.04 % at 2,048."""
NUM_GROUPS = 8
"""In which moments are kept, so that the distance without each of them shows how much chance there is in it."""
_ENOUGH = 5  # samples per feature from which the estimate of the bias is right within 10 %


def empty_moments(num_features: int) -> Float[Tensor, "1+D 1+D"]:
    """The moments of nothing."""
    return torch.zeros(1 + num_features, 1 + num_features, dtype=torch.float64)


def moments_of(features: Float[Tensor, "N D"]) -> Float[Tensor, "1+D 1+D"]:
    """Count, mean and scatter of features."""
    features = features.double()
    num, width = features.shape
    moments = empty_moments(width).to(features.device)
    if num:
        moments[0, 0] = num
        moments[0, 1:] = features.mean(dim=0)
        deviations = features - moments[0, 1:]
        moments[1:, 1:] = deviations.T @ deviations
    return moments


def merge_moments(parts: Float[Tensor, "R 1+D 1+D"]) -> Float[Tensor, "1+D 1+D"]:
    """Moments of the union of R sets of features (Chan, Golub and LeVeque 1979), any of which may be empty."""
    counts, means = parts[:, 0, 0], parts[:, 0, 1:]
    merged = torch.zeros_like(parts[0])
    merged[0, 0] = counts.sum()
    merged[0, 1:] = (counts[:, None] * means).sum(dim=0) / merged[0, 0].clamp_min(1)
    shifts = counts.sqrt()[:, None] * (means - merged[0, 1:])
    merged[1:, 1:] = parts[:, 1:, 1:].sum(dim=0) + shifts.T @ shifts
    return merged


def count_of(moments: Float[Tensor, "1+D 1+D"]) -> int:
    """How many features the moments are of."""
    return int(moments[0, 0])


def mean_of(moments: Float[Tensor, "1+D 1+D"]) -> Float[Tensor, " D"]:
    """Their mean."""
    return moments[0, 1:]


def covariance_of(moments: Float[Tensor, "1+D 1+D"], convention: Covariance) -> Float[Tensor, "D D"]:
    """Their covariance.

    Raises:
        ValueError: there are fewer than two of them.
    """
    num = count_of(moments)
    if num < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {num}")
    return moments[1:, 1:] / _divisor(num, convention)


def second_moment_of(moments: Float[Tensor, "1+D 1+D"]) -> Float[Tensor, "D D"]:
    """Mean of x x^T, about zero."""
    mean = mean_of(moments)
    return moments[1:, 1:] / moments[0, 0] + torch.outer(mean, mean)


def frechet_distance(
    mean_a: Float[Tensor, " D"],
    cov_a: Float[Tensor, "D D"],
    mean_b: Float[Tensor, " D"],
    cov_b: Float[Tensor, "D D"],
) -> Float[Tensor, ""]:
    """|mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), in float64 (Dowson and Landau 1982).

    With R R^T = cov_a the eigenvalues of cov_a cov_b are those of R^T cov_b R, which is symmetric and positive
    semidefinite: its square roots are real by construction, unlike those of `scipy.linalg.sqrtm(cov_a @ cov_b)`.

    Raises:
        ValueError: shapes do not fit each other, or a value is not finite.
    """
    width = len(mean_a)
    given = {"mean_a": mean_a, "cov_a": cov_a, "mean_b": mean_b, "cov_b": cov_b}
    for name, value in given.items():
        expected = (width,) if name.startswith("mean") else (width, width)
        if value.shape != expected:
            raise ValueError(f"{name} should be of shape {expected} as mean_a has it, got {tuple(value.shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite")
    cov_a, cov_b = cov_a.double(), cov_b.double()
    shift = (mean_a.double() - mean_b.double()).square().sum()
    return _distance(shift, cov_a.trace() + cov_b.trace(), _trace_of_root(cov_a, cov_b))


def low_rank_frechet_distance(
    features_a: Float[Tensor, "N D"], features_b: Float[Tensor, "M D"], convention: Covariance
) -> Float[Tensor, ""]:
    """The same distance straight from features, without any D x D matrix: for fewer samples than dimensions.

    With deviations X and Y from the means, scaled so that X^T X and Y^T Y are the covariances, the trace of
    (cov_a cov_b)^(1/2) is the nuclear norm of X Y^T, an N x M matrix.

    Raises:
        ValueError: the widths differ, or one side has fewer than two samples.
    """
    if features_a.shape[1:] != features_b.shape[1:]:
        raise ValueError(
            f"features of one width are compared, got {tuple(features_a.shape)} and {tuple(features_b.shape)}"
        )
    one, two = (_deviations(features.double(), convention) for features in (features_a, features_b))
    shift = features_a.double().mean(dim=0) - features_b.double().mean(dim=0)
    traces = one.square().sum() + two.square().sum()
    return _distance(shift.square().sum(), traces, torch.linalg.svdvals(one @ two.T).sum())


def finite_sample_bias(cov: Float[Tensor, "D D"], num_a: int, num_b: int) -> Float[Tensor, ""]:
    """The distance to be expected between samples of one and the same Gaussian of covariance `cov`.

    To second order in the error of the two sample covariances, whose eigenbasis entries have the variance
    (1 + [i = j]) l_i l_j (1/num_a + 1/num_b):

        (1/num_a + 1/num_b) (sum_i l_i + 1/2 sum_ij (1 + [i = j]) l_i l_j / (l_i + l_j))

    with the eigenvalues l of `cov`. White features and equal numbers N give D(D + 1)/(2N) + 2D/N: a perfect generator
    scores 39.6 at D = 400 and N = 2,048. Simulated at D = 40, the law is right within 2 % for equal numbers from N = D
    upwards and up to 20 % too high at D / 2; for very unequal ones it is too low, by up to 20 % with the smaller at D
    and 2.5 % at 5 D. With a `cov` that was itself estimated from N samples it comes out lower, by 10 % at N = 5 D and
    40 % at N = D.
    """
    values = torch.linalg.eigvalsh(cov.double()).clamp_min(0)
    sums = values[:, None] + values
    pairs = torch.where(sums > 0, values[:, None] * values / sums.clamp_min(torch.finfo(sums.dtype).tiny), 0.0)
    return (1 / num_a + 1 / num_b) * (values.sum() + (pairs.sum() + pairs.diagonal().sum()) / 2)


class FeatureDistance(Metric):
    """What distances between sets of videos have in common: moments of real and of generated features, and a report.

    Memory does not grow with the number of videos. Moments are kept in `NUM_GROUPS` groups by position. Those of the
    real videos at even and at odd positions make two halves, so that the distance of real from real always stands
    beside the other. Being of halves, it has twice as much of what sampling alone adds, where there are as many
    generated videos as real ones. Leaving out one group after another gives an interval (see `jackknife`).

    Args:
        encoder: from pixels to features, in evaluation mode.
        num_features: their width.
        name: of the encoder, for the result.
    """

    full_state_update = False
    real: Tensor
    generated: Tensor
    unplaced: Tensor
    smallest: Tensor
    largest: Tensor

    def __init__(self, encoder: Encoder, num_features: int, name: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_features = num_features
        self.name = name
        for side in ("real", "generated"):
            groups = empty_moments(num_features).repeat(NUM_GROUPS, 1, 1)
            self.add_state(side, groups, dist_reduce_fx=_merge_groups)
        self.add_state("unplaced", torch.tensor(0), dist_reduce_fx="sum")
        extreme = torch.full((4,), torch.inf, dtype=torch.float64)
        self.add_state("smallest", extreme, dist_reduce_fx="min")
        self.add_state("largest", -extreme, dist_reduce_fx="max")

    @property
    def title(self) -> str:
        """The name of the number in the result."""
        raise NotImplementedError

    @property
    def num_real(self) -> int:
        """How many real videos were added."""
        return int(self.real[:, 0, 0].sum())

    @property
    def num_generated(self) -> int:
        """How many generated videos were added."""
        return int(self.generated[:, 0, 0].sum())

    def distance(self, real: Float[Tensor, "1+D 1+D"], other: Float[Tensor, "1+D 1+D"]) -> Float[Tensor, ""]:
        """Between two sets of features, given by their moments."""
        raise NotImplementedError

    def update(
        self,
        pixels: Float[Tensor, "B 3 F H W"],
        *,
        real: bool,
        fps: float,
        positions: Sequence[int] | None = None,
    ) -> None:
        """Add videos.

        Args:
            pixels: in [-1, 1].
            real: whether they are real or generated.
            fps: their frame rate; all videos of a comparison must share one rate and size.
            positions: of the videos in their set, whatever process sees them: they decide which group is whose. Real
                videos need them; without those of generated ones there is no interval.

        Raises:
            ValueError: pixels or features are not as expected, or positions are missing.
        """
        features = self._encode(pixels)
        shape = torch.tensor([*pixels.shape[2:], fps], dtype=torch.float64, device=features.device)
        self.smallest = torch.minimum(self.smallest, shape)
        self.largest = torch.maximum(self.largest, shape)
        if positions is not None and len(positions) != len(pixels):
            raise ValueError(f"{len(pixels)} videos need as many positions in their data set, got {positions}")
        if positions is None:
            if real:
                raise ValueError(f"{len(pixels)} real videos need their positions in the data set, got None")
            self.unplaced = self.unplaced + len(pixels)
        groups = torch.tensor(positions if positions is not None else [0] * len(pixels)) % NUM_GROUPS
        side = self.real.clone() if real else self.generated.clone()
        for group in groups.unique().tolist():
            mine = moments_of(features[groups.to(features.device) == group])
            side[group] = merge_moments(torch.stack([side[group], mine]))
        setattr(self, "real" if real else "generated", side)

    def compute(self) -> dict[str, Any]:
        """The distance under `title`, and under `title/…` that of real from real and what they are of.

        `title/left_out` are the distances without each of the groups, where every video has a position and enough are
        left.

        Raises:
            ValueError: there are too few videos, or they are not of one shape and frame rate.
        """
        halves = merge_moments(self.real[0::2]), merge_moments(self.real[1::2])
        counts = [count_of(half) for half in halves]
        if min(counts) < 2 or self.num_generated < 2:
            raise ValueError(
                f"{self.title} needs at least 2 generated videos and 2 real ones at even and at odd positions, got "
                f"{self.num_generated} and {counts[0]} and {counts[1]}"
            )
        real, generated = merge_moments(self.real), merge_moments(self.generated)
        report = {
            "": self.distance(real, generated),
            "/real_against_real": self.distance(*halves),
            "/num_real": sum(counts),
            "/num_generated": self.num_generated,
            "/num_features": self.num_features,
            "/clips": self._shape(),
        } | self._left_out()
        return {f"{self.title}{part}": value for part, value in (report | self._details(real)).items()}

    def _left_out(self) -> dict[str, Any]:
        if self.unplaced or min(self.num_real, self.num_generated) < 2 * NUM_GROUPS:
            return {}
        rest = [[i for i in range(NUM_GROUPS) if i != left] for left in range(NUM_GROUPS)]
        parts = [self.distance(merge_moments(self.real[i]), merge_moments(self.generated[i])) for i in rest]
        return {"/left_out": torch.stack(parts)}

    def _details(self, real: Tensor) -> dict[str, Any]:
        """What else a reader of the number has to know."""
        return {}

    def _shape(self) -> str:
        low, high = (_clip_shape(ends) for ends in (self.smallest, self.largest))
        if low != high:
            raise ValueError(
                f"{self.title} compares videos of one size, length and frame rate, but they reach from {low} to "
                f"{high}: bring them to one shape first"
            )
        return str(low)

    def _encode(self, pixels: Tensor) -> Tensor:
        if pixels.ndim != 5 or pixels.shape[1] != 3:
            raise ValueError(f"expected pixels [B 3 F H W], got {list(pixels.shape)}")
        if not pixels.abs().max() <= 1.001:
            low, high = pixels.min().item(), pixels.max().item()
            raise ValueError(f"expected pixels in [-1, 1], got {low:g} to {high:g}")
        if isinstance(self.encoder, nn.Module) and self.encoder.training:
            raise ValueError(f"the encoder {self.name} is in training mode, where it may be random: call its eval()")
        with torch.no_grad(), without_autocast(pixels):
            features = self.encoder(pixels)
        if features.shape != (len(pixels), self.num_features):
            raise ValueError(
                f"the encoder {self.name} should give features of shape {(len(pixels), self.num_features)}, "
                f"got {tuple(features.shape)}"
            )
        if not features.isfinite().all():
            raise ValueError(f"the encoder {self.name} gave features that are not finite")
        return features.double()


class FrechetDistance(FeatureDistance):
    """Fréchet distance of features, named `fd[NAME]`.

    See `fvd.CDFVD` for the distance of cd-FVD.
    """

    def __init__(self, encoder: Encoder, num_features: int, name: str, covariance: Covariance = "biased") -> None:
        super().__init__(encoder, num_features, name)
        self.covariance = covariance

    @property
    def title(self) -> str:
        """`fd[NAME]`."""
        return f"fd[{self.name}]"

    def distance(self, real: Float[Tensor, "1+D 1+D"], other: Float[Tensor, "1+D 1+D"]) -> Float[Tensor, ""]:
        """See `frechet_distance`."""
        one, two = ((mean_of(part), covariance_of(part, self.covariance)) for part in (real, other))
        return frechet_distance(*one, *two)

    def _details(self, real: Tensor) -> dict[str, Any]:
        details: dict[str, Any] = {"/covariance": self.covariance}
        counts = count_of(real), self.num_generated
        if min(counts) >= _ENOUGH * self.num_features:
            details["/finite_sample_bias"] = finite_sample_bias(covariance_of(real, "unbiased"), *counts)
        return details


def _merge_groups(parts: Float[Tensor, "R G 1+D 1+D"]) -> Float[Tensor, "G 1+D 1+D"]:
    """Of every process, group by group."""
    return torch.stack([merge_moments(each) for each in parts.unbind(dim=1)])


def _clip_shape(values: Tensor) -> ClipShape:
    frames, height, width, fps = values.tolist()
    return ClipShape(int(frames), int(height), int(width), fps)


def _divisor(num: int, convention: Covariance) -> int:
    return num if convention == "biased" else num - 1


def _deviations(features: Tensor, convention: Covariance) -> Tensor:
    num = len(features)
    if num < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {num}")
    return (features - features.mean(dim=0)) / math.sqrt(_divisor(num, convention))


def _trace_of_root(cov_a: Tensor, cov_b: Tensor) -> Tensor:
    """Of (cov_a cov_b)^(1/2), see `frechet_distance`.

    R is Cholesky's factor where there is one; singular matrices need the eigenvectors, at three times the cost.
    """
    try:
        one, two = cov_a.cpu().numpy(), cov_b.cpu().numpy()
        values = torch.from_numpy(scipy.linalg.eigh(two, one, type=2, eigvals_only=True)).to(cov_a.device)
    except scipy.linalg.LinAlgError:
        squares, vectors = torch.linalg.eigh(cov_a)
        root = vectors * squares.clamp_min(0).sqrt()
        values = torch.linalg.eigvalsh(root.T @ cov_b @ root)
    return values.clamp_min(0).sqrt().sum()


def _distance(shift: Tensor, traces: Tensor, cross: Tensor) -> Tensor:
    """Of the three terms; rounding can bring the distance of equals a little below zero."""
    return (shift + traces - 2 * cross).clamp_min(0)
