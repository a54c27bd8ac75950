"""Image encoders that give a feature per patch: any vision transformer from a local folder, and a fixed projection."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.models.points import FeatureTable
from genworld.models.region_encoder import load_region_encoder, world_regions_folder
from genworld.ops.random import normal
from genworld.types import View


class ImageEncoder(Protocol):
    """From a picture to a grid of features."""

    @property
    def name(self) -> str:
        """What it is; encoders of equal names give equal features."""
        ...

    @property
    def width(self) -> int:
        """D of the features."""
        ...

    def __call__(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "rows columns D"]:
        """Features of a picture in [-1, 1], on a grid laid evenly over it."""
        ...


@dataclass(frozen=True, kw_only=True)
class RandomEncoderConfig:
    """Every patch on its own, through one fixed random matrix: nothing is learned, colours and edges stay apart.

    Attributes:
        patch: pixels along a side.
        width: of the features.
        seed: of the matrix.
    """

    kind: Literal["random"] = "random"
    patch: int = 16
    width: int = 64
    seed: int = 0


class RandomEncoder:
    """The encoder of `RandomEncoderConfig`; keeps lengths on average (Johnson and Lindenstrauss 1984)."""

    def __init__(self, config: RandomEncoderConfig):
        self.config = config
        values = 3 * config.patch**2
        self._matrix = normal((values, config.width), config.seed, "random encoder") / config.width**0.5

    @property
    def name(self) -> str:
        """See `ImageEncoder`."""
        return f"random-{self.config.patch}-{self.config.width}-{self.config.seed}"

    @property
    def width(self) -> int:
        """See `ImageEncoder`."""
        return self.config.width

    def __call__(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "rows columns D"]:
        """See `ImageEncoder`. Pictures whose sides are no multiple of the patch are resized to the nearest one."""
        fitted = _resize(
            pixels, [max(round(side / self.config.patch), 1) * self.config.patch for side in pixels.shape[1:]]
        )
        patches = rearrange(fitted, "c (r p) (w q) -> r w (c p q)", p=self.config.patch, q=self.config.patch)
        return patches @ self._matrix.to(pixels.device)


@dataclass(frozen=True, kw_only=True)
class ViTEncoderConfig:
    """A vision transformer of timm or transformers (CLIP, SigLIP, DINOv2, DINOv3, BLIP-2's EVA, …), frozen.

    Attributes:
        path: folder with `config.json` and safetensors weights. transformers' folders also need
            `preprocessor_config.json`, timm's keep mean and deviation in `config.json`.
        size: pixels of a picture's shorter side as the network sees it; None is the size it was trained at. Pictures
            keep their shape, and positions are interpolated.
        dtype: number type of the network; features are float32.
    """

    kind: Literal["vit"] = "vit"
    path: Path
    size: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


class ViTEncoder(nn.Module):
    """The last hidden states of a vision transformer's patches, without class and register tokens."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ViTEncoderConfig):
        super().__init__()
        _check_folder(config.path)
        settings = json.loads((config.path / "config.json").read_text())
        tower = _timm_tower(config.path) if "architecture" in settings else _transformers_tower(config.path, settings)
        self.config, self.network, self.patch, self.width = config, tower.network, tower.patch, tower.width
        self.size = config.size or tower.size
        self.name = f"{config.path.name}-{self.size}-{config.dtype}-{_fingerprint(config.path)}"
        self._tokens = tower.tokens
        mean, deviation = (torch.tensor(each)[:, None, None] for each in (tower.mean, tower.deviation))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.network.to(getattr(torch, config.dtype))
        self.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a frozen network has no other."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "rows columns D"]:
        """See `ImageEncoder`."""
        scale = self.size / min(pixels.shape[1:])
        rows, columns = (max(round(side * scale / self.patch), 1) for side in pixels.shape[1:])
        fitted = _resize(pixels, [rows * self.patch, columns * self.patch])
        seen = ((fitted + 1) / 2 - self.mean) / self.deviation
        tokens = self._tokens(self.network, seen[None].to(getattr(torch, self.config.dtype)))[0]
        if len(tokens) < rows * columns:
            raise ValueError(
                f"{self.config.path}: {rows}x{columns} patches went in, {len(tokens)} tokens came out: not a plain "
                "vision transformer"
            )
        # Class and register tokens stand before the patches in every family.
        return rearrange(tokens[len(tokens) - rows * columns :].float(), "(r c) d -> r c d", r=rows)


@dataclass(frozen=True, kw_only=True)
class WorldEncoderConfig:
    """The encoder that comes with genworld, learned from views of the world's rooms.

    Attributes:
        path: folder of another such encoder, as `save_encoder` writes it.
        dtype: number type of the network; features are float32. bfloat16 is quicker where the hardware multiplies it.
    """

    kind: Literal["world"] = "world"
    path: Path | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"


class WorldEncoder(nn.Module):
    """The encoder of `WorldEncoderConfig`: unit features, which phrases can be compared with (`network.encode_texts`).

    Pictures of any size are taken; their shorter side is resized to what the network was trained at.
    """

    def __init__(self, config: WorldEncoderConfig | None = None):
        super().__init__()
        self.config = config or WorldEncoderConfig()
        folder = self.config.path or world_regions_folder()
        self.network, self.card = load_region_encoder(folder)
        self.width = self.network.width
        weights = hashlib.blake2b(digest_size=4)
        for file in sorted(folder.glob("*.safetensors")):
            weights.update(file.read_bytes())
        self.name = f"world-{self.config.dtype}-{weights.hexdigest()}"

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a frozen network has no other."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "rows columns D"]:
        """See `ImageEncoder`."""
        return self.many(pixels[None])[0]

    @torch.no_grad()
    def many(self, pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n rows columns D"]:
        """Features of pictures of one size, together."""
        half = self.config.dtype == "bfloat16"
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
            return self.network.embed_cells(pixels)


ImageEncoderConfig = RandomEncoderConfig | ViTEncoderConfig | WorldEncoderConfig


def build_image_encoder(config: ImageEncoderConfig) -> ImageEncoder:
    """The encoder that `config` describes.

    Raises:
        ValueError: its folder lacks something.
    """
    if isinstance(config, WorldEncoderConfig):
        return WorldEncoder(config)
    return RandomEncoder(config) if isinstance(config, RandomEncoderConfig) else ViTEncoder(config)


@dataclass(frozen=True)
class EncodedViews:
    """Views through an encoder, as `ViewFeatures`."""

    encoder: ImageEncoder

    @property
    def name(self) -> str:
        """That of the encoder."""
        return self.encoder.name

    def __call__(self, index: int, view: View) -> FeatureTable:
        """Features of the patches of a view."""
        return FeatureTable.from_patches(self.encoder(view.pixels))


@dataclass(frozen=True)
class _Tower:
    network: nn.Module
    patch: int
    size: int
    width: int
    mean: list[float]
    deviation: list[float]
    tokens: Any


def _timm_tower(path: Path) -> _Tower:
    import timm

    network: Any = timm.create_model(f"local-dir:{path}", pretrained=True, num_classes=0, dynamic_img_size=True)
    if not hasattr(network, "patch_embed"):
        raise ValueError(f"{path} holds {type(network).__name__}, which has no patches: a vision transformer is needed")
    known = network.pretrained_cfg
    return _Tower(
        network=network,
        patch=network.patch_embed.patch_size[0],
        size=known["input_size"][-1],
        width=network.num_features,
        mean=list(known["mean"]),
        deviation=list(known["std"]),
        tokens=lambda net, x: net.forward_features(x),
    )


_VISION_CLASSES = {
    "blip-2": "Blip2VisionModelWithProjection",
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
"""Families whose folders hold more than the vision tower; of all others, `AutoModel` is the tower."""


def _transformers_tower(path: Path, settings: dict[str, Any]) -> _Tower:
    import transformers

    named = path / "preprocessor_config.json"
    if not named.is_file():
        raise ValueError(
            f"{path} has no preprocessor_config.json, so that mean and deviation of its pixels are unknown"
        )
    look = json.loads(named.read_text())
    loader = getattr(transformers, _VISION_CLASSES.get(settings.get("model_type", ""), "AutoModel"))
    network: Any
    network, report = loader.from_pretrained(
        path, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    inner = getattr(network, "vision_model", None)
    # Of a larger model only the tower inside it is wanted, and of no model the pooled output.
    wanted = [key for key in map(str, report["missing_keys"]) if inner is None or key.startswith("vision_model.")]
    wrong = sorted([*(key for key in wanted if "pooler" not in key), *map(str, report["mismatched_keys"])])
    network = network if inner is None else inner
    if wrong:
        raise ValueError(
            f"the weights in {path} do not fill {type(network).__name__}: missing or mis-shaped are {wrong}"
        )
    facts = network.config
    if not hasattr(facts, "patch_size"):
        raise ValueError(f"{path} holds {type(network).__name__}, which has no patches: a vision transformer is needed")
    extra = {}
    if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
        extra["interpolate_pos_encoding"] = True
    return _Tower(
        network=network,
        patch=facts.patch_size,
        size=facts.image_size,
        width=facts.hidden_size,
        mean=look["image_mean"],
        deviation=look["image_std"],
        tokens=lambda net, x: net(pixel_values=x, **extra).last_hidden_state,
    )


def _check_folder(path: Path) -> None:
    found = f"found {sorted(p.name for p in path.iterdir())}" if path.is_dir() else "there is no such folder"
    if not (path / "config.json").is_file() or not list(path.glob("*.safetensors")):
        raise ValueError(
            f"no image encoder in {path}: expected config.json and *.safetensors; {found}. Nothing is downloaded: "
            "fetch the model first and give the folder it lies in"
        )


def _fingerprint(path: Path) -> str:
    """Changes when the files of a folder do."""
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(path.iterdir())]
    return hashlib.blake2b(repr(files).encode(), digest_size=4).hexdigest()


def _resize(pixels: Float[Tensor, "3 H W"], size: list[int]) -> Float[Tensor, "3 h w"]:
    if list(pixels.shape[1:]) == size:
        return pixels
    return F.interpolate(pixels[None], size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(-1, 1)
