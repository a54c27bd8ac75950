"""Pretrained text encoders from a local folder: T5, UMT5 and CLIP, through transformers, frozen.

Only real tokens leave the encoder. Wan's own code does otherwise: it pads the features of every prompt with zeros to
512 and lets the video attend to the zeros unmasked, and its weights have grown used to that. With packed text, a prompt
of 20 tokens is 20 rows here; results with Wan's weights then differ from Wan's. To get its convention, pad the features
of each prompt with zero rows to 512 before they are packed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Int
from torch import Tensor, nn

from genworld.models.condition import PackedText
from genworld.models.text_encoder import TextEncoder
from genworld.ops.ragged import Segments


@dataclass(frozen=True, kw_only=True)
class PretrainedText:
    """What the pretrained encoders have in common.

    Attributes:
        path: a folder with `config.json`, safetensors weights and the tokenizer's files, as `save_pretrained` writes
            them, or one with the folders `text_encoder` and `tokenizer`, as diffusers' pipelines have them.
        max_tokens: longest prompt in tokens, those that the tokenizer adds included.
        dtype: number type of the weights; `auto` is the one they were saved in.
    """

    path: Path
    max_tokens: int = 512
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True, kw_only=True)
class T5TextConfig(PretrainedText):
    """The encoder of T5 (v1.1 XXL in Open-Sora, CogVideoX, LTX, Mochi)."""

    kind: Literal["t5"] = "t5"


@dataclass(frozen=True, kw_only=True)
class UMT5TextConfig(PretrainedText):
    """The encoder of UMT5, many languages (Wan); see the note on padding above."""

    kind: Literal["umt5"] = "umt5"


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig(PretrainedText):
    """The text tower of CLIP: its last hidden states after the final norm, one per token, not the pooled one."""

    kind: Literal["clip"] = "clip"
    max_tokens: int = 77


PretrainedTextConfig = T5TextConfig | UMT5TextConfig | CLIPTextConfig


class PretrainedEncoder(TextEncoder):
    """A frozen text encoder of transformers, always in evaluation mode and without gradients."""

    trainable = False

    def __init__(self, config: PretrainedTextConfig):
        super().__init__()
        weights, words = _folders(config.path)
        _check_type(weights, config.kind)
        self.max_tokens = config.max_tokens
        self.network = _load_network(config, weights)
        self.width = self.network.config.hidden_size
        longest = getattr(self.network.config, "max_position_embeddings", None)
        if longest is not None and config.max_tokens > longest:
            raise ValueError(f"max_tokens is {config.max_tokens}, but the encoder in {weights} has {longest} positions")
        self._tokenizer = _load_tokenizer(words)
        self.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a frozen network has no other."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, tokens: Sequence[Int[Tensor, " s"]]) -> PackedText:
        """Features of tokenized prompts.

        transformers wants a rectangle: prompts are padded and masked inside, and the padding is taken out again.
        """
        segments = Segments(tuple(len(ids) for ids in tokens))
        device = self.network.device
        ids = nn.utils.rnn.pad_sequence(list(tokens), batch_first=True).to(device)
        keep = torch.arange(segments.longest, device=device) < torch.tensor(segments.lengths, device=device)[:, None]
        hidden = self.network(input_ids=ids, attention_mask=keep.long()).last_hidden_state
        return PackedText(hidden[keep], segments)

    def _ids(self, text: str) -> Tensor:
        return torch.tensor(self._tokenizer(text, verbose=False)["input_ids"])


def _load_network(config: PretrainedTextConfig, folder: Path) -> Any:
    """The network with its weights, or without values while building on the meta device."""
    import transformers

    names = {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel", "clip": "CLIPTextModel"}
    network_class = getattr(transformers, names[config.kind])
    if torch.get_default_device().type == "meta":
        settings = network_class.config_class.from_pretrained(folder, local_files_only=True)
        return network_class(settings)
    if not list(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} has no .safetensors weights; other formats can run code when loaded: convert them")
    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    network, report = network_class.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise ValueError(f"the weights in {folder} do not fill {names[config.kind]}: missing or mis-shaped are {wrong}")
    return network


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _folders(path: Path) -> tuple[Path, Path]:
    """Where the weights and the tokenizer are."""
    both = path / "text_encoder", path / "tokenizer"
    weights, words = both if all(folder.is_dir() for folder in both) else (path, path)
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.json")
    complete = (weights / "config.json").is_file() and any((words / name).is_file() for name in tokenizer_files)
    if not complete:
        found = f"found {sorted(p.name for p in path.iterdir())}" if path.is_dir() else "there is no such folder"
        raise ValueError(
            f"no text encoder in {path}: expected config.json, *.safetensors and the tokenizer's files (such as "
            f"tokenizer.json) in it, or in its folders text_encoder and tokenizer; {found}. Nothing is downloaded: "
            "fetch the model first and give the folder it lies in"
        )
    return weights, words


def _check_type(folder: Path, kind: str) -> None:
    found = json.loads((folder / "config.json").read_text()).get("model_type", "unnamed")
    names = {"t5": {"t5"}, "umt5": {"umt5"}, "clip": {"clip", "clip_text_model"}}
    if found not in names[kind]:
        fitting = next((k for k, types in names.items() if found in types), None)
        advice = f"use `kind: {fitting}`" if fitting else f"only {sorted(names)} can be used"
        raise ValueError(f"{folder} holds a {found!r} model, not {kind!r}: {advice}")
