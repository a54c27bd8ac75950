"""Rows that a mask chooses."""

import torch

from genworld.ops.masks import true_rows


def test_true_rows_are_those_of_nonzero():
    mask = torch.tensor([0.0, -1.5, 0.0, 2.0, float("nan")])
    assert torch.equal(true_rows(mask), mask.nonzero()[:, 0])
    assert torch.equal(true_rows(mask > 0), torch.tensor([3]))
    assert true_rows(mask > 5).dtype == torch.int64
    assert len(true_rows(torch.zeros(0, dtype=torch.bool))) == 0
