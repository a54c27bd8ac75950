import torch

from genworld.nn.attention import CrossAttention, SelfAttention
from genworld.nn.mlp import MLP
from genworld.ops.attention import CrossSegments, SelfSegments
from genworld.ops.ragged import Segments
from genworld.ops.rope import rope_table


def test_self_attention_has_no_order_but_positions():
    torch.manual_seed(0)
    layer = SelfAttention(32, 2)
    x, positions = torch.randn(6, 32), torch.randint(0, 9, (6, 3)).float()
    mask, order = SelfSegments(Segments((6,))), torch.randperm(6)
    out = layer(x, rope_table(positions, 16), mask)
    torch.testing.assert_close(layer(x[order], rope_table(positions[order], 16), mask), out[order])
    assert not torch.allclose(layer(x, rope_table(positions * 3, 16), mask), out, atol=1e-4)


def test_scale_of_the_input_does_not_sharpen_attention():
    torch.manual_seed(0)
    layer = CrossAttention(32, 2)
    mask = CrossSegments(Segments((3,)), Segments((5,)))
    x, text = torch.randn(3, 32), torch.randn(5, 32)
    torch.nn.init.zeros_(layer.q.bias)
    torch.testing.assert_close(layer(100 * x, text, mask), layer(x, text, mask), atol=1e-4, rtol=1e-4)


def test_activations_differ_only_by_the_approximation():
    torch.manual_seed(0)
    tanh, exact = MLP(8, 16, 8, "gelu_tanh"), MLP(8, 16, 8, "gelu")
    exact.load_state_dict(tanh.state_dict())
    x = torch.randn(4, 8)
    difference = (tanh(x) - exact(x)).abs().max()
    assert 0 < difference < 1e-2
