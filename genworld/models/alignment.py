"""Images, videos and texts in one space, where likeness is the cosine: two small towers that learn it from captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from genworld.config import decode, encode
from genworld.models.alignment_text import TOKENIZER_FILE, WORDS_FILE, TextTower
from genworld.models.alignment_video import VideoTower, VideoTowerConfig
from genworld.models.text_words import WordsTextConfig
from genworld.nn.block import block_flops
from genworld.types import ClipShape


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """Two towers and the width of the space they share."""

    width: int = 128
    video: VideoTowerConfig = field(default_factory=VideoTowerConfig)
    text: WordsTextConfig = field(default_factory=WordsTextConfig)


class DualEncoder(TextTower):
    """Images, videos and texts to unit vectors, as in CLIP (Radford et al. 2021), with towers that train in minutes."""

    def __init__(self, config: DualEncoderConfig):
        super().__init__(config.text, config.width)
        self.config = config
        self.video = VideoTower(config.video, config.width)

    def embed_videos(self, videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Unit features, for training and for use."""
        return F.normalize(self.video(videos).float(), dim=-1)

    def flops(self, shape: ClipShape, text_tokens: int) -> int:
        """Operations for one video and its caption; see `VideoTower.flops`."""
        return self.video.flops(shape) + self.config.text.depth * block_flops(self.text.width, text_tokens)

    @torch.no_grad()
    def encode_videos(self, videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Unit features of videos in [-1, 1], from any device.

        Raises:
            ValueError: not a batch of videos with three channels, or not floating point.
        """
        _check(videos, "B 3 F H W")
        return self.embed_videos(videos.to(self.text_out.weight.device))

    @torch.no_grad()
    def encode_images(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n D"]:
        """Unit features of images in [-1, 1]: of videos of one frame.

        Raises:
            ValueError: not a batch of images with three channels, or not floating point.
        """
        _check(images, "n 3 H W")
        return self.encode_videos(images[:, :, None])

    @torch.no_grad()
    def fit(self, captions: Iterable[str], videos: Sequence[Float[Tensor, "B 3 F H W"]]) -> None:
        """Before the first step: learn the tokens and the words of captions, and what all inputs have in common.

        Args:
            captions: all there are; see `WordsEncoder.fit`.
            videos: some, in batches of any shapes; see `VideoTower.fit`.
        """
        self.fit_texts(captions)
        self.video.fit(videos)


def _check(pixels: Tensor, wanted: str) -> None:
    if (
        pixels.ndim != len(wanted.split())
        or pixels.shape[1] != 3
        or not pixels.is_floating_point()
        or 0 in pixels.shape
    ):
        raise ValueError(
            f"expected floating-point pixels [{wanted}] in [-1, 1], got {pixels.dtype} {list(pixels.shape)}"
        )


# ---- encoders as folders ----

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


@dataclass(frozen=True)
class EncoderCard:
    """What is to be known of an encoder in a folder.

    Attributes:
        scale: that its cosines were multiplied by at the end of training; makes them probabilities.
        domain: what it was trained on, in words; what it says of anything else means little.
        made: how: command, config, steps, seed, scores.
    """

    scale: float
    domain: str
    made: Mapping[str, Any] = field(default_factory=dict)


class ConfiguredTower(Protocol):
    """An encoder that `save_encoder` can write."""

    config: Any

    def state_dict(self) -> dict[str, Any]:
        """Its weights."""
        ...

    def assets(self) -> dict[str, str]:
        """Its text files by name."""
        ...


def save_encoder(folder: Path, encoder: ConfiguredTower, card: EncoderCard) -> None:
    """Write an encoder as a folder of JSON, text and safetensors; weights in float16, which halves them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().half().contiguous() for key, value in encoder.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    record = {"encoder": encode(encoder.config), **encode(card)}
    (folder / CONFIG_FILE).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    for name, text in encoder.assets().items():
        (folder / name).write_text(text, "utf-8")


def load_encoder(folder: Path) -> tuple[DualEncoder, EncoderCard]:
    """An encoder of `save_encoder`, frozen and in evaluation mode, and what is to be known of it.

    Raises:
        ValueError: the folder holds none, or its weights do not fit.
    """
    return open_encoder(folder, DualEncoderConfig, DualEncoder)


ConfigT = TypeVar("ConfigT")
TowerT = TypeVar("TowerT", bound=TextTower)


def open_encoder(
    folder: Path, config_type: type[ConfigT], build: Callable[[ConfigT], TowerT]
) -> tuple[TowerT, EncoderCard]:
    """As `load_encoder`, for encoders of any config."""
    missing = [
        name for name in (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, WORDS_FILE) if not (folder / name).is_file()
    ]
    if missing:
        raise ValueError(f"no encoder in {folder}: {', '.join(missing)} not found; `tools/embed.py export` writes them")
    record = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    config = decode(config_type, record.pop("encoder"), f"{folder / CONFIG_FILE}: encoder")
    encoder = build(config)
    encoder.load_assets({name: (folder / name).read_text("utf-8") for name in (TOKENIZER_FILE, WORDS_FILE)})
    tensors = {key: value.float() for key, value in load_file(folder / WEIGHTS_FILE).items()}
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS_FILE} does not fit {CONFIG_FILE}: {error}") from None
    return encoder.requires_grad_(requires_grad=False).eval(), EncoderCard(**record)


def world_clip_folder() -> Path:
    """Where the encoder that comes with genworld lies."""
    return Path(__file__).parents[1] / "assets" / "clip_world"


def load_world_clip() -> DualEncoder:
    """The encoder that comes with genworld; configs/align/clip_world.yaml trained it, on clips of one object.

    It is the one of `clip_score[world]` and `fd[world]`. Frozen, in evaluation mode, on the CPU; needs no network.
    """
    return load_encoder(world_clip_folder())[0]
