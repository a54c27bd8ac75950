"""FVD's protocol and its network's file, and the formulas of JEDi and cd-FVD."""

import hashlib

import pytest
import torch
from torch import Tensor, nn

from genworld.eval import fvd
from genworld.eval.frechet import low_rank_frechet_distance, moments_of
from genworld.eval.fvd import CDFVD, FVD, I3D, FVDProtocol, JEDi, cd_fvd_input, jedi_input, polynomial_mmd


class FakeI3D(nn.Module):
    """With the interface of the TorchScript file, and batch norm, which must not be left in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(48)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert [rescale, resize, return_features] == [True, True, True]
        assert bool((x == x.floor()).all())
        assert 100.0 < float(x.max()) - float(x.min()) <= 255.0
        summary = torch.cat([x.mean(dim=[3, 4]).flatten(1), x.std(dim=[3, 4]).flatten(1)], dim=1)
        return self.norm(summary[:, :48]).repeat(1, 9)[:, :400]


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> tuple[str, object]:
    path = tmp_path_factory.mktemp("i3d") / "i3d_torchscript.pt"
    torch.jit.script(FakeI3D()).save(str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest(), path


@pytest.fixture
def detector(network, monkeypatch) -> I3D:
    """The fake as if it were the published file."""
    sha256, path = network
    monkeypatch.setattr(fvd, "I3D_SHA256", sha256)
    return I3D(path, sha256)


def videos(num: int, seed: int, frames: int = 16) -> Tensor:
    return torch.rand(num, 3, frames, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# The file


def test_another_file_is_not_run(network, monkeypatch) -> None:
    _, path = network
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: pytest.fail("it was run"))
    with pytest.raises(ValueError, match=r"bytes\) has the sha256 [0-9a-f]{64}, expected was bec6519f.*was not run"):
        I3D(path)
    with pytest.raises(ValueError, match="does not exist"):
        I3D(path.with_name("none.pt"))


def test_logits_do_not_depend_on_the_batch_nor_on_the_mode(detector) -> None:
    clips = videos(5, 1)
    logits = detector(clips)
    assert logits.shape == (5, 400)
    detector.train()
    torch.testing.assert_close(torch.cat([detector(clip[None]) for clip in clips]), logits)
    assert not any(module.training for module in detector.modules())
    with pytest.raises(ValueError, match="at least 10 frames, got 9"):
        detector(videos(1, 1, frames=9))


def test_pixels_become_the_levels_they_were_stored_as() -> None:
    levels = torch.arange(256.0)
    assert torch.equal(fvd._levels(levels / 127.5 - 1), levels)
    assert torch.equal(fvd._levels((levels / 127.5 - 1).bfloat16()[[0, 255]]), levels[[0, 255]])


# The protocol


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fvd2048_16f", FVDProtocol(2048, 16)),
        ("fvd2048_128f", FVDProtocol(2048, 128)),
        ("fvd2048_128f_subsample8f", FVDProtocol(2048, 16, 8)),
        ("fvd256_17f", FVDProtocol(256, 17)),
    ],
)
def test_names(name, expected) -> None:
    protocol = FVDProtocol.named(name)
    assert protocol == expected
    assert protocol.name == name


@pytest.mark.parametrize("name", ["fvd", "FVD2048_16f", "fvd2048_16", "fvd2048_16f_subsample3f", "fvd0_16f"])
def test_other_names(name) -> None:
    with pytest.raises(ValueError, match=name):
        FVDProtocol.named(name)


def test_frames_of_clips() -> None:
    protocol = FVDProtocol.named("fvd2048_12f_subsample4f")
    assert protocol.pick(100, None) == [0, 4, 8]
    assert protocol.pick(11, None) is None
    chance = torch.Generator().manual_seed(0)
    picked = [protocol.pick(14, chance) or [] for _ in range(100)]
    assert {frames[0] for frames in picked} == {0, 1, 2, 3, 4, 5}  # the last is 5, 9, 13 of 0 … 13
    assert all(frames == [frames[0] + 4 * i for i in range(3)] for frames in picked)


def test_a_result_has_the_name_of_its_protocol(detector) -> None:
    metric = FVD("fvd12_16f", detector)
    metric.update(videos(12, 1), real=True, fps=8, positions=range(12))
    metric.update(0.5 * videos(12, 2) + 0.5, real=False, fps=8)
    result = metric.compute()
    assert result["fvd12_16f"] > result["fvd12_16f/real_against_real"] > 0
    assert result["fvd12_16f/covariance"] == "biased"
    assert result["fvd12_16f/num_features"] == 400
    metric.update(videos(1, 3), real=False, fps=8)
    with pytest.raises(ValueError, match="of 12 generated videos and at most as many real ones, got 13 and 12"):
        metric.compute()
    with pytest.raises(ValueError, match="clips of 16 frames, got 17"):
        metric.update(videos(1, 3, frames=17), real=False, fps=8)


def test_only_the_published_network_makes_an_fvd(network) -> None:
    sha256, path = network
    assert FVD("fvd2048_16f", I3D(path, sha256)).title == f"fd[i3d_{sha256[:8]}]"
    with pytest.raises(ValueError, match="only the features of I3D make an FVD, got Flatten"):
        FVD("fvd2048_16f", nn.Flatten())  # type: ignore[arg-type]


# JEDi


A = torch.arange(1, 10).reshape(3, 3)
B = torch.tensor([[7, 6, 5], [4, 3, 2], [1, 1, 8], [0, 2, 5]])


def test_the_kernel_of_jedi() -> None:
    """The check values in JEDi's own source, where the second is told of another kernel."""
    assert polynomial_mmd(A, B).item() == pytest.approx(270.7222, abs=1e-4)
    assert polynomial_mmd(A, B, gamma=1).item() == pytest.approx(2436.5, abs=0.05)


def test_running_moments_give_the_same_jedi() -> None:
    metric = JEDi(lambda pixels: pixels.mean((3, 4)).flatten(1), 6, "mean")
    assert metric.distance(moments_of(A[:, :3]), moments_of(B)).item() * (6 / 3) ** 2 == pytest.approx(
        27072.22, abs=0.01
    )
    real, generated = videos(9, 1, frames=2), 0.7 * videos(8, 2, frames=2) + 0.2
    metric.update(real, real=True, fps=8, positions=range(9))
    for clip in generated:
        metric.update(clip[None], real=False, fps=8)
    result = metric.compute()
    one, two = (clips.mean((3, 4)).flatten(1) for clips in (real, generated))
    torch.testing.assert_close(result["jedi[mean]"], 100 * polynomial_mmd(one, two))
    halves = 100 * polynomial_mmd(one[::2], one[1::2])
    torch.testing.assert_close(result["jedi[mean]/real_against_real"], halves)
    assert result["jedi[mean]/num_generated"] == 8


@pytest.mark.parametrize(("num", "expected"), [(256, 0.0399), (1024, 0.0095)])
def test_what_noise_scores_against_itself(num, expected) -> None:
    """Uniform noise of JEDi's 1,280 features: pairs of equals are included, which costs about 9.7 / N."""
    chance = torch.Generator().manual_seed(0)
    one, two = torch.rand(2, num, 1280, dtype=torch.float64, generator=chance)
    metric = JEDi(lambda pixels: pixels, 1280, "noise")
    assert metric.distance(moments_of(one), moments_of(two)).item() == pytest.approx(expected, rel=0.08)


def test_cd_fvd_with_an_encoder_of_ones_own() -> None:
    def encode(pixels: Tensor) -> Tensor:
        assert pixels.shape[2:] == (16, 224, 224)
        return pixels[:, :, ::8, ::64, ::64].double().flatten(1)[:, :7]

    metric = CDFVD(encode, 7, "corner")
    real, generated = videos(6, 1), videos(5, 2)
    metric.update(real, real=True, fps=8, positions=range(6))
    metric.update(generated, real=False, fps=8, positions=range(5))
    result = metric.compute()
    expected = low_rank_frechet_distance(encode(cd_fvd_input(real)), encode(cd_fvd_input(generated)), "biased")
    torch.testing.assert_close(result["cd_fvd[corner]"], expected, rtol=1e-6, atol=1e-9)
    assert result["cd_fvd[corner]/covariance"] == "biased"
    with pytest.raises(ValueError, match="of 16 frames, got 17"):
        metric.update(videos(1, 1, frames=17), real=False, fps=8)
    with pytest.raises(ValueError, match="in training mode"):
        CDFVD(torch.nn.Linear(2, 2), 2, "linear")


def test_other_kernels() -> None:
    one, two = normal_features(7, 1), normal_features(9, 2)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (0.5 * x @ y.T + 2).pow(3).mean()

    expected = kernel(one, one) + kernel(two, two) - 2 * kernel(one, two)
    torch.testing.assert_close(polynomial_mmd(one, two, degree=3, coef0=2, gamma=0.5), expected)


def normal_features(num: int, seed: int) -> Tensor:
    return torch.randn(num, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_what_encoders_want_to_see() -> None:
    clips = videos(2, 1).repeat(1, 1, 1, 3, 2)
    seen = cd_fvd_input(clips)
    assert seen.shape == (2, 3, 16, 224, 224)
    assert 0 <= seen.min() < 0.05
    assert 0.95 < seen.max() <= 1
    grey = torch.full((1, 3, 16, 224, 224), 101 / 127.5 - 1)
    torch.testing.assert_close(cd_fvd_input(grey), torch.full_like(grey, 101 / 255))
    colours = jedi_input(grey)[0, :, 0, 0, 0]
    expected = [(101 / 255 - mean) / deviation for mean, deviation in zip(*fvd._IMAGENET, strict=True)]
    assert colours.tolist() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="of 16 frames, got 17"):
        cd_fvd_input(videos(1, 1, frames=17))
    with pytest.raises(ValueError, match=r"224 x 224 pixels, got \[12, 8\]"):
        jedi_input(clips)
