"""The linear path of the causal autoencoder: principal components in, least squares out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.nn.conv3d import Memory, SpaceConv, fold, starts, unfold


class LinearCodec(nn.Module):
    """A linear map from each block of pixels to a latent, and one from 3x3 latents back to the block in their midst.

    The strides are the size of a block. Started from principal components and least squares (`fit`), it reconstructs
    small clips at 27 to 30 dB before the first step of training, so that the convolutions beside it only learn what
    linear maps cannot. The first frame of a video is repeated to fill its block; of that block's reconstruction the
    mean frame is taken, which is the least-squares answer.
    """

    DECODE_REACH = 1
    GAIN = 1 / 32
    """Weights are stored this much larger than they act: one step of Adam, which moves every weight equally far, would
    otherwise throw hundreds of inputs at once far off the solution that `fit` found."""

    def __init__(self, time_stride: int, space_stride: int, latent_channels: int) -> None:
        super().__init__()
        self.time_stride, self.space_stride = time_stride, space_stride
        width = 3 * time_stride * space_stride**2
        if latent_channels > width:
            raise ValueError(f"{latent_channels} latent channels, but a block has only {width} values")
        self.down = nn.Linear(width, latent_channels)
        self.up = SpaceConv(latent_channels, width)
        nn.init.orthogonal_(self.down.weight, gain=1 / self.GAIN)
        with torch.no_grad():  # until it is fitted: the projection onto a random subspace
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.down.bias)
            assert self.up.bias is not None
            nn.init.zeros_(self.up.bias)
            self.up.weight[:, :, 1, 1] = self.down.weight.T

    def encode(self, pixels: Float[Tensor, "B F H W 3"], memory: Memory | None = None) -> Float[Tensor, "B T h w C"]:
        """Latents of the blocks."""
        return self.GAIN * self.down(fold(pixels, self.time_stride, self.space_stride, memory))

    def decode(self, latents: Float[Tensor, "B T h w C"], memory: Memory | None = None) -> Float[Tensor, "B F H W 3"]:
        """Pixels of the blocks."""
        frames = unfold(self.GAIN * self.up(latents), self.time_stride, self.space_stride, Memory.later())
        if not starts(memory):
            return frames
        first = frames[:, : self.time_stride].mean(dim=1, keepdim=True)
        return torch.cat([first, frames[:, self.time_stride :]], dim=1)

    @torch.no_grad()
    def fit(self, clips: Iterable[Float[Tensor, "3 F H W"]], blocks_per_clip: int, generator: torch.Generator) -> None:
        """Set the maps to what is best for blocks drawn from `clips`, with latents of unit variance.

        Blocks are drawn with a probability that grows with their contrast: most of a video is flat background, and
        what matters is not.

        Args:
            clips: pixels in [-1, 1] of any shapes that the strides divide; iterated over twice.
            blocks_per_clip: how many blocks are drawn from each clip.
            generator: draws them.

        Raises:
            ValueError: not more blocks than latent channels.
        """
        chosen, samples = [], []
        for clip in clips:
            blocks = self._blocks(clip).flatten(0, 3)
            contrast = blocks.std(dim=1) + 0.02
            chosen.append(torch.multinomial(contrast, min(blocks_per_clip, len(blocks)), generator=generator))
            samples.append(blocks[chosen[-1]])
        self._fit_down(torch.cat(samples).double())
        self._fit_up(zip(clips, chosen, strict=True))

    def _blocks(self, clip: Float[Tensor, "3 F H W"]) -> Float[Tensor, "1 T h w D"]:
        pixels = rearrange(clip.to(self.down.weight), "c f h w -> 1 f h w c")
        return fold(pixels, self.time_stride, self.space_stride)

    def _fit_down(self, blocks: Float[Tensor, "N D"]) -> None:
        """Principal components, scaled to unit variance."""
        channels = self.down.out_features
        if len(blocks) <= channels:
            raise ValueError(f"principal components of {channels} channels need more than {len(blocks)} blocks")
        mean = blocks.mean(dim=0)
        values, vectors = torch.linalg.eigh((blocks - mean).T @ (blocks - mean) / len(blocks))
        deviation = values[-channels:].flip(0).clamp_min(1e-8).sqrt()
        basis = vectors[:, -channels:].flip(1).T
        # The sign of an eigenvector is arbitrary: make it the same on every machine.
        basis = basis * torch.where(basis.sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
        weight = basis / deviation[:, None] / self.GAIN
        self.down.weight.copy_(weight)
        self.down.bias.copy_(-weight @ mean)

    def _fit_up(self, drawn: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Least squares from the latents of 3x3 blocks, by the normal equations of the chosen blocks."""
        inputs, outputs = 9 * self.down.out_features + 1, self.down.in_features
        gram = torch.zeros(inputs, inputs, dtype=torch.float64)
        cross = torch.zeros(inputs, outputs, dtype=torch.float64)
        for clip, chosen in drawn:
            blocks = self._blocks(clip)
            latents = rearrange(self.GAIN * self.down(blocks), "1 t h w c -> t c h w")
            nearby = rearrange(F.unfold(latents, kernel_size=3, padding=1), "t k n -> (t n) k")[chosen]
            nearby = F.pad(nearby, (0, 1), value=1.0).double().cpu()
            gram += nearby.T @ nearby
            cross += nearby.T @ blocks.flatten(0, 3)[chosen].double().cpu()
        # A little of the identity keeps latents that always agree from sharing one effect wildly.
        gram += 1e-4 * gram.diagonal().mean() * torch.eye(inputs, dtype=torch.float64)
        solution = torch.linalg.solve(gram, cross) / self.GAIN
        self.up.weight.copy_(solution[:-1].T.reshape(self.up.weight.shape))
        assert self.up.bias is not None
        self.up.bias.copy_(solution[-1])
