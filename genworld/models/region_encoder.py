"""What is at each place of a picture, as vectors that can be compared with phrases: the encoder of the scene branch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.models.alignment import EncoderCard, open_encoder
from genworld.models.alignment_text import TextTower
from genworld.models.alignment_video import FrameTower, FrameTowerConfig
from genworld.models.text_words import WordsTextConfig


@dataclass(frozen=True, kw_only=True)
class RegionEncoderConfig:
    """A tower of pictures and one of phrases, and the width of the space they share."""

    width: int = 96
    image: FrameTowerConfig = field(default_factory=lambda: FrameTowerConfig(size=128, stem=(48, 128), depth=3))
    text: WordsTextConfig = field(default_factory=WordsTextConfig)

    def __post_init__(self) -> None:
        if len(self.image.stem) < 2:
            raise ValueError(f"image.stem needs a map before the last, got {self.image.stem}")


class RegionTower(FrameTower):
    """A feature for every cell of the stem's last map but one.

    Attention sees the coarse cells only, which is where its cost is; the finer map says where one thing ends and the
    next begins, as in feature pyramids (Lin et al. 2017).
    """

    def __init__(self, config: FrameTowerConfig, out: int):
        super().__init__(config)
        width = config.stem[-1]
        self.far, self.near = nn.Linear(width, width), nn.Linear(config.stem[-2], width)
        self.mix, self.out = nn.Linear(width, width), nn.Linear(width, out)

    def forward(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n rows columns D"]:
        """Features of images in [-1, 1], of any size."""
        maps = self.convolve(self.look(images))
        fine, coarse = maps[-2], maps[-1]
        far = self.far(self.relate(coarse))
        far = rearrange(far, "n (h w) d -> n d h w", h=coarse.shape[2])
        far = F.interpolate(far, fine.shape[2:], mode="bilinear", align_corners=False)
        near = self.near(rearrange(fine, "n d h w -> n h w d"))
        mixed = F.silu(rearrange(far, "n d h w -> n h w d") + near)
        return self.out(F.silu(self.mix(mixed)))


class RegionEncoder(TextTower):
    """Cells of pictures, and phrases, to unit vectors.

    What CLIP does for whole pictures (Radford et al. 2021), for places in them, as RegionCLIP (Zhong et al. 2022) and
    ConceptFusion (Jatavallabhula et al. 2023) do.
    """

    def __init__(self, config: RegionEncoderConfig):
        super().__init__(config.text, config.width)
        self.config = config
        self.image = RegionTower(config.image, config.width)

    def embed_cells(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n rows columns D"]:
        """Unit features, for training and for use."""
        return F.normalize(self.image(images).float(), dim=-1)

    @torch.no_grad()
    def fit(self, phrases: Iterable[str], images: Sequence[Float[Tensor, "n 3 H W"]]) -> None:
        """Before the first step: learn the tokens and the words of phrases, and what all inputs have in common."""
        self.fit_texts(phrases)
        self.image.fit_stem([self.image.look(batch) for batch in images])


def load_region_encoder(folder: Path) -> tuple[RegionEncoder, EncoderCard]:
    """An encoder of `save_encoder`, frozen and in evaluation mode, and what is to be known of it.

    Raises:
        ValueError: the folder holds none, or its weights do not fit.
    """
    return open_encoder(folder, RegionEncoderConfig, RegionEncoder)


def world_regions_folder() -> Path:
    """Where the encoder that comes with genworld lies; configs/align/rooms.yaml says how it was trained."""
    return Path(__file__).parents[1] / "assets" / "rooms_encoder"
