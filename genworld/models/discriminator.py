"""A discriminator of patches of video."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.nn.conv3d import ChannelNorm, SpaceConv, TimeConv, fold


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of a `PatchDiscriminator`: each entry of `widths` is a level that halves height and width."""

    widths: tuple[int, ...] = (64, 128, 256)

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("a discriminator needs at least one level")


class PatchDiscriminator(nn.Module):
    """Says of each patch of each frame, seen with a few frames before it (two per level), how real it looks.

    After the patch discriminator of Isola et al. 2017 (pix2pix), with a causal convolution in time at every level,
    so that images and clips of any length are judged by the same weights.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = (3, *config.widths)
        self.downs = nn.ModuleList(nn.Linear(4 * a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(ChannelNorm(width) for width in config.widths)
        self.spaces = nn.ModuleList(SpaceConv(width, width) for width in config.widths)
        self.times = nn.ModuleList(TimeConv(width, width) for width in config.widths)
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, pixels: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B F h w"]:
        """One logit per patch and frame, positive for real.

        Raises:
            ValueError: height and width cannot be halved once per level.
        """
        stride = 2 ** len(self.downs)
        if pixels.shape[3] % stride or pixels.shape[4] % stride:
            raise ValueError(
                f"a discriminator of {len(self.downs)} levels needs a height and width divisible by {stride}, got "
                f"{pixels.shape[3]}x{pixels.shape[4]}: give it fewer widths, or clips of another size"
            )
        x = rearrange(pixels, "b c f h w -> b f h w c")
        for down, norm, space, time in zip(self.downs, self.norms, self.spaces, self.times, strict=True):
            x = down(fold(x, 1, 2))
            x = F.leaky_relu(time(F.leaky_relu(space(norm(x)), 0.2)), 0.2)
        return self.head(x).squeeze(-1)
