import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genworld.ops.patches import patchify, unpatchify

size = st.integers(1, 4)


@settings(max_examples=25, deadline=None)
@given(channels=size, time=size, rows=size, columns=size, patch=st.integers(1, 3))
def test_round_trip(channels, time, rows, columns, patch):
    latents = torch.randn(channels, time, rows * patch, columns * patch)
    tokens = patchify(latents, patch)
    assert tokens.shape == (time * rows * columns, channels * patch**2)
    assert torch.equal(unpatchify(tokens, tuple(latents.shape[1:]), patch), latents)


def test_order_of_tokens_and_features():
    latents = torch.arange(2 * 2 * 4 * 4).reshape(2, 2, 4, 4)
    tokens = patchify(latents, 2)
    # frame 1, row 0, column 1: the upper right square, channel by channel
    assert tokens[1 * 4 + 0 * 2 + 1].tolist() == [*latents[0, 1, :2, 2:].flatten(), *latents[1, 1, :2, 2:].flatten()]


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="5x4 cannot be cut"):
        patchify(torch.zeros(1, 1, 5, 4), 2)
    with pytest.raises(ValueError, match="7 tokens"):
        unpatchify(torch.zeros(7, 4), (2, 4, 4), 2)
