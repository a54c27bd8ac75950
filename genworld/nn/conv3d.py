"""Causal convolutions over video, streamed with explicit memory.

Activations are stored as [B T H W C]: the memory layout "channels last", in which the 2D kernels of CPUs and GPUs are
fastest, and in which a linear layer over the channels is a 1x1 convolution without a copy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.ops.precision import without_autocast


class Memory:
    """What the causal layers remember of the frames before the present chunk: one object per stream.

    Layers hold no state of their own, so that one network can serve several streams at a time. A memory is *fresh*
    until its first chunk is done; the first chunk is the one that begins with the first frame of the video.
    """

    def __init__(self) -> None:
        self.fresh = True
        self._tails: dict[nn.Module, Tensor] = {}

    def recall(self, layer: nn.Module) -> Tensor | None:
        """The last frames that `layer` saw, or None before the first chunk."""
        return self._tails.get(layer)

    def keep(self, layer: nn.Module, tail: Tensor) -> None:
        """Remember the last frames that `layer` saw; copied, so that the chunk they came from can be freed."""
        self._tails[layer] = tail.clone()

    @classmethod
    def later(cls) -> Memory:
        """A memory of a stream that has begun, of which nothing is remembered."""
        memory = cls()
        memory.fresh = False
        return memory

    @property
    def num_bytes(self) -> int:
        """Size of everything remembered."""
        return sum(tail.nbytes for tail in self._tails.values())


def starts(memory: Memory | None) -> bool:
    """Whether the present frames begin a video: they do when it is processed whole, or in the first chunk."""
    return memory is None or memory.fresh


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of each frame: local in space and time.

    Keeps the type of its input under autocast (statistics are accumulated in float32 by the kernel); casting a whole
    video back and forth would cost more than the normalisation itself.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Normalise the last dimension."""
        with without_autocast(x):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class SpaceConv(nn.Conv2d):
    """A 3x3 convolution within each frame, zeros around it."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width, out_width, kernel_size=3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W D"]:
        """Convolve every frame; both layout changes are views."""
        frames = rearrange(x, "b t h w c -> (b t) c h w")
        return rearrange(super().forward(frames), "(b t) c h w -> b t h w c", b=x.shape[0])


class TimeConv(nn.Conv2d):
    """A causal convolution over three frames at each pixel: the present one and the two before it.

    Before the first frame of a video stands that frame, repeated: a still video then looks like an image.
    """

    REACH = 2

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width, out_width, kernel_size=(1 + self.REACH, 1))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "B T H W C"], memory: Memory | None = None) -> Float[Tensor, "B T H W D"]:
        """Convolve over time, as a 2D convolution over (time, pixels); both layout changes are views."""
        height = x.shape[2]
        before = memory.recall(self) if memory is not None else None
        if before is None:
            before = x[:, :1].expand(-1, self.REACH, -1, -1, -1)
        padded = torch.cat([before.to(x.dtype), x], dim=1)
        if memory is not None:
            memory.keep(self, padded[:, -self.REACH :])
        flat = rearrange(padded, "b t h w c -> b c t (h w)")
        return rearrange(super().forward(flat), "b c t (h w) -> b t h w c", h=height)


def fold(
    x: Float[Tensor, "B F H W C"], frames: int, size: int, memory: Memory | None = None
) -> Float[Tensor, "B T h w D"]:
    """Move blocks of `frames` x `size` x `size` pixels into the channels.

    1 + n * `frames` frames become 1 + n: the first frame is repeated to fill its block.

    Raises:
        ValueError: the frames do not fill the blocks.
    """
    if starts(memory) and frames > 1:
        x = torch.cat([x[:, :1].expand(-1, frames - 1, -1, -1, -1), x], dim=1)
    if x.shape[1] % frames:
        form = f"1 + {frames} n" if starts(memory) else f"{frames} n"
        raise ValueError(f"cannot fold {x.shape[1]} frames (repeats of the first included): expected {form}")
    return rearrange(x, "b (t q) (h r) (w s) c -> b t h w (q r s c)", q=frames, r=size, s=size)


def unfold(
    x: Float[Tensor, "B T h w D"], frames: int, size: int, memory: Memory | None = None
) -> Float[Tensor, "B F H W C"]:
    """The inverse of `fold`: of the first block only the last frame is kept."""
    x = rearrange(x, "b t h w (q r s c) -> b (t q) (h r) (w s) c", q=frames, r=size, s=size)
    return x[:, frames - 1 :] if starts(memory) and frames > 1 else x
