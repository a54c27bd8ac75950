"""LPIPS from weights at hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Backbone = Literal["alex", "vgg", "squeeze"]


class PerceptualDistance(nn.Module):
    """Learned perceptual image patch similarity (Zhang et al. 2018), frozen.

    torchmetrics ships the learned linear layers and would download the backbone; here it comes from a file of
    torchvision's weights for that network (`vgg16-….pth`, `alexnet-….pth`, or the same as safetensors).

    Raises:
        ValueError: the file does not exist or is not of that backbone.
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
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
