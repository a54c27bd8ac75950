"""What every text encoder is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from genworld.models.condition import PackedText

logger = logging.getLogger(__name__)


class TextEncoder(nn.Module):
    """Prompts in, packed features out: only the tokens a prompt has, never padding.

    Attributes:
        width: size of a feature.
        max_tokens: longest prompt, counted in tokens with the ones that the tokenizer adds.
        trainable: whether it is trained along with the model that listens to it.
    """

    width: int
    max_tokens: int
    trainable: bool

    def forward(self, tokens: Sequence[Int[Tensor, " s"]]) -> PackedText:
        """Features of tokenized prompts."""
        raise NotImplementedError

    def tokenize(self, texts: Sequence[str], cut: bool = False) -> list[Int[Tensor, " s"]]:
        """Token ids of each prompt, at least one even for the empty string.

        Args:
            texts: the prompts.
            cut: cut what is too long, keeping the last token, and say so in the log. For judges of foreign texts.

        Raises:
            ValueError: a prompt has more than `max_tokens` tokens, and is not to be cut.
        """
        return [self._cut_ids(text) if cut else self._checked_ids(text) for text in texts]

    def encode(self, texts: Sequence[str]) -> PackedText:
        """Features of prompts."""
        return self(self.tokenize(texts))

    def fit(self, captions: Iterable[str]) -> None:
        """Learn a vocabulary, where the encoder has one to learn. Default: nothing."""

    def asset(self) -> str | None:
        """What `fit` learned, as text to be saved with a checkpoint; None if there is nothing."""
        return None

    def load_asset(self, asset: str) -> None:
        """Take back what `asset` gave."""
        raise ValueError(f"{type(self).__name__} has no vocabulary of its own to load")

    def _ids(self, text: str) -> Tensor:
        """Token ids of one prompt of any length."""
        raise NotImplementedError

    def _cut_ids(self, text: str) -> Tensor:
        ids = self._ids(text)
        if len(ids) <= self.max_tokens:
            return ids
        logger.warning("a text of %d tokens is cut to the %d that the encoder reads", len(ids), self.max_tokens)
        return torch.cat([ids[: self.max_tokens - 1], ids[-1:]])

    def _checked_ids(self, text: str) -> Tensor:
        ids = self._ids(text)
        if len(ids) > self.max_tokens:
            start = text if len(text) <= 60 else text[:57] + "..."
            raise ValueError(
                f"the prompt {start!r} has {len(ids)} tokens, more than the {self.max_tokens} this text encoder takes: "
                "shorten it, or train with a larger `max_tokens`"
            )
        return ids
