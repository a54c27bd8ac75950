"""Images, videos and texts in one space, where likeness is the cosine: two small towers that learn it from captions."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genworld.config import decode, encode
from genworld.models.alignment_video import Standard, VideoTower, VideoTowerConfig
from genworld.models.text_words import WordsEncoder, WordsTextConfig
from genworld.nn.block import block_flops
from genworld.types import ClipShape

logger = logging.getLogger(__name__)

TOKENIZER_FILE, WORDS_FILE = "tokenizer.json", "words.txt"
"""Names of the assets: how texts are cut into tokens, and the words of the captions that were learned from."""

_FIT_TEXTS = 512  # that are enough to say what captions have in common


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """Two towers and the width of the space they share."""

    width: int = 128
    video: VideoTowerConfig = field(default_factory=VideoTowerConfig)
    text: WordsTextConfig = field(default_factory=WordsTextConfig)


class DualEncoder(nn.Module):
    """Images, videos and texts to unit vectors, as in CLIP (Radford et al. 2021), with towers that train in minutes.

    Its text tower learns its tokens from captions (`fit`) and remembers their words: texts with others are encoded all
    the same, but the log says that they are out of its domain.

    Attributes:
        width: D of the shared space.
        words: of the captions it learned from; None before `fit`.
    """

    def __init__(self, config: DualEncoderConfig):
        super().__init__()
        self.config = config
        self.width = config.width
        self.words: frozenset[str] | None = None
        self.video = VideoTower(config.video, config.width)
        self.text = WordsEncoder(config.text)
        self.text_standard = Standard(self.text.width)
        self.text_out = nn.Linear(self.text.width, config.width, bias=False)
        self._told: set[str] = set()

    def embed_videos(self, videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Unit features, for training and for use."""
        return F.normalize(self.video(videos).float(), dim=-1)

    def embed_texts(self, texts: Sequence[str], cut: bool = False) -> Float[Tensor, "n D"]:
        """Unit features: the mean over a text's tokens, projected. Equal texts are encoded once.

        Raises:
            ValueError: a text is too long, and is not to be `cut`.
        """
        distinct = list(dict.fromkeys(texts))
        numbers = {text: number for number, text in enumerate(distinct)}
        means = self.text_standard(self._text_means(distinct, cut), dim=1)
        unit = F.normalize(self.text_out(means).float(), dim=-1)
        return unit[[numbers[text] for text in texts]]

    def _text_means(self, texts: Sequence[str], cut: bool) -> Float[Tensor, "n W"]:
        """Means over tokens. Texts of equal length are encoded together, which makes attention one call for all."""
        tokens = self.text.tokenize(texts, cut)
        groups: dict[int, list[int]] = defaultdict(list)
        for number, ids in enumerate(tokens):
            groups[len(ids)].append(number)
        means = [self._group_means([tokens[number] for number in group]) for group in groups.values()]
        order = [number for group in groups.values() for number in group]
        places = torch.tensor(order).argsort().to(means[0].device)
        return torch.cat(means)[places]

    def _group_means(self, tokens: Sequence[Int[Tensor, " s"]]) -> Float[Tensor, "n W"]:
        return rearrange(self.text(tokens).features.float(), "(n s) w -> n s w", n=len(tokens)).mean(dim=1)

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
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n D"]:
        """Unit features of texts. What is too long is cut; that, and words it never learned, are logged."""
        if self.words is not None:
            strange = {word for text in texts for word in words_of(text)} - self.words - self._told
            if strange:
                self._told |= strange
                logger.warning(
                    "out of domain: the captions that this encoder learned from never say %s",
                    ", ".join(sorted(strange)),
                )
        return self.embed_texts(texts, cut=True)

    @torch.no_grad()
    def fit(self, captions: Iterable[str], videos: Sequence[Float[Tensor, "B 3 F H W"]]) -> None:
        """Before the first step: learn the tokens and the words of captions, and what all inputs have in common.

        Args:
            captions: all there are; see `WordsEncoder.fit`.
            videos: some, in batches of any shapes; see `VideoTower.fit`.
        """
        distinct = sorted(set(captions))
        self.text.fit(distinct)
        self.words = frozenset(word for caption in distinct for word in words_of(caption))
        self.text_standard.fit(self._text_means(distinct[:: max(len(distinct) // _FIT_TEXTS, 1)], cut=True))
        self.video.fit(videos)

    def assets(self) -> dict[str, str]:
        """What `fit` learned, as text files by name."""
        tokenizer = self.text.asset()
        if tokenizer is None or self.words is None:
            return {}
        return {TOKENIZER_FILE: tokenizer, WORDS_FILE: "\n".join(sorted(self.words)) + "\n"}

    def load_assets(self, assets: Mapping[str, str]) -> None:
        """Take back what `assets` gave."""
        self.text.load_asset(assets[TOKENIZER_FILE])
        self.words = frozenset(assets[WORDS_FILE].split())


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without marks."""
    return re.findall(r"\w+", text.lower())


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


def save_encoder(folder: Path, encoder: DualEncoder, card: EncoderCard) -> None:
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
    missing = [
        name for name in (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, WORDS_FILE) if not (folder / name).is_file()
    ]
    if missing:
        raise ValueError(f"no encoder in {folder}: {', '.join(missing)} not found; `tools/embed.py export` writes them")
    record = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    config = decode(DualEncoderConfig, record.pop("encoder"), f"{folder / CONFIG_FILE}: encoder")
    encoder = DualEncoder(config)
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
