"""The Fréchet distance against formulas, against scipy, and the same however the videos come."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from genworld.eval.clip_score import CLIPScore
from genworld.eval.frechet import (
    FrechetDistance,
    count_of,
    covariance_of,
    empty_moments,
    finite_sample_bias,
    frechet_distance,
    low_rank_frechet_distance,
    mean_of,
    merge_moments,
    moments_of,
    second_moment_of,
)
from genworld.eval.reconstruction import LatentStatistics, Reconstruction
from genworld.models.vae_base import Gaussian


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def skewed(num: int, width: int, seed: int = 0) -> Tensor:
    """Correlated features of unequal scales."""
    return normal(num, width, seed=seed) @ (normal(width, width, seed=99) * torch.linspace(0.1, 2, width)) + 3


def covariance(width: int, seed: int) -> Tensor:
    return torch.cov(skewed(3 * width, width, seed).T)


def of_features(one: Tensor, two: Tensor, convention="biased") -> Tensor:
    sides = [moments_of(features) for features in (one, two)]
    return frechet_distance(*(part for m in sides for part in (mean_of(m), covariance_of(m, convention))))


# Moments


@pytest.mark.parametrize("sizes", [[20], [1, 19], [7, 0, 12, 1], [1] * 20])
def test_moments_of_chunks_are_moments_of_all(sizes) -> None:
    features = skewed(20, 5)
    moments = empty_moments(5)
    for chunk in features.split(sizes):
        moments = merge_moments(torch.stack([moments, moments_of(chunk)]))
    assert count_of(moments) == 20
    torch.testing.assert_close(mean_of(moments), features.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(covariance_of(moments, "unbiased"), torch.cov(features.T), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(covariance_of(moments, "biased"), torch.cov(features.T, correction=0))
    torch.testing.assert_close(second_moment_of(moments), features.T @ features / 20)


def test_a_large_mean_costs_no_digits() -> None:
    """Where E[x x^T] - mean mean^T has an error of 0.002 in place of 1e-9."""
    features = normal(64, 3)
    moments = merge_moments(torch.stack([moments_of(part + 1e7) for part in features.split(10)]))
    torch.testing.assert_close(covariance_of(moments, "unbiased"), torch.cov(features.T), atol=1e-8, rtol=0)


def test_nothing_and_one_sample_have_no_covariance() -> None:
    nothing = moments_of(torch.zeros(0, 3))
    assert torch.equal(merge_moments(torch.stack([nothing, empty_moments(3)])), empty_moments(3))
    for num, features in enumerate((torch.zeros(0, 3), torch.zeros(1, 3))):
        with pytest.raises(ValueError, match=f"at least 2 samples, got {num}"):
            covariance_of(moments_of(features), "biased")


# The distance


def test_diagonal_gaussians() -> None:
    (shift, a, b), zero = normal(3, 30), torch.zeros(30)
    a, b = a.square(), b.square()
    expected = shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    torch.testing.assert_close(frechet_distance(zero, a.diag(), shift, b.diag()), expected, rtol=1e-13, atol=0)


def test_equal_covariances_leave_the_means() -> None:
    cov, shift = covariance(20, 1), normal(20)
    torch.testing.assert_close(frechet_distance(shift, cov, 3 * shift, cov), 4 * shift.square().sum())
    assert frechet_distance(shift, cov, shift, cov) <= 1e-12 * cov.trace()


def test_scale() -> None:
    cov, zero = covariance(20, 1), torch.zeros(20)
    for c in (0.0, 0.5, 3.0):
        torch.testing.assert_close(frechet_distance(zero, cov, zero, c**2 * cov), cov.trace() * (1 - c) ** 2)


def test_rotation_changes_nothing_and_order_neither() -> None:
    (mean_a, mean_b), a, b = normal(2, 20), covariance(20, 1), covariance(20, 2)
    turn = torch.linalg.qr(normal(20, 20, seed=5))[0]
    turned = frechet_distance(turn @ mean_a, turn @ a @ turn.T, turn @ mean_b, turn @ b @ turn.T)
    straight = frechet_distance(mean_a, a, mean_b, b)
    torch.testing.assert_close(turned, straight, rtol=1e-11, atol=0)
    torch.testing.assert_close(frechet_distance(mean_b, b, mean_a, a), straight, rtol=1e-11, atol=0)


@pytest.mark.parametrize(("num", "tolerance"), [(400, 1e-9), (30, 1e-6)])
def test_parity_with_scipy(num, tolerance) -> None:
    """At full rank, and with fewer samples than dimensions."""
    one, two = skewed(num, 60, 1), 0.7 * skewed(num, 60, 2)
    a, b = torch.cov(one.T), torch.cov(two.T)
    root = torch.from_numpy(scipy.linalg.sqrtm((a @ b).numpy())).real
    expected = (one.mean(0) - two.mean(0)).square().sum() + (a + b - 2 * root).trace()
    torch.testing.assert_close(of_features(one, two, "unbiased"), expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("convention", ["biased", "unbiased"])
@pytest.mark.parametrize(("num", "width"), [(12, 50), (50, 12)])
def test_low_rank_is_the_same(num, width, convention) -> None:
    one, two = skewed(num, width, 1), skewed(num + 5, width, 2)
    torch.testing.assert_close(
        low_rank_frechet_distance(one, two, convention), of_features(one, two, convention), rtol=1e-6, atol=0
    )
    assert low_rank_frechet_distance(one, one, convention) <= 1e-9 * one.var(0).sum()


def test_the_conventions_differ_by_one_sample() -> None:
    one, two = skewed(16, 8, 1), skewed(16, 8, 2)
    means = (one.mean(0) - two.mean(0)).square().sum()
    biased, unbiased = (of_features(one, two, convention) for convention in ("biased", "unbiased"))
    torch.testing.assert_close(unbiased - means, (biased - means) * 16 / 15)


@pytest.mark.parametrize(("num", "percent"), [(16, 5.8), (256, 0.4), (2048, 0.04)])
def test_what_the_conventions_are_apart(num, percent) -> None:
    """As the reference measured it at 400 dimensions; how much of the distance is one of means moves it a little."""
    one, two = normal(num, 400, seed=1), normal(num, 400, seed=2)
    biased, unbiased = (low_rank_frechet_distance(one, two, convention) for convention in ("biased", "unbiased"))
    assert 100 * (unbiased / biased - 1).item() == pytest.approx(percent, rel=0.25)


def test_the_biased_covariance_is_that_of_cd_fvd() -> None:
    """E[x x^T] - mean mean^T, from running sums."""
    features = skewed(20, 5)
    expected = features.T @ features / 20 - torch.outer(features.mean(0), features.mean(0))
    torch.testing.assert_close(covariance_of(moments_of(features), "biased"), expected)


def test_bad_moments() -> None:
    good = torch.zeros(3), torch.eye(3)
    with pytest.raises(ValueError, match=r"cov_b should be of shape \(3, 3\)"):
        frechet_distance(*good, torch.zeros(3), torch.eye(4))
    with pytest.raises(ValueError, match="mean_b holds values that are not finite"):
        frechet_distance(*good, torch.full((3,), torch.nan), torch.eye(3))
    with pytest.raises(ValueError, match="one width"):
        low_rank_frechet_distance(torch.zeros(4, 3), torch.zeros(4, 2), "biased")
    with pytest.raises(ValueError, match="at least 2 samples"):
        low_rank_frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3), "biased")


# The bias of finite samples


def test_bias_law_of_white_features() -> None:
    """d(d + 1)/(2 N) + 2 d / N; the reference has 39.6 at 400 dimensions and 2,048 samples, and measured 39.7."""
    law = finite_sample_bias(torch.eye(400), 2048, 2048).item()
    assert law == pytest.approx(400 * 401 / 4096 + 800 / 2048)
    measured = of_features(normal(2048, 400, seed=1), normal(2048, 400, seed=2)).item()
    assert measured == pytest.approx(39.7, abs=0.6)
    assert measured == pytest.approx(law, abs=0.6)  # a draw deviates by 0.2


@pytest.mark.parametrize(
    ("num", "expected"), [(64, 551), (256, 301), (512, 157), (1024, 79.1), (2048, 39.7), (4096, 19.9), (8192, 9.85)]
)
def test_what_a_perfect_generator_scores(num, expected) -> None:
    """Two samples of N(0, I) at 400 dimensions, as the reference measured them; under 400 the law is no more."""
    one, two = normal(num, 400, seed=1), normal(num, 400, seed=2)
    few = num < 400
    measured = low_rank_frechet_distance(one, two, "unbiased") if few else of_features(one, two, "unbiased")
    assert measured.item() == pytest.approx(expected, rel=0.03 if few else 0.02)
    if num >= 512:
        assert finite_sample_bias(torch.eye(400), num, num).item() == pytest.approx(expected, rel=0.02)


def test_bias_of_the_width_of_cd_fvd() -> None:
    law = finite_sample_bias(torch.eye(1408), 2048, 2048).item()
    assert law - 2 * 1408 / 2048 == pytest.approx(484, abs=0.5)


@pytest.mark.parametrize(("num_a", "num_b"), [(100, 100), (300, 200)])
def test_bias_law_of_other_spectra(num_a, num_b) -> None:
    scales = 1 / torch.arange(1, 41, dtype=torch.float64)
    law = finite_sample_bias(scales.diag(), num_a, num_b).item()
    draws = [
        of_features(normal(num_a, 40, seed=2 * i) * scales.sqrt(), normal(num_b, 40, seed=2 * i + 1) * scales.sqrt())
        for i in range(60)
    ]
    assert torch.stack(draws).mean().item() == pytest.approx(law, rel=0.03)


def test_bias_of_features_that_never_change() -> None:
    assert finite_sample_bias(torch.zeros(3, 3), 10, 10) == 0


# The metric


class Project(nn.Module):
    """A fixed random encoder of 6 features."""

    def forward(self, pixels: Tensor) -> Tensor:
        flat = pixels.double().flatten(1)
        return flat @ normal(flat.shape[1], 6, seed=7)


def videos(num: int, seed: int) -> Tensor:
    return torch.rand(num, 3, 2, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


REAL, GENERATED = videos(24, 1), 0.8 * videos(20, 2)


def new_metric(covariance="biased") -> FrechetDistance:
    return FrechetDistance(Project().eval(), 6, "random", covariance)


def add(metric: FrechetDistance, real: list[int], generated: list[int], batch: int) -> None:
    for i in range(0, len(real), batch):
        metric.update(REAL[real[i : i + batch]], real=True, fps=8.0, positions=real[i : i + batch])
    for i in range(0, len(generated), batch):
        metric.update(GENERATED[generated[i : i + batch]], real=False, fps=8.0)


def whole() -> FrechetDistance:
    metric = new_metric()
    add(metric, list(range(24)), list(range(20)), 24)
    return metric


def assert_same(one: dict, two: dict) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(value, two[name], rtol=1e-9, atol=1e-12, msg=name)
        else:
            assert value == two[name], name


def test_the_report() -> None:
    result, encode = whole().compute(), Project()
    real, generated = encode(REAL), encode(GENERATED)
    torch.testing.assert_close(result.pop("fd[random]"), of_features(real, generated))
    torch.testing.assert_close(result.pop("fd[random]/real_against_real"), of_features(real[::2], real[1::2]))
    result = {name.removeprefix("fd[random]/"): value for name, value in result.items()}
    assert result == {
        "num_real": 24,
        "num_generated": 20,
        "num_features": 6,
        "clips": "2x4x4@8",
        "covariance": "biased",
    }


def test_the_bias_is_told_where_there_are_samples_enough() -> None:
    metric = new_metric("unbiased")
    metric.update(videos(60, 3), real=True, fps=8, positions=range(60))
    metric.update(videos(40, 4), real=False, fps=8)
    result, features = metric.compute(), Project()(videos(60, 3))
    expected = finite_sample_bias(torch.cov(features.T), 60, 40)
    torch.testing.assert_close(result["fd[random]/finite_sample_bias"], expected)
    assert result["fd[random]/covariance"] == "unbiased"


@pytest.mark.parametrize("batch", [1, 5, 24])
def test_batch_size_and_order_do_not_matter(batch) -> None:
    metric = new_metric()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(batch)).tolist()
    add(metric, order, order[::-1][:0] + [i for i in order if i < 20], batch)
    assert_same(metric.compute(), whole().compute())


def test_merged_metrics_have_seen_everything_and_reset_has_seen_nothing() -> None:
    one, two, three = new_metric(), new_metric(), new_metric()
    add(one, [3, 20, 5, 1, 0], list(range(13)), 4)
    add(two, [i for i in range(24) if i not in (3, 20, 5, 1, 0)], list(range(13, 20)), 4)
    for other in (two, three):
        one.merge_state(other)
    assert_same(one.compute(), whole().compute())
    one.reset()
    assert one.num_generated == one.num_real == 0
    add(one, list(range(24)), list(range(20)), 7)
    assert_same(one.compute(), whole().compute())


def test_memory_does_not_grow() -> None:
    def sizes(metric: FrechetDistance) -> dict[str, torch.Size]:
        return {name: torch.as_tensor(value).shape for name, value in metric.metric_state.items()}

    assert sizes(whole()) == sizes(new_metric())


@pytest.mark.parametrize(
    ("pixels", "settings", "message"),
    [
        (REAL[:, :, 0], {}, r"expected pixels \[B 3 F H W\]"),
        (127.5 * (REAL + 1), {}, r"in \[-1, 1\], got 0.*to 25"),
        (REAL * torch.nan, {}, r"in \[-1, 1\], got nan"),
        (REAL, {"positions": None}, "24 real videos need their positions"),
        (REAL, {"positions": [1]}, r"24 videos need as many positions in their data set, got \[1\]"),
    ],
)
def test_bad_videos(pixels, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        new_metric().update(pixels, **({"real": True, "fps": 8, "positions": range(24)} | settings))


def test_bad_encoders() -> None:
    encoders: list[tuple[Callable[[Tensor], Tensor], str]] = [
        (Project().train(), "random is in training mode"),
        (lambda pixels: pixels.mean((3, 4)), r"features of shape \(20, 6\), got \(20, 3, 2\)"),
        (lambda pixels: torch.full((len(pixels), 6), torch.inf), "not finite"),
    ]
    for encoder, message in encoders:
        with pytest.raises(ValueError, match=message):
            FrechetDistance(encoder, 6, "random").update(GENERATED, real=False, fps=8)


def test_the_distance_without_each_group() -> None:
    """Groups are positions modulo 8; the interval needs every video to have one, and enough of them."""
    metric = new_metric()
    metric.update(REAL, real=True, fps=8, positions=range(24))
    metric.update(GENERATED, real=False, fps=8, positions=range(20))
    left_out, encode = metric.compute()["fd[random]/left_out"], Project()
    real, generated = encode(REAL), encode(GENERATED)
    for group in range(8):
        keep_real, keep_made = (torch.arange(num) % 8 != group for num in (24, 20))
        torch.testing.assert_close(left_out[group], of_features(real[keep_real], generated[keep_made]))
    metric.update(GENERATED[:1], real=False, fps=8)
    assert "fd[random]/left_out" not in metric.compute()


def test_what_cannot_be_compared() -> None:
    metric = whole()
    metric.update(GENERATED, real=False, fps=24)
    with pytest.raises(ValueError, match="reach from 2x4x4@8 to 2x4x4@24"):
        metric.compute()
    metric = new_metric()
    metric.update(GENERATED, real=False, fps=8)
    metric.update(REAL[:4], real=True, fps=8, positions=[0, 2, 4, 6])
    with pytest.raises(ValueError, match="got 20 and 4 and 0"):
        metric.compute()


# Two processes


class Mean:
    """Images and texts as three numbers."""

    def encode_images(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(text)), 1.0, -1.0] for text in texts])


def results(mine: list[int]) -> dict:
    """What every metric says of the videos `mine`, or of everyone's in a group of processes."""
    frechet, likeness = new_metric(), Reconstruction()
    score, latents = CLIPScore(Mean(), "mean"), LatentStatistics(3)
    add(frechet, mine, [i for i in mine if i < 20], 3)
    large = REAL.repeat(1, 1, 1, 4, 4)
    for i in mine:
        likeness.update(large[i : i + 1], large[i : i + 1] * 0.9, positions=[i])
        score.update(REAL[i : i + 1], ["word" * i], positions=[i])
        latents.update(Gaussian(REAL[i : i + 1], REAL[i : i + 1]))
    found = {**frechet.compute(), **likeness.compute(), **score.compute(), **latents.compute()}
    return found | {f"{name} of each": value for name, value in likeness.per_video().items()}


def _process(rank: int, shares: list[list[int]], folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", timedelta(seconds=60), len(shares), rank)
    torch.save(results(shares[rank]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("first", [range(5, 24), range(24)], ids=["uneven", "all and none"])
def test_two_processes_are_one(tmp_path, first) -> None:
    shares = [list(first), [i for i in range(24) if i not in first]]
    torch.multiprocessing.start_processes(_process, (shares, str(tmp_path)), nprocs=2, start_method="fork")
    expected = results(list(range(24)))
    assert expected["fd[random]/num_real"] == len(expected["psnr of each"]) == 24
    for rank in range(2):
        assert_same(torch.load(tmp_path / f"{rank}.pt"), expected)
