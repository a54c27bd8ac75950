"""LPIPS from weights at hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

Backbone = Literal["alex", "vgg", "squeeze"]


class PerceptualDistance(nn.Module):
    """Learned perceptual image patch similarity (Zhang et al. 2018), frozen.

    torchmetrics ships the learned linear layers and would download the backbone; here it comes from a safetensors file
    of torchvision's weights for that network (vgg16, alexnet or squeezenet1_1). Torchvision's own files are pickles,
    which can run code when they are read: convert one that you trust, once, by

        import sys, torch
        from safetensors.torch import save_file
        save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])  # vgg16-397923af.pth vgg16.safetensors

    Raises:
        ValueError: the file does not exist, is not a safetensors file, or is not of that backbone.
    """

    def __init__(self, path: Path, backbone: Backbone) -> None:
        super().__init__()
        # Public torchmetrics can only build this network by downloading; the class inside can be built without.
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        self.network = _NoTrainLpips(net=backbone, pnet_rand=True).requires_grad_(False)
        weights = _load(path)
        slices = dict(self.network.net.named_parameters())
        missing = [key for key in map(_torchvision_key, slices) if key not in weights]
        if missing:
            raise ValueError(f"{path} holds no torchvision weights of {backbone!r}: {missing[0]} is missing")
        with torch.no_grad():
            for key, parameter in slices.items():
                parameter.copy_(weights[_torchvision_key(key)])

    def forward(self, one: Float[Tensor, "B 3 H W"], other: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """Distance of images in [-1, 1]."""
        return self.network(one, other).flatten()


def _torchvision_key(name: str) -> str:
    """`slice2.5.weight` or `slices.1.5.weight` here is `features.5.weight` there."""
    return re.sub(r"^slice(s\.)?\d+\.", "features.", name)


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: it should hold torchvision's weights of the LPIPS backbone")
    try:
        return load_file(path)
    except SafetensorError:
        raise ValueError(
            f"{path} is not a safetensors file, and pickles (.pth) are not read: convert it once with torch.load(..., "
            "weights_only=True) and safetensors.torch.save_file; see genworld/eval/perceptual.py"
        ) from None
