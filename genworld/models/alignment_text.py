"""The text half of an encoder of two: phrases and sentences to unit vectors, with words of their own."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from genworld.models.alignment_video import Standard
from genworld.models.text_words import WordsEncoder, WordsTextConfig

logger = logging.getLogger(__name__)

TOKENIZER_FILE, WORDS_FILE = "tokenizer.json", "words.txt"
"""Names of the assets: how texts are cut into tokens, and the words of the captions that were learned from."""

_FIT_TEXTS = 512  # that are enough to say what captions have in common


class TextTower(nn.Module):
    """Texts to unit vectors; the other half comes with whoever inherits it.

    It learns its tokens from captions (`fit_texts`) and remembers their words: texts with others are encoded all the
    same, but the log says that they are out of its domain.

    Attributes:
        width: D of the shared space.
        words: of the captions it learned from; None before `fit_texts`.
    """

    def __init__(self, config: WordsTextConfig, width: int):
        super().__init__()
        self.width = width
        self.words: frozenset[str] | None = None
        self.text = WordsEncoder(config)
        self.text_standard = Standard(self.text.width)
        self.text_out = nn.Linear(self.text.width, width, bias=False)
        self._told: set[str] = set()

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
    def fit_texts(self, captions: Iterable[str]) -> None:
        """Before the first step: learn the tokens and the words of captions, and what all have in common."""
        distinct = sorted(set(captions))
        self.text.fit(distinct)
        self.words = frozenset(word for caption in distinct for word in words_of(caption))
        self.text_standard.fit(self._text_means(distinct[:: max(len(distinct) // _FIT_TEXTS, 1)], cut=True))

    def assets(self) -> dict[str, str]:
        """What `fit_texts` learned, as text files by name."""
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
