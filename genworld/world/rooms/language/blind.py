"""How far the questions alone give the answers away: what a model that sees no scene can reach."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from genworld.world.rooms.language.questions import Question

_STEPS, _RATE, _DECAY = 150, 0.08, 3e-4


@dataclass(frozen=True)
class Blind:
    """Accuracies of models that see only the question, on held-out questions.

    Attributes:
        num: how many questions.
        majority: of the answer that is most frequent for the question's template in training; where a question names
            its options, of the option that is most often right by its place in the question.
        words: of a linear classifier over the question's words and pairs of neighbouring words, the better of one that
            learns answers and one that learns places among the options.
    """

    num: int
    majority: float
    words: float

    @property
    def best(self) -> float:
        """The better of the two."""
        return max(self.majority, self.words)


def blind_accuracy(train: Sequence[Question], held_out: Sequence[Question]) -> dict[str, Blind]:
    """By type of question, and under "all" over all questions of the held-out floors.

    Args:
        train: of some floors.
        held_out: of others.
    """
    found: dict[str, Blind] = {}
    for kind in dict.fromkeys(question.type for question in held_out):
        seen, asked = ([q for q in some if q.type == kind] for some in (train, held_out))
        targets = (_answer, _place) if any(_place(q) != q.answer for q in seen) else (_answer,)
        words = max(_words(seen, asked, target) for target in targets)
        found[kind] = Blind(len(asked), _majority(seen, asked), words)
    total = sum(blind.num for blind in found.values())
    found["all"] = Blind(
        total,
        sum(blind.num * blind.majority for blind in found.values()) / total,
        sum(blind.num * blind.words for blind in found.values()) / total,
    )
    return found


def _answer(question: Question) -> str:
    return question.answer


def _place(question: Question) -> str:
    """The place of the answer among the options, where they are named in an order of their own."""
    if question.answer in question.options and set(question.options) != {"yes", "no"}:
        return f"#{question.options.index(question.answer)}"
    return question.answer


def _majority(train: Sequence[Question], held_out: Sequence[Question]) -> float:
    best = 0.0
    for target in (_answer, _place):
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for question in train:
            counts[question.template][target(question)] += 1
        usual = {template: count.most_common(1)[0][0] for template, count in counts.items()}
        right = sum(target(question) == usual.get(question.template) for question in held_out)
        best = max(best, right / len(held_out))
    return best


def _words(train: Sequence[Question], held_out: Sequence[Question], target: Callable[[Question], str]) -> float:
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(w for q in train for w in _features(q)))}
    answers = {answer: i for i, answer in enumerate(dict.fromkeys(target(q) for q in train))}
    inputs, goals = _encode(train, vocabulary), torch.tensor([answers[target(q)] for q in train])
    weight = torch.zeros(len(vocabulary), len(answers), requires_grad=True)
    optimiser = torch.optim.AdamW([weight], lr=_RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        F.cross_entropy(inputs @ weight, goals).backward()
        optimiser.step()
    guess = (_encode(held_out, vocabulary) @ weight.detach()).argmax(1).tolist()
    return sum(answers.get(target(q)) == g for q, g in zip(held_out, guess, strict=True)) / len(held_out)


def _features(question: Question) -> list[str]:
    situation = question.situation.text if question.situation else ""
    words = f"{situation} {question.text}".lower().split()
    return [question.template, *words, *(f"{a} {b}" for a, b in pairwise(words))]


def _encode(some: Sequence[Question], vocabulary: dict[str, int]) -> Tensor:
    table = torch.zeros(len(some), len(vocabulary))
    for row, question in enumerate(some):
        table[row, [vocabulary[word] for word in _features(question) if word in vocabulary]] = 1
    return table
