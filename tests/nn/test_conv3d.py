import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from genworld.nn.conv3d import ChannelNorm, Memory, SpaceConv, TimeConv, fold, unfold


def test_space_and_time_convolutions_equal_a_dense_one():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, 7, 3)
    space, time = SpaceConv(3, 4), TimeConv(4, 5)
    y = time(space(x))
    dense = rearrange(x, "b t h w c -> b c t h w")
    dense = F.conv3d(dense, space.weight[:, :, None], space.bias, padding=(0, 1, 1))
    dense = torch.cat([dense[:, :, :1], dense[:, :, :1], dense], dim=2)
    dense = F.conv3d(dense, time.weight[..., None], time.bias)
    torch.testing.assert_close(y, rearrange(dense, "b c t h w -> b t h w c"), atol=1e-5, rtol=1e-5)


def test_activations_stay_channels_last():
    x = torch.randn(1, 3, 8, 8, 16)
    assert SpaceConv(16, 8)(x).is_contiguous()
    assert TimeConv(16, 8)(x).is_contiguous()


@pytest.mark.parametrize("chunks", [(1, 1, 1, 1, 1), (2, 3), (1, 4), (4, 1)])
def test_time_convolution_streams(chunks):
    torch.manual_seed(0)
    x, conv, memory = torch.randn(1, 5, 2, 2, 3), TimeConv(3, 3), Memory()
    parts = [conv(part, memory) for part in x.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), conv(x))


def test_memory_keeps_two_frames_and_no_view_of_the_chunk():
    memory, conv = Memory(), TimeConv(3, 3)
    conv(torch.randn(1, 50, 2, 2, 3), memory)
    assert memory.num_bytes == 2 * 2 * 2 * 3 * 4
    tail = memory.recall(conv)
    assert tail is not None
    assert tail.untyped_storage().nbytes() == memory.num_bytes


def test_norm_keeps_its_type_under_autocast():
    norm = ChannelNorm(8)
    x = torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), norm(x), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("frames", "size"), [(1, 2), (2, 2), (4, 1)])
def test_unfold_inverts_fold(frames, size):
    x = torch.randn(2, 9, 4, 6, 3)
    folded = fold(x, frames, size)
    assert folded.shape == (2, 1 + 8 // frames, 4 // size, 6 // size, 3 * frames * size**2)
    torch.testing.assert_close(unfold(folded, frames, size), x)


def test_first_block_holds_the_first_frame_repeated():
    x = torch.randn(1, 5, 1, 1, 1)
    assert fold(x, 4, 1)[0, 0].flatten().tolist() == x[0, :1].flatten().tolist() * 4


def test_fold_refuses_frames_that_do_not_fit():
    with pytest.raises(ValueError, match=r"1 \+ 4 n"):
        fold(torch.zeros(1, 4, 2, 2, 3), 4, 1)
