"""The words of the language model of kind own: a tokenizer learned from what is said."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from genworld.models.llm_base import between_locations

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def train_tokenizer(texts: Counter[str], size: int) -> Tokenizer:
    """A byte-level BPE that knows the most frequent words as wholes, and learns pieces with the room that is left."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.NFC()])
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    parts = Counter(f" {part.strip()}" for text in texts.elements() for part in between_locations(text))
    counts: Counter[str] = Counter()
    for part, times in parts.items():
        for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(part)):
            counts[piece] += times
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    words = [word for word in ranked if len(word) > 1][: size - len(alphabet)]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer, learner.normalizer = splitter, normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=max(size - len(words), len(alphabet)),
        min_frequency=2,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learner.train_from_iterator(sorted(parts), trainer)
    merges = [tuple(merge) for merge in _merges(learner)]
    names = list(dict.fromkeys([*alphabet, *words, *("".join(merge) for merge in merges)]))[:size]
    known = set(names)
    usable = [(a, b) for a, b in merges if {a, b, a + b} <= known]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, usable, ignore_merges=True))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    return json.loads(tokenizer.to_str())["model"]["merges"]
