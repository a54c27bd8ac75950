"""Given pixels are exact in the result, and what lies beside them has no seam."""

from __future__ import annotations

import torch

from genworld.tasks.given import Given
from genworld.tasks.paste import paste


def test_paste_keeps_only_what_is_known() -> None:
    video = torch.zeros(3, 5, 4, 4)
    known = torch.zeros(2, 4, 4, dtype=torch.bool)
    known[0, 1, 2] = True
    pasted = paste(video, [Given(torch.ones(3, 2, 4, 4), 3, known), Given(torch.ones(3, 5, 4, 4), strength=0.5)])
    assert pasted.nonzero()[:, 1:].unique(dim=0).tolist() == [[3, 1, 2]]


def test_no_seam_shows_where_kept_pixels_end() -> None:
    """Whatever was made: at the edge of what is kept it has been led over to it, and far from it nothing changed."""
    torch.manual_seed(0)
    kept, made = torch.full((3, 2, 24, 24), 0.5), torch.full((3, 2, 24, 24), -0.5) + 0.01 * torch.randn(3, 2, 24, 24)
    known = torch.ones(2, 24, 24, dtype=torch.bool)
    known[:, :, 8:] = False
    hard, soft = (paste(made, [Given(kept, known=known)], reach) for reach in ((0, 0), (0, 8)))
    assert torch.equal(soft[..., :8], kept[..., :8])
    assert torch.equal(soft[..., 17:], made[..., 17:])
    steps = [(x[..., 8] - x[..., 7]).abs().mean() for x in (hard, soft)]
    assert steps[0] > 0.9
    assert steps[1] < 0.05
    assert (soft.diff(dim=-1).abs().mean((0, 1, 2)) < 0.3).all()


def test_what_a_vae_loses_is_given_back_to_the_neighbours_of_given_frames() -> None:
    kept = torch.full((3, 2, 4, 4), 0.55)
    made = torch.full((3, 10, 4, 4), 0.5)
    made[:, 4, 0] = -0.5  # was made otherwise: is not let through
    result = paste(made, [Given(kept, first=3)], (4, 0))
    assert torch.equal(result[:, 3:5], kept)
    expected = [0.52, 0.53, 0.54]  # 0.05 times 2/5, 3/5, 4/5
    torch.testing.assert_close(result[0, :3, 1, 1], torch.tensor(expected))
    torch.testing.assert_close(result[0, 5:, 1, 1], torch.tensor([0.54, 0.53, 0.52, 0.51, 0.5]))
    assert (result[:, 5:, 0] - made[:, 5:, 0]).max() <= 0.1
