import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from genworld.eval import fvd
from genworld.eval.frechet import frechet_distance
from genworld.eval.perceptual import PerceptualDistance
from genworld.eval.reconstruction import (
    Borders,
    LatentStatistics,
    Reconstruction,
    ReconstructionFrechet,
    seam,
    ssim,
)
from genworld.models.vae_base import Gaussian
from genworld.ops.quality import psnr


def clips(frames: int, num: int = 2) -> Tensor:
    return torch.rand(num, 3, frames, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def test_psnr_of_known_errors() -> None:
    real = clips(5)
    torch.testing.assert_close(psnr(real, real + 0.02), torch.full((2,), 40.0), atol=1e-2, rtol=0)
    assert psnr(real, real).tolist() == [100.0, 100.0]


def test_black_against_white() -> None:
    """Check values known from a public collection of metrics: C1 / (1 + C1) with C1 = 0.01^2, and 0 dB."""
    black, white = torch.full((2, 1, 3, 2, 16, 16), -1.0), 1.0
    assert ssim(black[0], black[1] * -white).item() == pytest.approx(9.999000099990664e-05, rel=1e-4)
    assert psnr(black[0], black[1] * -white).item() == pytest.approx(0.0, abs=1e-5)


def test_ssim_of_equal_clips_is_one() -> None:
    assert ssim(clips(2), clips(2)).tolist() == pytest.approx([1.0, 1.0])
    assert (ssim(clips(2), clips(2).flip(-1)) < 0.5).all()
    with pytest.raises(ValueError, match=r"at least 11 x 11 pixels, got \[16, 10\]"):
        ssim(clips(2)[..., :10], clips(2)[..., :10])


def test_first_and_later_frames_are_told_apart() -> None:
    real, metric = clips(5), Reconstruction()
    other = real.clone()
    other[:, :, 1:] += 0.02
    metric.update(real, other)
    result = metric.compute()
    assert result["psnr_first"] == 100.0
    assert result["psnr_later"] == pytest.approx(40.0, abs=0.01)
    assert 40.0 < result["psnr"] < 41.0
    assert result["psnr_frames"] == pytest.approx((100 + 4 * 40) / 5, abs=0.01)


def test_the_mean_is_over_clips_not_over_updates() -> None:
    real, together, apart = clips(1), Reconstruction(), Reconstruction()
    other = real + torch.tensor([0.02, 0.2]).view(2, 1, 1, 1, 1)
    together.update(real, other)
    for one, two in zip(real, other, strict=True):
        apart.update(one[None], two[None])
    assert together.compute()["psnr"] == pytest.approx(apart.compute()["psnr"].item())
    assert "psnr_later" not in together.compute()


def errors_of(real: Tensor) -> Tensor:
    """Noise whose size differs from video to video."""
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
    return noise * torch.linspace(0.01, 0.1, len(real)).view(-1, 1, 1, 1, 1)


def test_values_are_kept_by_video_whatever_the_order() -> None:
    real = clips(2, num=6)
    other = real + errors_of(real)
    metric, parts = Reconstruction(), [Reconstruction(), Reconstruction()]
    metric.update(real, other, positions=range(10, 16))
    for part, order in zip(parts, ([5, 0, 2], [4, 3, 1]), strict=True):
        for i in order:
            part.update(real[i : i + 1], other[i : i + 1], positions=[10 + i])
    parts[0].merge_state(parts[1])
    kept = metric.per_video()
    assert kept["position"].tolist() == list(range(10, 16))
    torch.testing.assert_close(kept["psnr"].float(), psnr(real, other.clamp(-1, 1)))
    assert kept["ssim"].diff().max() < 0
    for name, column in parts[0].per_video().items():
        torch.testing.assert_close(column, kept[name], atol=1e-5, rtol=0)
    for name, value in parts[0].compute().items():
        torch.testing.assert_close(value, metric.compute()[name])
    parts[0].reset()
    with (
        pytest.warns(UserWarning, match="before the"),
        pytest.raises(ValueError, match="Reconstruction has seen no videos"),
    ):
        parts[0].compute()


def test_a_batch_may_lack_a_value() -> None:
    metric = Reconstruction()
    metric.update(clips(1, num=3), clips(1, num=3) + 0.02)
    metric.update(clips(5), clips(5) + 0.02)
    assert metric.per_video()["psnr_later"].isnan().tolist() == [True, True, True, False, False]
    assert metric.compute()["psnr_later"] == pytest.approx(40.0, abs=0.01)


def test_bad_videos() -> None:
    metric, broken = Reconstruction(), clips(2)
    broken[1, 0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"psnr of the videos \[8\] is not finite"):
        metric.update(clips(2), broken, positions=[7, 8])
    with pytest.raises(ValueError, match=r"of \[2, 3, 2, 16, 16\] should be of that shape, got \[2, 3, 1, 16, 16\]"):
        metric.update(clips(2), clips(1))
    with pytest.raises(ValueError, match=r"2 videos need as many positions, got \[0\]"):
        metric.update(clips(2), clips(2), positions=[0])
    metric.update(clips(2), clips(2), positions=[3, 3])
    with pytest.raises(ValueError, match="two videos of one position"):
        metric.compute()


# LPIPS


@pytest.fixture(scope="module")
def perceptual(tmp_path_factory) -> PerceptualDistance:
    """With random weights of the backbone in place of torchvision's."""
    import torchvision

    path = tmp_path_factory.mktemp("lpips") / "squeezenet1_1.safetensors"
    torch.manual_seed(0)
    save_file(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return PerceptualDistance(path, "squeeze").eval()


def test_lpips_is_the_mean_over_frames(perceptual) -> None:
    real = clips(3).repeat(1, 1, 1, 2, 2)
    other = (real + errors_of(real)).clamp(-1, 1)
    metric = Reconstruction(perceptual, frames_at_once=4)
    metric.update(real, other)
    expected = [
        torch.stack([perceptual(a[:, i][None], b[:, i][None]) for i in range(3)]).mean()
        for a, b in zip(real, other, strict=True)
    ]
    torch.testing.assert_close(metric.per_video()["lpips"].float(), torch.stack(expected), atol=1e-6, rtol=1e-4)
    assert 0 < metric.per_video()["lpips"][0] < metric.per_video()["lpips"][1]


# Seams


@pytest.mark.parametrize(("axis", "dim"), [("time", 2), ("rows", 3), ("columns", 4)])
def test_a_planted_seam_is_found_along_its_axis_only(axis, dim) -> None:
    real = clips(16)
    errors = errors_of(real)
    shifted = errors.clone()
    shifted.narrow(dim, 8, 8).add_(0.3)
    borders = Borders(time=(8,), rows=(8,), columns=(8,))
    plain, planted = borders.seams(errors), borders.seams(shifted)
    for name in plain:
        assert plain[name].tolist() == pytest.approx([1, 1], abs=0.1)
        if name == f"seam_{axis}":
            assert planted[name][0] > 10
            assert planted[name][1] > 2
        else:
            torch.testing.assert_close(planted[name], plain[name], atol=1e-3, rtol=0)


def test_seams_are_relative_to_what_was_given() -> None:
    """A cut in the film itself is no seam of its reconstruction."""
    real = clips(1).repeat(1, 1, 9, 1, 1)
    real[:, :, 5:] *= -1
    metric = Reconstruction(borders=Borders(time=(5,)))
    other = (real + 0.02 * torch.randn(real.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    metric.update(real, other)
    assert metric.compute()["seam_time"] == pytest.approx(1, abs=0.1)
    assert "seam_rows" not in metric.compute()
    assert seam(other, "time", [5])[0] > 10


def test_jumps_from_latent_to_latent_are_not_seams_of_chunks() -> None:
    """Errors that change every fourth frame, chunks of eight."""
    levels = torch.randn(1, 3, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    errors = levels.repeat_interleave(4, dim=2)[:, :, 3:].expand(-1, -1, -1, 16, 16)
    assert seam(errors, "time", [9])[0] > 3
    assert seam(errors, "time", [9], stride=4)[0] < 2
    equal = torch.zeros(1, 3, 17, 4, 4)
    assert seam(equal, "time", [9], stride=4).tolist() == [1.0]


@pytest.mark.parametrize(
    ("borders", "stride"), [([0], 1), ([5], 1), ([-1, 2], 1), ([], 1), ([1, 2, 3, 4], 1), ([4], 4)]
)
def test_seams_need_something_to_compare(borders, stride) -> None:
    with pytest.raises(ValueError, match=r"borders between 1 and 4"):
        seam(torch.zeros(1, 3, 5, 4, 4), "time", borders, stride)


# rFVD


class Colour(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3, 4))


def test_frechet_distance_of_reconstructions() -> None:
    real = clips(2, num=12)
    other = 1.5 * real + 0.1
    metric = ReconstructionFrechet(Colour().eval(), 3, "colour")
    for i in range(0, 12, 4):
        metric.update_pairs(real[i : i + 4], other[i : i + 4], fps=8, positions=range(i, i + 4))
    sides = [Colour()(side) for side in (real, other.clamp(-1, 1))]
    moments = [part for side in sides for part in (side.mean(0), torch.cov(side.T, correction=0))]
    result = metric.compute()
    torch.testing.assert_close(result["rfd[colour]"], frechet_distance(*moments), rtol=1e-4, atol=1e-8)
    assert result["rfd[colour]/num_generated"] == 12
    assert result["rfd[colour]/real_against_real"] > 0


def test_only_the_published_network_makes_an_rfvd(monkeypatch) -> None:
    class Fake(fvd.I3D):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.sha256 = "0" * 64

    assert ReconstructionFrechet(Fake(), 400, "mine").title == "rfd[mine]"
    network = Fake()
    network.sha256 = fvd.I3D_SHA256
    assert ReconstructionFrechet(network, 400, "mine").title == "rfvd"


# Latents


def posterior(num: int, seed: int) -> Gaussian:
    source = torch.Generator().manual_seed(seed)
    mean = torch.randn(num, 3, 2, 4, 4, generator=source) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1, 1) + 1
    mean[:, 2] = 0.5 * mean[:, 0]
    return Gaussian(mean, torch.randn(mean.shape, generator=source))


def test_latent_statistics() -> None:
    metric, parts = LatentStatistics(3), [LatentStatistics(3), LatentStatistics(3)]
    batches = [posterior(2, 1), posterior(5, 2)]
    for batch, part in zip(batches, parts, strict=True):
        metric.update(batch)
        part.update(batch)
    result = metric.compute()
    values = torch.cat([batch.mean.transpose(0, 1).flatten(1) for batch in batches], dim=1)
    torch.testing.assert_close(result["latent_mean"], values.mean(1))
    torch.testing.assert_close(result["latent_std"], values.std(1))
    assert result["latent_correlation"] == pytest.approx(1.0)
    kl = torch.cat([batch.kl().flatten() for batch in batches]).mean()
    torch.testing.assert_close(result["latent_kl"], kl)
    parts[0].merge_state(parts[1])
    for name, value in parts[0].compute().items():
        torch.testing.assert_close(value, result[name])
    with pytest.raises(ValueError, match="of 3 channels, got 2"):
        metric.update(Gaussian(*(part[:, :2] for part in batches[0])))
    metric.reset()
    with pytest.warns(UserWarning, match="before the"), pytest.raises(ValueError, match="at least 2 samples, got 0"):
        metric.compute()


def test_a_channel_that_never_changes_has_no_correlation() -> None:
    batch, metric = posterior(4, 1), LatentStatistics(3)
    batch.mean[:, 2] = 0.3
    metric.update(batch)
    result = metric.compute()
    assert result["latent_std"][2] == 0
    assert result["latent_correlation"] < 0.3
