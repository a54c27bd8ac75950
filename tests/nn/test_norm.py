import pytest
import torch
from torch.nn import functional as F

from genworld.nn.norm import LayerNorm, RMSNorm, layer_norm, rms_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12)], ids=str)
def test_rms_norm_is_torchs(dtype, shape):
    x = torch.randn(shape).to(dtype).requires_grad_()
    weight = torch.randn(12, requires_grad=True)
    grad = torch.randn(shape)
    fast = rms_norm(x, weight, 1e-5)
    slow = F.rms_norm(x.float(), (12,), weight, 1e-5)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, slow)
    for mine, theirs in zip(*(torch.autograd.grad(out, (x, weight), grad) for out in (fast, slow)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1.6e-2 if dtype == torch.bfloat16 else 1e-5)


def test_norms_stay_float32_under_autocast():
    x = torch.randn(4, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert {f(x).dtype for f in (RMSNorm(8), LayerNorm(8), layer_norm)} == {torch.float32}
