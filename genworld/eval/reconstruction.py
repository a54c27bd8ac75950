"""How well an autoencoder gives back what it was given."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from genworld.ops.quality import RANGE, psnr


def ssim(real: Float[Tensor, "B 3 F H W"], other: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, " B"]:
    """Structural similarity of each clip, the mean over its frames (Gaussian window of 11, sigma 1.5)."""
    one, two = (rearrange(clip.float(), "b c f h w -> (b f) c h w") for clip in (other, real))
    each = structural_similarity_index_measure(one, two, data_range=RANGE, reduction="none")
    assert isinstance(each, Tensor), "no contrast map was asked for"
    return rearrange(each, "(b f) -> b f", b=len(real)).mean(dim=1)


class Reconstruction(Metric):
    """Means over clips: `psnr`, `ssim`, and the PSNR of the first frame and of the later ones.

    The two halves are told apart because causal autoencoders spend a whole latent frame on the first frame and only a
    share of one on each later frame. Pixels are clipped to [-1, 1] but not rounded.
    """

    full_state_update = False
    NAMES = ("psnr", "ssim", "psnr_first", "psnr_later")

    def __init__(self) -> None:
        super().__init__()
        for name in self.NAMES:
            self.add_state(f"{name}_sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{name}_count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, real: Float[Tensor, "B 3 F H W"], other: Float[Tensor, "B 3 F H W"]) -> None:
        """Add clips and their reconstructions; images count as first frames only."""
        other = other.clamp(-1.0, 1.0)
        self._add("psnr", psnr(real, other))
        self._add("ssim", ssim(real, other))
        self._add("psnr_first", psnr(real[:, :, :1], other[:, :, :1]))
        if real.shape[2] > 1:
            self._add("psnr_later", psnr(real[:, :, 1:], other[:, :, 1:]))

    def compute(self) -> dict[str, Tensor]:
        """The means; without any later frame there is no `psnr_later`."""
        sums = {name: (getattr(self, f"{name}_sum"), getattr(self, f"{name}_count")) for name in self.NAMES}
        return {name: (total / count).float() for name, (total, count) in sums.items() if count > 0}

    def _add(self, name: str, values: Tensor) -> None:
        setattr(self, f"{name}_sum", getattr(self, f"{name}_sum") + values.double().sum())
        setattr(self, f"{name}_count", getattr(self, f"{name}_count") + len(values))
