"""Whether videos show what their prompts say, by a CLIP: three conventions, each under its own name."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.eval.reconstruction import PerVideo

logger = logging.getLogger(__name__)


class ImageTextEncoder(Protocol):
    """Images and texts into one space, where likeness is the cosine."""

    def encode_images(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n D"]:
        """Features of images in [-1, 1], of any length."""

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n D"]:
        """Features of texts, of any length."""


class PretrainedCLIP(nn.Module):
    """A CLIP of transformers from a local folder, as `save_pretrained` writes model, tokenizer and image processor.

    Frames are rounded to 8 bits and go through the model's own image processor. A prompt of too many tokens is cut,
    its end token kept, and a warning is logged.

    Raises:
        ValueError: the folder holds no CLIP, or its weights are not safetensors or not complete.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        _check_folder(path)
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        clip: Any = CLIPModel  # transformers' own types know neither the report nor what processors return
        network, report = clip.from_pretrained(
            path, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        if wrong:
            raise ValueError(f"the weights in {path} do not fill a CLIP: missing or mis-shaped are {wrong}")
        self.network = network.requires_grad_(requires_grad=False)
        self._processor: Any = AutoImageProcessor.from_pretrained(path, local_files_only=True)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self._max_tokens = network.config.text_config.max_position_embeddings
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a frozen network has no other."""
        return super().train(mode=False)

    @torch.no_grad()
    def encode_images(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n D"]:
        """Projected features of images in [-1, 1]."""
        levels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
        pixels = self._processor(images=list(levels), return_tensors="pt")["pixel_values"]
        return self.network.get_image_features(pixels.to(self.network.device)).pooler_output

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n D"]:
        """Projected features of texts."""
        longest = max(len(ids) for ids in self._tokenizer(list(texts), verbose=False)["input_ids"])
        if longest > self._max_tokens:
            logger.warning("a prompt of %d tokens is cut to the %d that the CLIP reads", longest, self._max_tokens)
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self.network.device)
        features = self.network.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return features.pooler_output


class CLIPScore(PerVideo):
    """Likeness of frames and prompts, and of neighbouring frames, through one pass of the encoder.

    - `clip_score[NAME]`: as torchmetrics has it, every frame being an image: 100 times the mean cosine over all frames
      of all videos, no less than 0; no prefix to the prompt and no factor of 2.5, which the original paper has;
    - `clipsim[NAME]`: the mean over videos of the mean cosine over their frames (GODIVA, Make-A-Video);
    - `frame_consistency[NAME]`: the mean over videos of the mean cosine of each frame with the next.

    Without prompts there is the last one only. By video: `num_frames`, with prompts `cosine`, and of two frames and
    more `consistency`; `other` if there are prompts of others.

    Args:
        encoder: of images and texts.
        name: of the encoder, for the result.
        frames_at_once: images that the encoder is given at a time.
    """

    def __init__(self, encoder: ImageTextEncoder, name: str, frames_at_once: int = 64) -> None:
        super().__init__(("cosine", "num_frames", "consistency", "other"))
        self.encoder = encoder
        self.name = name
        self.frames_at_once = frames_at_once

    def update(
        self,
        pixels: Float[Tensor, "B 3 F H W"],
        texts: Sequence[str] | None,
        positions: Sequence[int] | None = None,
        others: Sequence[str] | None = None,
    ) -> None:
        """Add videos in [-1, 1] and their prompts.

        Args:
            pixels: of videos of one shape.
            texts: a prompt for each, or None where there are none.
            others: prompts of other videos: how like they are, `other` by video, is what a score is worth that came
                about by chance.
            positions: see `PerVideo.keep`.

        Raises:
            ValueError: there are more or fewer prompts than videos, or features are not finite.
        """
        if texts is not None and len(texts) != len(pixels):
            raise ValueError(f"{len(pixels)} videos need as many prompts, got {len(texts)}")
        if isinstance(self.encoder, nn.Module) and self.encoder.training:
            raise ValueError(f"the encoder {self.name} is in training mode, where it may be random: call its eval()")
        num_videos, _, num_frames = pixels.shape[:3]
        with torch.no_grad():
            parts = rearrange(pixels, "b c f h w -> (b f) c h w").split(self.frames_at_once)
            each = torch.cat([self.encoder.encode_images(part) for part in parts])
            told = {"cosine": texts, "other": others}
            prompts = {name: self.encoder.encode_texts(words) for name, words in told.items() if words is not None}
        frames = F.normalize(rearrange(each.double(), "(b f) d -> b f d", b=num_videos), dim=-1)
        values = {"num_frames": frames.new_full((num_videos,), num_frames)}
        for name, features in prompts.items():
            values[name] = (frames * F.normalize(features.double(), dim=-1)[:, None]).sum(dim=-1).mean(dim=1)
        if num_frames > 1:
            values["consistency"] = (frames[:, 1:] * frames[:, :-1]).sum(dim=-1).mean(dim=1)
        self.keep(values, positions)

    def compute(self) -> dict[str, Tensor]:
        """Those of the three that there is something to say of, by name.

        Raises:
            ValueError: there are no videos, or two have the same position.
        """
        table = self.table()
        result = {}
        if "cosine" in table:
            told = ~table["cosine"].isnan()
            cosines, num_frames = table["cosine"][told], table["num_frames"][told]
            result["clip_score"] = (100 * (cosines * num_frames).sum() / num_frames.sum()).clamp_min(0)
            result["clipsim"] = cosines.mean()
        if "consistency" in table:
            result["frame_consistency"] = table["consistency"].nanmean()
        return {f"{kind}[{self.name}]": value.float() for kind, value in result.items()}


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        found = f"found {sorted(p.name for p in path.iterdir())}" if path.is_dir() else "there is no such folder"
        raise ValueError(
            f"no CLIP in {path}: expected config.json, *.safetensors, and the files of tokenizer and image processor "
            f"(preprocessor_config.json) in it; {found}. Nothing is downloaded: fetch the model and give its folder"
        )
    kind = json.loads((path / "config.json").read_text()).get("model_type", "unnamed")
    if kind != "clip":
        raise ValueError(f"{path} holds a {kind!r} model, expected was 'clip', with both towers")
    if not list(path.glob("*.safetensors")):
        raise ValueError(f"{path} has no .safetensors weights; other formats can run code when loaded: convert them")
    if not (path / "preprocessor_config.json").is_file() and not (path / "processor_config.json").is_file():
        raise ValueError(f"{path} lacks preprocessor_config.json: how images are scaled belongs to the model")
