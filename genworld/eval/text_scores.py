"""BLEU, ROUGE-L and CIDEr-D of captions and answers, as pycocoevalcap counts them, in Python.

Texts come tokenised, with single spaces between tokens (see `tokenise`). Scores are in their papers' own units: 0 to 1,
but CIDEr-D 0 to 10. None may be compared with one over other questions: BLEU is of a corpus, and CIDEr weighs words
by how rare they are among the references of the very set that is scored.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from genworld.eval.bootstrap import Interval

ORDERS = 4
BETA = 1.2
SIGMA = 6.0
_SMALL, _TINY = 1e-9, 1e-15  # to denominators and to numerators, so that nothing is divided by 0 and 0 of 0 is 0
_RESAMPLES = 2000

References = Sequence[Sequence[str]]
Ngrams = Counter[tuple[str, ...]]


@dataclass(frozen=True)
class Scored:
    """A score of a corpus, and of each text by itself."""

    value: float
    items: Float[np.ndarray, " n"]


def bleu(predictions: Sequence[str], references: References) -> tuple[Scored, Scored, Scored, Scored]:
    """BLEU-1 to BLEU-4 (Papineni et al. 2002) with the reference length that is closest, the shorter of two.

    Raises:
        ValueError: nothing to score, or a text without references.
    """
    counts = bleu_counts(predictions, references)
    values, items = bleu_of_counts(counts.sum(axis=0)), bleu_of_counts(counts)
    one, two, three, four = (Scored(float(values[n]), items[:, n]) for n in range(ORDERS))
    return one, two, three, four


def bleu_counts(predictions: Sequence[str], references: References) -> Float[np.ndarray, "n 10"]:
    """What BLEU is made of: matches of n-grams (4), n-grams predicted (4), tokens predicted, tokens of the reference.

    Matches are clipped: an n-gram counts as often as in the reference that has it most often.
    """
    _check(predictions, references)
    return np.array([_bleu_row(*pair) for pair in zip(predictions, references, strict=True)], dtype=np.float64)


def bleu_of_counts(counts: Float[np.ndarray, "*n 10"]) -> Float[np.ndarray, "*n 4"]:
    """BLEU-1 to BLEU-4 of sums of `bleu_counts`.

    Geometric mean of (matches + 1e-15) / (predicted + 1e-9) over the orders, times exp(1 - 1 / ratio) where the ratio
    of lengths, predicted to reference, is below 1.
    """
    matches, guesses, length, reference = counts[..., :4], counts[..., 4:8], counts[..., 8], counts[..., 9]
    precision = np.log((matches + _TINY) / (guesses + _SMALL))
    mean = np.cumsum(precision, axis=-1) / np.arange(1, ORDERS + 1)
    ratio = (length + _TINY) / (reference + _SMALL)
    penalty = np.where(ratio < 1, 1 - 1 / ratio, 0.0)
    return np.exp(mean + penalty[..., None])


def bleu_intervals(
    counts: Float[np.ndarray, "n 10"], groups: Int[np.ndarray, " n"], what: str, seed: int = 0
) -> tuple[Interval, ...] | None:
    """95 % intervals of BLEU-1 to BLEU-4: percentiles over corpora of resampled groups (scenes, say).

    Args:
        counts: see `bleu_counts`.
        groups: of which group each text is.
        what: what the groups are, for the report.
        seed: of the resampling.

    Returns:
        None for less than two groups.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.zeros((len(names), counts.shape[1]))
    np.add.at(sums, index, counts)
    chance = np.random.default_rng(seed)
    drawn = np.stack([sums[chance.integers(0, len(sums), len(sums))].sum(axis=0) for _ in range(_RESAMPLES)])
    ends = np.quantile(bleu_of_counts(drawn), [0.025, 0.975], axis=0)
    return tuple(Interval(float(low), float(high), f"bootstrap over {len(names)} {what}") for low, high in ends.T)


def rouge_l(predictions: Sequence[str], references: References) -> Scored:
    """ROUGE-L (Lin 2004) with beta 1.2: the best precision and the best recall over the references, each by itself.

    Not `rouge-score`'s, which stems words and takes the F1 of one reference.
    """
    _check(predictions, references)
    items = np.array([_rouge(*pair) for pair in zip(predictions, references, strict=True)])
    return Scored(float(items.mean()), items)


def cider_d(predictions: Sequence[str], references: References) -> Scored:
    """CIDEr-D (Vedantam et al. 2015): n-grams of 1 to 4 tokens, sigma 6, times 10.

    Words weigh log N - log(how many of the N reference sets have them), so that one text alone scores 0, and a right
    answer of one word at most 2.5: it has no longer n-grams. The length of the penalty is counted in pairs of tokens.
    """
    _check(predictions, references)
    found = [[ngrams(reference) for reference in several] for several in references]
    documents = Counter(gram for several in found for gram in set().union(*several))
    logs = {gram: math.log(len(found)) - math.log(count) for gram, count in documents.items()}
    unseen = math.log(len(found))
    items = []
    for prediction, several in zip(predictions, found, strict=True):
        made = _weighted(ngrams(prediction), logs, unseen)
        items.append(10 * sum(_alike(made, _weighted(each, logs, unseen)) for each in several) / len(several))
    return Scored(float(np.mean(items)), np.array(items))


def ngrams(text: str) -> Ngrams:
    """How often each run of one to four tokens occurs."""
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1))


def _bleu_row(prediction: str, references: Sequence[str]) -> list[float]:
    most: Ngrams = Counter()
    for reference in references:
        most |= ngrams(reference)
    matches = [0] * ORDERS
    for gram, count in ngrams(prediction).items():
        matches[len(gram) - 1] += min(count, most[gram])
    length = len(prediction.split())
    closest = min((len(reference.split()) for reference in references), key=lambda other: (abs(other - length), other))
    return [*matches, *(max(0, length - n) for n in range(ORDERS)), length, closest]


def _rouge(prediction: str, references: Sequence[str]) -> float:
    # Split at each space: nothing at all is one empty token, and equal to an empty reference.
    words, several = prediction.split(" "), [reference.split(" ") for reference in references]
    common = [_longest_common(words, other) for other in several]
    precision = max(common) / len(words)
    recall = max(count / len(other) for count, other in zip(common, several, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _longest_common(one: Sequence[str], two: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(two) + 1)
    for word in one:
        before = row
        row = [0]
        for place, other in enumerate(two):
            row.append(before[place] + 1 if word == other else max(row[place], before[place + 1]))
    return row[-1]


@dataclass(frozen=True)
class _Weighted:
    weights: tuple[dict[tuple[str, ...], float], ...]
    norms: tuple[float, ...]
    pairs: int


def _weighted(grams: Ngrams, logs: dict[tuple[str, ...], float], unseen: float) -> _Weighted:
    weights: tuple[dict[tuple[str, ...], float], ...] = tuple({} for _ in range(ORDERS))
    for gram, count in grams.items():
        weights[len(gram) - 1][gram] = count * logs.get(gram, unseen)
    norms = tuple(math.sqrt(sum(weight**2 for weight in each.values())) for each in weights)
    return _Weighted(weights, norms, sum(count for gram, count in grams.items() if len(gram) == 2))


def _alike(made: _Weighted, reference: _Weighted) -> float:
    """Mean over the orders of the cosine, with the prediction's weights clipped to the reference's."""
    total = 0.0
    for one, two, a, b in zip(made.weights, reference.weights, made.norms, reference.norms, strict=True):
        product = sum(min(weight, two.get(gram, 0.0)) * two.get(gram, 0.0) for gram, weight in one.items())
        total += product / (a * b) if a and b else 0.0
    return total / ORDERS * math.exp(-((made.pairs - reference.pairs) ** 2) / (2 * SIGMA**2))


def _check(predictions: Sequence[str], references: References) -> None:
    if len(predictions) != len(references) or not predictions:
        raise ValueError(
            f"expected references for each of at least one prediction, got {len(predictions)} predictions and "
            f"{len(references)} sets of references"
        )
    if any(isinstance(several, str) for several in references):
        raise ValueError("references are a list of texts for each prediction, got one text")
    for number, several in enumerate(references):
        if not several:
            raise ValueError(f"prediction {number} has no references: leave out questions without answers")
