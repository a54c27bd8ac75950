from dataclasses import replace

import pytest
import torch

from genworld.models.condition import Piece, pack_video, unpack_video
from genworld.types import TokenGrid

GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)


def test_round_trip_of_ragged_latents():
    shapes = [(3, 4, 6), (1, 2, 2), (2, 8, 4)]
    latents = [torch.randn(4, *shape) for shape in shapes]
    video = pack_video([[Piece(x, torch.tensor(0.5), 8.0)] for x in latents], GRID)
    assert video.segments.lengths == (18, 1, 16)
    assert video.tokens.shape == (35, 16)
    for x, y in zip(latents, unpack_video(video.tokens, video.segments, shapes, 2), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(("fps", "step"), [(16.0, 1.0), (8.0, 2.0), (32.0, 0.5), (24.0, 2 / 3)])
def test_time_is_quarter_seconds(fps, step):
    video = pack_video([[Piece(torch.zeros(1, 4, 2, 2), torch.tensor(0.0), fps)]], GRID)
    torch.testing.assert_close(video.positions[:, 0], step * torch.arange(4.0))


def test_positions_follow_tokens():
    video = pack_video([[Piece(torch.zeros(1, 2, 4, 6), torch.tensor(0.0), 16.0)]] * 2, GRID)
    expected = [[t, h, w] for t in range(2) for h in range(2) for w in range(3)]
    assert video.positions.tolist() == expected * 2


def test_levels_per_video_frame_and_token():
    mask = torch.tensor([[[0.0, 1.0]], [[0.5, 0.25]]])
    levels = [torch.tensor(0.5), torch.tensor([0.0, 1.0])[:, None, None], mask]
    video = pack_video([[Piece(torch.zeros(1, 2, 2, 4), level, 8.0)] for level in levels], GRID)
    assert video.levels.tolist() == [0.5] * 4 + [0, 0, 1, 1] + [0, 1, 0.5, 0.25]


@pytest.mark.parametrize("shape", [(2,), (3, 1, 1), (2, 2, 4), (1, 2, 1, 2)])
def test_levels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"do not fit a video of \(2, 1, 2\) patches"):
        pack_video([[Piece(torch.zeros(1, 2, 2, 4), torch.zeros(shape), 8.0)]], GRID)


def test_rates_are_checked():
    with pytest.raises(ValueError, match="frame rate must be positive, got 0"):
        pack_video([[Piece(torch.zeros(1, 1, 2, 2), torch.tensor(0.0), 0.0)]], GRID)


def test_pieces_lie_at_their_own_time_behind_the_first():
    main = Piece(torch.randn(1, 3, 2, 4), torch.tensor(0.7), 8.0)
    image = Piece(torch.randn(1, 1, 2, 4), torch.tensor(0.0), 8.0, start=1.0, use=torch.tensor([[[True, False]]]))
    alone = Piece(torch.randn(1, 1, 2, 2), torch.tensor(1.0), 8.0)
    video = pack_video([[main, image], [alone]], GRID)
    assert video.segments.lengths == (7, 1)
    assert video.positions[6].tolist() == [4.0, 0.0, 0.0]
    assert video.levels.tolist() == pytest.approx([0.7] * 6 + [0.0, 1.0])
    first, second = unpack_video(video.tokens, video.segments, [(3, 2, 4), (1, 2, 2)], 2)
    assert torch.equal(first, main.latents)
    assert torch.equal(second, alone.latents)


def test_rays_come_with_a_flag_and_only_where_a_piece_has_them():
    rays = torch.randn(1, 1, 2, 12)
    known = Piece(torch.zeros(1, 1, 2, 4), torch.tensor(0.0), 8.0, rays=rays)
    unknown = replace(known, rays=None)
    video = pack_video([[known], [unknown]], GRID)
    told = torch.cat([rays.flatten(0, 2), torch.ones(2, 1)], dim=1)
    assert torch.equal(video.rays, torch.cat([told, torch.zeros(2, 13)]))
    assert pack_video([[unknown]], GRID).rays is None


def test_larger_frames_can_be_laid_closer():
    piece = Piece(torch.zeros(1, 2, 2, 8), torch.tensor(0.0), 16.0, space_scale=0.5)
    video = pack_video([[piece]], GRID)
    assert video.positions[:, 2].tolist() == [0.0, 0.5, 1.0, 1.5] * 2
    assert video.positions[:, 0].tolist() == [0.0] * 4 + [1.0] * 4
