import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genworld.ops.ragged import Segments, pack, unpack

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(lengths)
def test_pack_round_trip(sizes):
    sequences = [torch.randn(n, 2, 3) for n in sizes]
    packed, segments = pack(sequences)
    assert packed.shape == (sum(sizes), 2, 3)
    assert segments.total == sum(sizes)
    assert segments.longest == max(sizes)
    assert segments.equal == (len(set(sizes)) == 1)
    for x, y in zip(sequences, unpack(packed, segments), strict=True):
        assert torch.equal(x, y)


@settings(max_examples=25, deadline=None)
@given(lengths)
def test_offsets_and_ids_describe_the_same_segments(sizes):
    segments = Segments(tuple(sizes))
    offsets = segments.offsets()
    assert offsets.dtype == torch.int32
    assert offsets.diff().tolist() == sizes
    assert segments.ids().bincount().tolist() == sizes
    assert (segments.ids().diff() >= 0).all()


def test_segments_compare_by_lengths_whatever_was_cached():
    first, second = Segments((2, 3)), Segments((2, 3))
    first.offsets()
    assert first == second
    assert hash(first) == hash(second)
    assert first != Segments((3, 2))


@pytest.mark.parametrize("sizes", [(), (3, 0)])
def test_empty_segments_are_refused(sizes):
    with pytest.raises(ValueError, match="at least one token"):
        Segments(sizes)


def test_unpack_checks_the_total():
    with pytest.raises(ValueError, match="5 tokens, but the pack has 4"):
        unpack(torch.zeros(4, 2), Segments((2, 3)))
