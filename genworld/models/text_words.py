"""A small text encoder with a vocabulary of its own, trained together with the model that listens to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from genworld.models.condition import PackedText
from genworld.models.text_encoder import TextEncoder
from genworld.nn.block import EncoderBlock
from genworld.ops.ragged import pack

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_END = 0
"""Id of the token that ends every prompt; ids of the tokenizer follow. No text can be mistaken for it."""

_NUM_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class WordsTextConfig:
    """A small trainable transformer over pieces of words.

    `vocabulary` is the number of rows of the embedding table, at least 257; the tokenizer learns as many pieces as
    the captions give reason for, up to that number.
    """

    kind: Literal["words"] = "words"
    width: int = 128
    depth: int = 2
    num_heads: int = 4
    max_tokens: int = 64
    vocabulary: int = 1024

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by num_heads {self.num_heads}")
        if self.vocabulary < 1 + _NUM_BYTES:
            raise ValueError(
                f"vocabulary must be at least {1 + _NUM_BYTES} (all bytes and the end), got {self.vocabulary}"
            )


class WordsEncoder(TextEncoder):
    """Embedding, learned positions, and a pre-norm transformer in which every token of a prompt sees the whole prompt.

    The tokenizer is a byte-level BPE, so there are no unknown words, trained on the captions by `fit`. Text is
    lower-cased and normalised to NFC first. The table's size comes from the config, so that the network can be built
    before the captions are seen.
    """

    trainable = True

    def __init__(self, config: WordsTextConfig):
        super().__init__()
        self.width, self.max_tokens, self.vocabulary = config.width, config.max_tokens, config.vocabulary
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.max_tokens, config.width)
        self.blocks = nn.ModuleList(EncoderBlock(config.width, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self._tokenizer: Tokenizer | None = None
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)

    def forward(self, tokens: Sequence[Int[Tensor, " s"]]) -> PackedText:
        """Features of tokenized prompts."""
        ids, segments = pack(tokens)
        places = torch.cat([torch.arange(length) for length in segments.lengths])
        device = self.words.weight.device
        x = self.words(ids.to(device)) + self.positions(places.to(device))
        for block in self.blocks:
            x = block(x, segments)
        return PackedText(self.norm(x), segments)

    def fit(self, captions: Iterable[str]) -> None:
        """Learn the tokenizer. Depends on which captions there are, not on their order or number.

        Raises:
            ValueError: there are no captions with text.
        """
        unique = sorted({caption for caption in captions if caption.strip()})
        if not unique:
            raise ValueError("a vocabulary needs captions to learn from, but all captions are empty")
        self._tokenizer = _train_tokenizer(unique, self.vocabulary - 1)

    def asset(self) -> str | None:
        """The tokenizer as JSON text, or None before `fit`."""
        return None if self._tokenizer is None else self._tokenizer.to_str()

    def load_asset(self, asset: str) -> None:
        """Take back the tokenizer that `asset` gave.

        Raises:
            ValueError: it has more pieces than the embedding table has rows.
        """
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(asset)
        if tokenizer.get_vocab_size() + 1 > self.vocabulary:
            raise ValueError(
                f"the saved tokenizer has {tokenizer.get_vocab_size()} pieces, but the text encoder was given "
                f"a vocabulary of {self.vocabulary}: use the config it was trained with"
            )
        self._tokenizer = tokenizer

    def _ids(self, text: str) -> Tensor:
        if self._tokenizer is None:
            raise ValueError("the text encoder has no vocabulary yet: `fit` it to captions or load a trained run")
        pieces = self._tokenizer.encode(text.strip()).ids
        return torch.tensor([piece + 1 for piece in pieces] + [_END])


def _train_tokenizer(captions: list[str], size: int) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.NFC()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer
