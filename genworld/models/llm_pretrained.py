"""Any language model of transformers from a local folder: decoder-only (Llama, Qwen, OPT) or encoder-decoder (T5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import nn

from genworld.models.llm_base import LanguageModel, Layout, LocationStyle, Trained
from genworld.nn.lora import LoRAConfig, add_lora


@dataclass(frozen=True, kw_only=True)
class PretrainedLLMConfig:
    """A language model in a folder.

    Attributes:
        path: with `config.json`, safetensors weights and the tokenizer's files, as `save_pretrained` writes them.
        dtype: number type of the weights; `auto` is the one they were saved in.
        train: nothing (`frozen`), adapters and the rows of location tokens (`lora`), the embeddings of words and
            logits as 3D-LLM does (`embeddings`), or `all`.
        lora: what adapters, where there are any.
        locations: style of location tokens; their rows come after those of the tokenizer, as in 3D-LLM.
        layout: what stands around what is said, with the model's own special tokens.
        max_tokens: of a prompt with its scene, and of an answer.
    """

    kind: Literal["pretrained"] = "pretrained"
    path: Path
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    train: Literal["frozen", "lora", "embeddings", "all"] = "frozen"
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    locations: LocationStyle = "none"
    layout: Layout = field(default_factory=Layout)
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if self.train == "frozen" and self.locations != "none":
            raise ValueError(
                f"location tokens ({self.locations}) are new to the language model and must be learned: set train to "
                "lora, embeddings or all, or locations to none"
            )


class PretrainedLLM(LanguageModel):
    """See `PretrainedLLMConfig`. Where nothing of it is trained it stays in evaluation mode.

    Raises:
        ValueError: the folder holds no whole language model with safetensors weights.
    """

    def __init__(self, config: PretrainedLLMConfig) -> None:
        super().__init__(config.locations)
        from transformers import AutoTokenizer

        _check(config.path)
        self.layout, self.max_tokens, self.train_what = config.layout, config.max_tokens, config.train
        self.tokenizer: Any = AutoTokenizer.from_pretrained(config.path, local_files_only=True)
        self.network = _load(config)
        self.first_location = len(self.tokenizer)
        self._add_locations()
        self.end = self._find_end(config.path)
        first = self.tokenizer.bos_token_id
        adds_first = first is not None and self.tokenizer("").input_ids[:1] == [first]
        self.start = (first,) if adds_first and not self.has_encoder else ()
        self._names = self._choose(config)

    def _add_locations(self) -> None:
        rows = self.first_location + self.num_locations
        if self.num_locations and rows > self.network.get_input_embeddings().weight.shape[0]:
            has_values = self.network.device.type != "meta"  # new rows are drawn about the mean of the others
            self.network.resize_token_embeddings(rows, mean_resizing=has_values)

    def _find_end(self, path: Path) -> int:
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ValueError(f"the tokenizer in {path} names no end of a text: set eos_token in tokenizer_config.json")
        return int(end)

    def _choose(self, config: PretrainedLLMConfig) -> list[str]:
        """Switch gradients on and off; the names of what is trained."""
        new = range(self.first_location, self.first_location + self.num_locations)
        if config.train == "lora":
            return add_lora(self.network, config.lora, list(new))
        self.network.requires_grad_(config.train == "all")
        if config.train == "embeddings":
            for layer in (self.network.get_input_embeddings(), self.network.get_output_embeddings()):
                layer.requires_grad_(requires_grad=True)
        chosen = {id(p) for p in self.network.parameters() if p.requires_grad}
        named = list(self.network.named_parameters(remove_duplicate=False))
        if halves := [name for name, p in named if id(p) in chosen and p.dtype != torch.float32]:
            raise ValueError(
                f"what is trained must be float32, but {halves[0]} is {self.network.dtype}: set dtype: float32"
            )
        return [name for name, parameter in named if id(parameter) in chosen]

    def train(self, mode: bool = True) -> Self:
        """Without dropout anywhere: what is drawn is a function of (seed, position), and dropout is not."""
        super().train(mode)
        self.network.eval()
        return self

    def trained(self) -> nn.Module | None:
        """See `LanguageModel`."""
        if self.train_what == "all":
            return self.network
        return Trained(self.network, self._names) if self._names else None

    def _encode_words(self, text: str, marks: bool) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=not marks, verbose=False).input_ids

    def _decode_words(self, ids: Sequence[int]) -> str:
        known = [number for number in ids if number < self.first_location]
        return self.tokenizer.decode(known, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _check(folder: Path) -> None:
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.json")
    if "config.json" not in names or not any(name in names for name in tokenizer_files):
        found = f"found {names}" if folder.is_dir() else "there is no such folder"
        raise ValueError(
            f"no language model in {folder}: expected config.json, *.safetensors and the tokenizer's files; {found}. "
            "Nothing is downloaded: fetch the model first and give the folder it lies in"
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"{folder} has no .safetensors weights; other formats can run code when loaded: convert them")


def _load(config: PretrainedLLMConfig) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    settings = AutoConfig.from_pretrained(config.path, local_files_only=True)
    family: Any = AutoModelForSeq2SeqLM if settings.is_encoder_decoder else AutoModelForCausalLM
    if torch.get_default_device().type == "meta":
        return family.from_config(settings)
    dtype = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    network, report = family.from_pretrained(
        config.path, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if wrong := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise ValueError(f"the weights in {config.path} do not fill the network: missing or mis-shaped are {wrong}")
    return network.eval()
