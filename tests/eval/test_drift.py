"""Drift is what it says it is, whatever the chunks, and keeps no frames."""

import pytest
import torch

from genworld.eval.drift import BINS, Drift, DriftMeter, gradient_energy, histograms


def measure(pixels: torch.Tensor, fps: float, *chunks: int) -> Drift:
    meter = DriftMeter(fps)
    for part in pixels.split(list(chunks) or pixels.shape[1], dim=1):
        meter.update(part)
    return meter.compute()


def noise(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, frames, 12, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_still_video_does_not_drift() -> None:
    drift = measure(noise(1).expand(3, 40, 12, 16), 8.0)
    assert drift.colour == pytest.approx(0, abs=1e-6)
    assert drift.sharpness == pytest.approx(1)


def test_colour_is_the_distance_that_values_move() -> None:
    from_black_to_white = torch.linspace(-1, 1, 40)[None, :, None, None].expand(3, 40, 12, 16)
    assert measure(from_black_to_white, 1.0).colour == pytest.approx(1)
    one_channel = torch.full((3, 16, 12, 16), -1.0)
    one_channel[0, 8:] = 0.0
    assert measure(one_channel, 8.0).colour == pytest.approx(1 / 6, abs=1 / BINS)  # half the range, of one of three


def test_sharpness_is_a_ratio_of_energies() -> None:
    pixels = noise(24)
    pixels[:, 16:] *= 0.5
    drift = measure(pixels, 8.0)
    expected = 0.25 * gradient_energy(noise(24)[:, 16:]).mean() / gradient_energy(noise(24)[:, :8]).mean()
    assert drift.sharpness == pytest.approx(expected.item(), rel=1e-4)


def test_gradient_energy_of_a_ramp() -> None:
    ramp = torch.linspace(-1, 1, 9)[None, None, None, :].expand(3, 2, 5, 9)
    torch.testing.assert_close(gradient_energy(ramp), torch.full((2,), 0.25**2))
    torch.testing.assert_close(gradient_energy(ramp.mT), torch.full((2,), 0.25**2))


def test_every_pixel_is_counted_once() -> None:
    counts = histograms(torch.tensor([-1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 4).expand(3, 2, 1, 4)).view(2, 3, BINS)
    torch.testing.assert_close(counts.sum(dim=2), torch.ones(2, 3))
    assert counts[0, 0, [0, BINS // 2, BINS - 1]].tolist() == [0.25, 0.25, 0.5]


def test_chunks_do_not_matter_and_only_the_ends_do() -> None:
    pixels = noise(40)
    whole = measure(pixels, 8.0)
    assert measure(pixels, 8.0, 1, 2, 30, 3, 4) == whole
    pixels[:, 8:32] = 0.0
    assert measure(pixels, 8.0) == whole


def test_a_short_video_is_compared_with_itself() -> None:
    drift = measure(noise(3), 8.0)
    assert drift.colour == 0
    assert drift.sharpness == 1
    assert "1.00" in str(drift)


def test_memory_does_not_grow() -> None:
    meter, sizes = DriftMeter(4.0), []
    for _ in range(10):
        meter.update(noise(6))
        sizes.append(sum(x.untyped_storage().nbytes() for x in (*meter._first, *meter._last)))
    assert len({*sizes[2:]}) == 1


def test_nothing_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="empty video"):
        DriftMeter(8.0).compute()
