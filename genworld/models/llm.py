"""Language models: one small and trained here, any other from a folder, behind one interface."""

from __future__ import annotations

from genworld.models.llm_base import GenerationConfig, LanguageModel, Layout
from genworld.models.llm_own import OwnLLM, OwnLLMConfig
from genworld.models.llm_pretrained import PretrainedLLM, PretrainedLLMConfig

__all__ = [
    "GenerationConfig",
    "LLMConfig",
    "LanguageModel",
    "Layout",
    "OwnLLM",
    "OwnLLMConfig",
    "PretrainedLLM",
    "PretrainedLLMConfig",
    "build_llm",
]

LLMConfig = OwnLLMConfig | PretrainedLLMConfig


def build_llm(config: LLMConfig) -> LanguageModel:
    """The language model that `config` describes.

    Raises:
        ValueError: a pretrained one is not, or not completely, in its folder.
    """
    return OwnLLM(config) if isinstance(config, OwnLLMConfig) else PretrainedLLM(config)
