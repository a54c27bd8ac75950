import math

import pytest
import torch

from genworld.ops.positions import sine_table, voxel_positions, with_positions


def test_golden_values_of_3dllm():
    table = sine_table(256, 1408 // 3)
    assert table.shape == (256, 469)
    torch.testing.assert_close(table[1, :4], torch.tensor([0.841471, 0.540302, 0.820088, 0.572237]), atol=1e-6, rtol=0)
    torch.testing.assert_close(table[255, :2], torch.tensor([-0.506392, -0.862304]), atol=1e-5, rtol=0)
    assert table[3, 468].item() == pytest.approx(math.sin(3 * 10000 ** (-468 / 470)), abs=1e-7)


def test_axes_stand_side_by_side_and_the_rest_is_zero():
    encoded = voxel_positions(torch.tensor([[1, 0, 255]]), 1408)
    table = sine_table(256, 469)
    assert torch.equal(encoded[0, :1407], torch.cat([table[1], table[0], table[255]]))
    assert encoded[0, 1407] == 0
    with pytest.raises(ValueError, match="0 to 255, got 1 to 256"):
        voxel_positions(torch.tensor([[1, 256, 3]]), 1408)


def test_the_three_ways():
    features = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    voxels = torch.randint(0, 256, (2, 5, 3), generator=torch.Generator().manual_seed(1))
    positions = voxel_positions(voxels, 16)
    torch.testing.assert_close(with_positions(features, voxels, "add"), features + 0.01 * positions)
    tokens = with_positions(features, voxels, "tokens")
    assert torch.equal(tokens[:, :5], features)
    assert torch.equal(tokens[:, 5:], positions)
    channels = with_positions(features, voxels, "channels")
    assert torch.equal(channels[..., :16], features)
    assert torch.equal(channels[..., 16:], positions)
