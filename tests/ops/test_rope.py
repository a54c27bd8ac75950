import pytest
import torch

from genworld.ops.rope import apply_rope, rope_table, rotate_pairs, wan_split


def test_split_is_wans():
    assert wan_split(128) == (44, 42, 42)
    assert all(sum(wan_split(width)) == width and min(wan_split(width)) >= 2 for width in range(6, 130, 2))


@pytest.mark.parametrize("width", [5, 4, 63])
def test_narrow_or_odd_heads_are_refused(width):
    with pytest.raises(ValueError, match="even head width"):
        wan_split(width)


def test_split_must_add_up():
    with pytest.raises(ValueError, match="add up to 16"):
        rope_table(torch.zeros(2, 3), 16, split=(8, 4, 2))


def test_fast_and_readable_twin_agree_in_values_and_gradients():
    cos, sin = rope_table(torch.rand(7, 3) * 50, 16)
    x = torch.randn(7, 2, 16, requires_grad=True)
    weight = torch.randn(7, 2, 16)
    fast, slow = apply_rope(x, cos, sin), rotate_pairs(x, cos, sin)
    torch.testing.assert_close(fast, slow)
    grads = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (fast, slow)]
    torch.testing.assert_close(*grads)


def test_only_differences_of_positions_matter():
    positions = torch.randint(0, 20, (6, 3)).float()
    q, k = torch.randn(2, 6, 1, 32, dtype=torch.float32)
    shift = torch.tensor([3.0, -5.0, 11.0])

    def scores(at):
        table = rope_table(at, 32)
        return torch.einsum("lnk,snk->ls", apply_rope(q, *table), apply_rope(k, *table))

    torch.testing.assert_close(scores(positions), scores(positions + shift), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores(positions), scores(positions * 2), atol=1e-2)


def test_every_axis_matters():
    q, k = torch.randn(2, 1, 1, 16)
    here = rope_table(torch.zeros(1, 3), 16)
    origin = (apply_rope(q, *here) * apply_rope(k, *here)).sum()
    for axis in torch.eye(3):
        there = rope_table(axis[None], 16)
        assert (apply_rope(q, *there) * apply_rope(k, *here)).sum().sub(origin).abs() > 1e-4


def test_table_is_float32_and_follows_theta():
    cos, sin = rope_table(torch.tensor([[1, 0, 0]]), 16, theta=256.0)
    assert cos.dtype == sin.dtype == torch.float32
    expected = torch.tensor([256.0 ** -(i / 8) for i in range(0, 8, 2)])
    torch.testing.assert_close(torch.atan2(sin, cos)[0, :4], expected)
    assert (sin[0, 4:] == 0).all()
