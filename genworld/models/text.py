"""Text encoders: one small and trainable, three pretrained and frozen, behind one interface."""

from __future__ import annotations

from genworld.models.text_encoder import TextEncoder
from genworld.models.text_pretrained import (
    CLIPTextConfig,
    PretrainedEncoder,
    PretrainedTextConfig,
    T5TextConfig,
    UMT5TextConfig,
)
from genworld.models.text_words import WordsEncoder, WordsTextConfig

__all__ = [
    "CLIPTextConfig",
    "PretrainedEncoder",
    "PretrainedTextConfig",
    "T5TextConfig",
    "TextConfig",
    "TextEncoder",
    "UMT5TextConfig",
    "WordsEncoder",
    "WordsTextConfig",
    "build_text_encoder",
]

TextConfig = WordsTextConfig | T5TextConfig | UMT5TextConfig | CLIPTextConfig


def build_text_encoder(config: TextConfig) -> TextEncoder:
    """The encoder that `config` describes.

    Raises:
        ValueError: a pretrained one is not, or not completely, in its folder.
    """
    if isinstance(config, WordsTextConfig):
        return WordsEncoder(config)
    return PretrainedEncoder(config)
