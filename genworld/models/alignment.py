"""Images, videos and texts in one space, where likeness is the cosine: two small towers that learn it from captions."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genworld.config import decode, encode
from genworld.models.text_words import WordsEncoder, WordsTextConfig
from genworld.nn.block import EncoderBlock, block_flops
from genworld.ops.ragged import Segments
from genworld.types import ClipShape

logger = logging.getLogger(__name__)

TOKENIZER_FILE, WORDS_FILE = "tokenizer.json", "words.txt"
"""Names of the assets: how texts are cut into tokens, and the words of the captions that were learned from."""

_NUM_WAVES = 4  # per axis of a position: half a turn over the picture, one, two and four
_NUM_COURSES = 3  # mean over time, slope, and bend
_FIT_TEXTS = 512  # that are enough to say what captions have in common
_STILL = 1e-6  # a channel with less deviation does not vary
_MOST_STRETCHED = 2.0  # longer to shorter side of what is looked at; more is cut off at both ends


@dataclass(frozen=True, kw_only=True)
class VideoTowerConfig:
    """A convolutional stem, transformer blocks over the cells of a frame, and what becomes of frames over time.

    The stem is there because a transformer on bare patches does not learn shapes in minutes.

    Attributes:
        size: pixels of a frame's shorter side; frames of other sizes are resized to it.
        stem: channels after each convolution, the first of stride 4, the others of stride 2; the last is the
            transformer's width.
        depth: blocks over the cells of a frame.
        num_heads: heads of attention and of pooling.
        max_frames: longer videos are looked at in so many frames, evenly spread from the first to the last.
    """

    size: int = 64
    stem: tuple[int, ...] = (48, 96, 128)
    depth: int = 2
    num_heads: int = 4
    max_frames: int = 9

    def __post_init__(self) -> None:
        if not self.stem or min(self.stem) < 1 or self.stem[-1] % self.num_heads:
            raise ValueError(
                f"stem needs at least one number of channels, the last divisible by num_heads {self.num_heads}, "
                f"got {self.stem}"
            )
        if self.size < self.stride or self.size % self.stride:
            raise ValueError(f"size must be a multiple of the stem's stride {self.stride}, got {self.size}")
        if self.depth < 0 or self.max_frames < 1:
            raise ValueError(f"depth must be at least 0 and max_frames 1, got {self.depth} and {self.max_frames}")

    @property
    def stride(self) -> int:
        """Pixels along the side of a cell."""
        return 2 ** (len(self.stem) + 1)


class VideoTower(nn.Module):
    """Videos, or images as videos of one frame, to one vector each.

    Every frame is encoded by itself. Over time a parabola is fitted to the vectors of frames (their mean, slope and
    bend), so that left is not right although no frame knows of another.
    """

    def __init__(self, config: VideoTowerConfig, out: int):
        super().__init__()
        self.config, width = config, config.stem[-1]
        channels = [5, *config.stem]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(narrow, wide, 3 if i else 7, stride=2 if i else 4, padding=1 if i else 3)
            for i, (narrow, wide) in enumerate(pairwise(channels))
        )
        self.scales = nn.ModuleList(Standard(wide) for wide in config.stem)
        self.place = nn.Linear(4 * _NUM_WAVES, width)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.attend = nn.Linear(width, config.num_heads)
        self.standard = Standard(_NUM_COURSES * width)
        self.mix = nn.Linear(_NUM_COURSES * width, 2 * width)
        self.out = nn.Linear(2 * width, out)
        nn.init.zeros_(self.attend.weight)  # pooling starts as the mean
        self.convolutions.to(memory_format=torch.channels_last)

    def forward(self, videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Features of videos in [-1, 1], of any size and number of frames."""
        frames, num_frames = self._look(videos)
        for convolution, scale in self._stem():
            frames = F.silu(scale(convolution(frames), dim=1))
        return self._conclude(self._courses(frames, num_frames))

    def fit(self, videos: Sequence[Float[Tensor, "B 3 F H W"]]) -> None:
        """Set every `Standard` by videos, batches of any shapes, so that what pictures have in common is taken away.

        Most of a picture is like that of any other, and cosines of what is not centred are all near 1. Batch
        normalisation would centre too, but by whatever meets in a batch; this depends on the data alone.
        """
        looks = [self._look(batch) for batch in videos]
        counts = [count for _, count in looks]
        batches = [frames for frames, _ in looks]
        for convolution, scale in self._stem():
            batches = [convolution(frames) for frames in batches]
            scale.fit(torch.cat([rearrange(frames, "n d h w -> (n h w) d") for frames in batches]))
            batches = [F.silu(scale(frames, dim=1)) for frames in batches]
        courses = [self._courses(frames, count) for frames, count in zip(batches, counts, strict=True)]
        self.standard.fit(torch.cat(courses))

    def _stem(self) -> list[tuple[nn.Module, Standard]]:
        scales = [scale for scale in self.scales if isinstance(scale, Standard)]
        return list(zip(self.convolutions, scales, strict=True))

    def flops(self, shape: ClipShape) -> int:
        """Operations (a multiply-add is two) for one video, as `describe` counts them: convolutions and blocks."""
        sides = [self.config.size // 2 ** (i + 2) for i in range(len(self.convolutions))]
        weights = [each.numel() for each in self.convolutions.parameters() if each.ndim == 4]
        operations = sum(2 * side**2 * weight for side, weight in zip(sides, weights, strict=True))
        operations += self.config.depth * block_flops(self.config.stem[-1], sides[-1] ** 2)
        return operations * min(shape.num_frames, self.config.max_frames)

    def _look(self, videos: Float[Tensor, "B 3 F H W"]) -> tuple[Float[Tensor, "n 5 h w"], int]:
        """The frames that are looked at, at the size they are looked at, and how many there are of each video.

        To red, green and blue come how bright and how colourful a pixel is: in these an outline looks the same in every
        colour.
        """
        count = videos.shape[2]
        if count > self.config.max_frames:
            videos = videos[:, :, spread_frames(count, self.config.max_frames)]
        frames = rearrange(_cut(videos).float(), "b c f h w -> (b f) c h w")
        height, width = frames.shape[2:]
        scale, stride = self.config.size / min(height, width), self.config.stride
        wanted = [max(round(side * scale / stride) * stride, stride) for side in (height, width)]
        if wanted != [height, width]:
            frames = F.interpolate(frames, wanted, mode="bilinear", antialias=True, align_corners=False)
        high, low = frames.amax(dim=1, keepdim=True), frames.amin(dim=1, keepdim=True)
        frames = torch.cat([frames, (high + low) / 2, high - low], dim=1)
        return frames.contiguous(memory_format=torch.channels_last), videos.shape[2]

    def _courses(self, cells: Float[Tensor, "n D h w"], num_frames: int) -> Float[Tensor, "B courses*D"]:
        """Blocks over the cells of each frame, one vector for each, and what becomes of these over time."""
        count, _, rows, columns = cells.shape
        places = _places(rows, columns, self.config.size // self.config.stride).to(cells.device)
        tokens = rearrange(cells, "n d h w -> n (h w) d") + self.place(places)
        tokens, segments = rearrange(tokens, "n l d -> (n l) d"), Segments((rows * columns,) * count)
        for block in self.blocks:
            tokens = block(tokens, segments)
        tokens = rearrange(self.norm(tokens), "(n l) d -> n l d", n=count)
        weights = self.attend(tokens).float().softmax(dim=1)
        heads = rearrange(tokens.float(), "n l (heads k) -> n l heads k", heads=weights.shape[-1])
        frames = torch.einsum("nlh,nlhk->nhk", weights, heads).flatten(1)
        fit = _fit_over_time(num_frames).to(frames)
        return torch.einsum("kf,bfd->bkd", fit, rearrange(frames, "(b f) d -> b f d", f=num_frames)).flatten(1)

    def _conclude(self, courses: Float[Tensor, "B courses*D"]) -> Float[Tensor, "B D"]:
        return self.out(F.silu(self.mix(self.standard(courses, dim=1))))


class Standard(nn.Module):
    """A learned scale and shift for each channel that starts where the channel has mean 0 and deviation 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, dim: int) -> Tensor:
        """Scale and shift along a dimension."""
        shape = [1] * x.ndim
        shape[dim] = -1
        return x * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "n channels"]) -> None:
        """Start from the mean and the deviation of these; a channel that does not vary is only centred."""
        mean, deviation = x.double().mean(dim=0), x.double().std(dim=0, correction=0)
        scale = torch.where(deviation > _STILL, 1 / deviation.clamp(min=_STILL), 1.0)
        self.weight.copy_(scale)
        self.bias.copy_(-mean * scale)


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
        """Unit features of videos in [-1, 1].

        Raises:
            ValueError: not a batch of videos with three channels, or not floating point.
        """
        _check(videos, "B 3 F H W")
        return self.embed_videos(videos)

    @torch.no_grad()
    def encode_images(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n D"]:
        """Unit features of images in [-1, 1]: of videos of one frame.

        Raises:
            ValueError: not a batch of images with three channels, or not floating point.
        """
        _check(images, "n 3 H W")
        return self.embed_videos(images[:, :, None])

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


def spread_frames(num_frames: int, most: int) -> list[int]:
    """Indices of at most `most` frames, evenly spread from the first to the last."""
    places = torch.linspace(0, num_frames - 1, min(num_frames, most), dtype=torch.float64)
    return places.round().long().tolist()


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


def _cut(videos: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B 3 F h w"]:
    """The middle of videos that are very long or very high."""
    height, width = videos.shape[3:]
    most = int(_MOST_STRETCHED * min(height, width))
    top, left = max(height - most, 0) // 2, max(width - most, 0) // 2
    return videos[:, :, :, top : top + most, left : left + most]


def _places(rows: int, columns: int, cells: int) -> Float[Tensor, "rows*columns waves"]:
    """Waves of the position of each cell, measured from the middle in sides of a square frame of `cells` cells."""
    axes = [(torch.arange(count) + 0.5 - count / 2) / cells for count in (rows, columns)]
    mesh = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    angles = rearrange(mesh, "r c two -> (r c) two 1") * math.pi * 2.0 ** torch.arange(_NUM_WAVES)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _fit_over_time(num_frames: int) -> Float[Tensor, "courses F"]:
    """What makes mean, slope and bend of values at evenly spread times: the least-squares parabola.

    The same for few frames and for many, where a few can show it: one frame has no slope, two have no bend.
    """
    times = torch.linspace(-1, 1, num_frames, dtype=torch.float64) if num_frames > 1 else torch.zeros(1).double()
    legendre = torch.stack([torch.ones_like(times), times, (3 * times**2 - 1) / 2])[:num_frames]
    # Of the mean itself, and not of the parabola's: one frame more or less must not move a still picture.
    fit = torch.linalg.pinv(legendre.T)
    fit[0] = 1 / num_frames
    return F.pad(fit, (0, 0, 0, _NUM_COURSES - len(fit))).float()


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
