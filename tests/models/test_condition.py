import pytest
import torch

from genworld.models.condition import pack_video, unpack_video
from genworld.types import TokenGrid

GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)


def test_round_trip_of_ragged_latents():
    shapes = [(3, 4, 6), (1, 2, 2), (2, 8, 4)]
    latents = [torch.randn(4, *shape) for shape in shapes]
    video = pack_video(latents, [torch.tensor(0.5)] * 3, [8.0] * 3, GRID)
    assert video.segments.lengths == (18, 1, 16)
    assert video.tokens.shape == (35, 16)
    for x, y in zip(latents, unpack_video(video.tokens, shapes, 2), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(("fps", "step"), [(16.0, 1.0), (8.0, 2.0), (32.0, 0.5), (24.0, 2 / 3)])
def test_time_is_quarter_seconds(fps, step):
    video = pack_video([torch.zeros(1, 4, 2, 2)], [torch.tensor(0.0)], [fps], GRID)
    torch.testing.assert_close(video.positions[:, 0], step * torch.arange(4.0))


def test_positions_follow_tokens():
    video = pack_video([torch.zeros(1, 2, 4, 6)] * 2, [torch.tensor(0.0)] * 2, [16.0] * 2, GRID)
    expected = [[t, h, w] for t in range(2) for h in range(2) for w in range(3)]
    assert video.positions.tolist() == expected * 2


def test_levels_per_video_frame_and_token():
    latents = [torch.zeros(1, 2, 2, 4)] * 3
    mask = torch.tensor([[[0.0, 1.0]], [[0.5, 0.25]]])
    video = pack_video(latents, [torch.tensor(0.5), torch.tensor([0.0, 1.0])[:, None, None], mask], [8.0] * 3, GRID)
    assert video.levels.tolist() == [0.5] * 4 + [0, 0, 1, 1] + [0, 1, 0.5, 0.25]


@pytest.mark.parametrize("shape", [(2,), (3, 1, 1), (2, 2, 4), (1, 2, 1, 2)])
def test_levels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"do not fit a video of \(2, 1, 2\) patches"):
        pack_video([torch.zeros(1, 2, 2, 4)], [torch.zeros(shape)], [8.0], GRID)


def test_counts_and_rates_are_checked():
    with pytest.raises(ValueError, match="1 latents, 2 levels and 1 frame rates"):
        pack_video([torch.zeros(1, 1, 2, 2)], [torch.tensor(0.0)] * 2, [8.0], GRID)
    with pytest.raises(ValueError, match="frame rate must be positive, got 0"):
        pack_video([torch.zeros(1, 1, 2, 2)], [torch.tensor(0.0)], [0.0], GRID)
