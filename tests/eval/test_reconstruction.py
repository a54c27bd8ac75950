import pytest
import torch

from genworld.eval.reconstruction import Reconstruction, ssim
from genworld.ops.quality import psnr


def clips(frames: int) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def test_psnr_of_known_errors():
    real = clips(5)
    torch.testing.assert_close(psnr(real, real + 0.02), torch.full((2,), 40.0), atol=1e-2, rtol=0)
    assert psnr(real, real).tolist() == [100.0, 100.0]


def test_ssim_of_equal_clips_is_one():
    assert ssim(clips(2), clips(2)).tolist() == pytest.approx([1.0, 1.0])
    assert (ssim(clips(2), clips(2).flip(-1)) < 0.5).all()


def test_first_and_later_frames_are_told_apart():
    real, metric = clips(5), Reconstruction()
    other = real.clone()
    other[:, :, 1:] += 0.02
    metric.update(real, other)
    result = metric.compute()
    assert result["psnr_first"] == 100.0
    assert result["psnr_later"] == pytest.approx(40.0, abs=0.01)
    assert 40.0 < result["psnr"] < 41.0


def test_the_mean_is_over_clips_not_over_updates():
    real, together, apart = clips(1), Reconstruction(), Reconstruction()
    other = real + torch.tensor([0.02, 0.2]).view(2, 1, 1, 1, 1)
    together.update(real, other)
    for one, two in zip(real, other, strict=True):
        apart.update(one[None], two[None])
    assert together.compute()["psnr"] == pytest.approx(apart.compute()["psnr"].item())
    assert "psnr_later" not in together.compute()
