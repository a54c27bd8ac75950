"""From decoded frames to a model's pixels and back: size and value range.

Frames are resized here, in torch, and not inside FFmpeg's scaler: it costs about the same, and every reader then gives
the same pixels.
"""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from genworld.data.media import resize


def fit(frames: UInt8[Tensor, "F H W 3"], height: int, width: int) -> UInt8[Tensor, "F h w 3"]:
    """Cover `height` x `width` with the frames and keep the centre: nothing is stretched, nothing is padded.

    The crop comes first, in source pixels; resizing it is antialiased bicubic.
    """
    source_height, source_width = frames.shape[1:3]
    rows = min(source_height, max(round(source_width * height / width), 1))
    columns = min(source_width, max(round(source_height * width / height), 1))
    top, left = (source_height - rows) // 2, (source_width - columns) // 2
    return resize(frames[:, top : top + rows, left : left + columns], height, width)


def to_pixels(frames: UInt8[Tensor, "F H W 3"]) -> Float[Tensor, "3 F H W"]:
    """8-bit frames as a clip in [-1, 1]."""
    return rearrange(frames, "F H W C -> C F H W").float().div_(127.5).sub_(1)
