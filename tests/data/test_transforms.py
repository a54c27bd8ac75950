from __future__ import annotations

import math

import pytest
import torch

from genworld.data.transforms import fit, to_pixels
from genworld.ops.pictures import to_uint8


def disc(height: int, width: int, radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2 < radius**2
    return (inside[None, ..., None] * 255).expand(1, height, width, 3).to(torch.uint8)


@pytest.mark.parametrize("size", [(64, 64), (48, 112), (112, 48), (90, 160), (200, 200)])
def test_nothing_is_stretched(size: tuple[int, int]) -> None:
    """A disc in the middle stays a centred disc, whatever the source and target shapes."""
    source = (180, 320)
    out = fit(disc(*source, radius=40), *size)
    assert tuple(out.shape) == (1, *size, 3)
    scale = max(size[0] / source[0], size[1] / source[1])
    mass = out[0, ..., 0].float() / 255
    assert mass.sum() == pytest.approx(math.pi * (40 * scale) ** 2, rel=0.03)
    assert (mass.sum(0) > 0.5).sum() == pytest.approx(80 * scale, abs=2)
    assert (mass.sum(1) > 0.5).sum() == pytest.approx(80 * scale, abs=2)
    for axis, length in enumerate(size):
        centre = (mass.sum(1 - axis) * torch.arange(length)).sum() / mass.sum()
        assert centre == pytest.approx((length - 1) / 2, abs=0.5 * scale + 0.01)  # an odd crop is half a pixel off


def test_shrinking_is_antialiased() -> None:
    stripes = (torch.arange(256) % 2 * 255).to(torch.uint8)[None, None, :, None].expand(1, 256, 256, 3)
    assert (fit(stripes, 30, 30).float() - 127.5).abs().max() < 6


def test_same_size_is_untouched() -> None:
    frames = torch.randint(0, 256, (2, 8, 10, 3), dtype=torch.uint8)
    assert torch.equal(fit(frames, 8, 10), frames)


def test_extreme_shapes_keep_at_least_a_pixel() -> None:
    assert fit(torch.zeros(1, 4, 500, 3, dtype=torch.uint8), 320, 8).shape == (1, 320, 8, 3)


def test_pixels_round_trip() -> None:
    frames = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    pixels = to_pixels(frames)
    assert tuple(pixels.shape) == (3, 1, 16, 16)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    assert torch.equal(to_uint8(pixels), frames)
    assert to_uint8(torch.full((3, 1, 1, 1), 1.7)).max() == 255
