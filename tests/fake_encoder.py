"""An encoder that knows nothing: fixed random projections of small pictures, and of the letters of a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from genworld.pipelines.catalogue import Encoder

WIDTH = 6


class FakeEncoder(nn.Module):
    """Deterministic; in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(0)
        self.register_buffer("images", torch.randn(48, WIDTH, generator=chance))
        self.register_buffer("letters", torch.randn(128, WIDTH, generator=chance))
        self.eval()

    def encode_images(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, 4).flatten(1) @ self.images

    def encode_videos(self, videos: Tensor) -> Tensor:
        frames = self.encode_images(rearrange(videos, "b c f h w -> (b f) c h w"))
        return rearrange(frames, "(b f) d -> b f d", b=len(videos)).mean(dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.letters[[ord(letter) % 128 for letter in text]].mean(dim=0) for text in texts])


def fake_world_encoder(folder: object = None) -> Encoder:
    """In place of the encoder that comes with genworld."""
    return Encoder(FakeEncoder(), "world", WIDTH, "clips of genworld's world")
