"""Answers about scenes: are they all there, how many are right, and how many would be right without the scene.

Every report has a blind baseline, since questions can often be answered without looking, and intervals, since questions
about few rooms prove little. Numbers are in percent; CIDEr-D is 100 times pycocoevalcap's, as papers print it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch.distributed as dist
from jaxtyping import Float, Int

from genworld.data.questions import Question
from genworld.eval.by_scene import Figure, number_scenes, percent, percent_gained, text_figures
from genworld.eval.meteor import Meteor, nltk_meteor
from genworld.eval.qa_protocols import Protocol, protocol
from genworld.eval.tokenise import PTB, Tokeniser, Whitespace

Answers = Mapping[str, str]
"""Texts by the ids of questions."""
LEADING = ("em", "cider_d")
"""The scores that a report's `gain` is of: the first that the protocol has."""
_TOP = 10
_SEVERAL = 5  # ids shown in an error


def gather_answers(own: Iterable[tuple[str, str]], questions: Sequence[Question]) -> dict[str, str]:
    """The answers of all ranks, by id; each question must come back exactly once. Every rank must call it.

    Args:
        own: this rank's ids and answers.
        questions: all that were asked.

    Raises:
        ValueError: an id is missing, comes back twice (samplers repeat some to give all ranks as many), or is unknown.
    """
    mine = list(own)
    parts: list[Any] = [mine]
    if dist.is_available() and dist.is_initialized():
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, mine)
    pairs = [pair for part in parts for pair in part]
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} questions came back more than once, such as {', '.join(twice[:_SEVERAL])}: "
            "give each to one rank only, and do not pad the last batch with questions"
        )
    answers = dict(pairs)
    check_complete(questions, answers)
    return answers


def check_complete(questions: Sequence[Question], answers: Collection[str]) -> None:
    """Whether each question has an answer, and each answer a question.

    Raises:
        ValueError: not so; names some.
    """
    asked = Counter(question.id for question in questions)
    lists = {
        "questions have no answer": [name for name in asked if name not in answers],
        "answers are to no question": [name for name in answers if name not in asked],
        "ids belong to more than one question": [name for name, count in asked.items() if count > 1],
    }
    wrong = {what: names for what, names in lists.items() if names}
    if wrong:
        said = (f"{len(names)} {what}, such as {', '.join(names[:_SEVERAL])}" for what, names in wrong.items())
        raise ValueError(f"of {len(asked)} questions: {'; '.join(said)}")


@dataclass(frozen=True)
class BlindGuesses:
    """Answers from the words of a question alone: the most common one of training questions that begin alike.

    The longest beginning is used that at least `least` training questions share. A real blind model, trained without
    scenes, is the stronger baseline; this one needs no training and is always there.

    Attributes:
        answers: the most common one by beginning, as words; the empty one is of all questions.
        least: how many questions a beginning must have been seen in.
    """

    answers: Mapping[tuple[str, ...], str]
    least: int = 3

    @classmethod
    def of(cls, training: Iterable[Question], least: int = 3) -> BlindGuesses:
        """Count the answers of training questions, the first of each.

        Raises:
            ValueError: none has an answer.
        """
        counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for question in training:
            words = _beginning(question)
            for length in range(len(words) + 1) if question.answers else ():
                counts[words[:length]][question.answers[0]] += 1
        if not counts:
            raise ValueError("no training question has an answer, so that there is nothing to guess from")
        common = {
            start: min(found.items(), key=lambda pair: (-pair[1], pair[0]))[0]
            for start, found in counts.items()
            if found.total() >= least or not start
        }
        return cls(common, least)

    def __call__(self, questions: Iterable[Question]) -> dict[str, str]:
        """A guess for each question, by id."""
        return {question.id: self._guess(_beginning(question)) for question in questions}

    def _guess(self, words: tuple[str, ...]) -> str:
        starts = (words[:length] for length in range(len(words), -1, -1))
        return next(self.answers[start] for start in starts if start in self.answers)


@dataclass(frozen=True)
class Report:
    """Scores of answers by one protocol.

    Attributes:
        protocol: its name.
        quirks: what one would not expect of it.
        tokeniser: which one n-grams were counted after.
        num: questions scored.
        num_scenes: scenes that they are about.
        num_left_out: questions about other scenes than those that were asked for.
        scores: by name, in percent.
        by_type: EM and its like, by type of question.
        blind: the same scores of the blind baseline.
        blind_by_type: its EM by type of question.
        gain: the leading score minus the blind baseline's, paired.
        rows: each question with its answers, references and scores.
    """

    protocol: str
    quirks: tuple[str, ...]
    tokeniser: str
    num: int
    num_scenes: int
    num_left_out: int
    scores: Mapping[str, Figure]
    by_type: Mapping[str, Mapping[str, Figure]]
    blind: Mapping[str, Figure]
    blind_by_type: Mapping[str, Mapping[str, Figure]]
    gain: Figure
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the rows, for JSON."""
        return asdict(replace(self, rows=()))

    def __str__(self) -> str:
        left = f"; {self.num_left_out} about other scenes left out" if self.num_left_out else ""
        head = f"{self.protocol} (tokens: {self.tokeniser}): {self.num} questions about {self.num_scenes} scenes{left}"
        lines = [head, *(f"  note: {quirk}" for quirk in self.quirks)]
        lines += [
            f"  {name:18s} {figure!s:22s} blind {self.blind.get(name, '-')}" for name, figure in self.scores.items()
        ]
        for kind, scores in self.by_type.items():
            said = ", ".join(f"{name} {figure}" for name, figure in scores.items())
            blind = ", ".join(f"{name} {figure.value:.1f}" for name, figure in self.blind_by_type[kind].items())
            lines.append(f"  {kind:18s} {next(iter(scores.values())).num:5d}: {said}; blind {blind}")
        return "\n".join([*lines, f"  gain over the blind baseline {self.gain}"])


@dataclass(frozen=True)
class Scorer:
    """Scores answers by a protocol.

    Attributes:
        protocol: see `qa_protocols.PROTOCOLS`.
        tokeniser: for protocols that tokenise (see `tokenise.best_tokeniser`).
        meteor: which version (see `meteor.best_meteor`), or None for none.
        seed: of the resampling.
    """

    protocol: Protocol = field(default_factory=lambda: protocol("genworld"))
    tokeniser: Tokeniser = field(default_factory=PTB)
    meteor: Meteor | None = field(default_factory=nltk_meteor)
    seed: int = 0

    def __call__(
        self,
        questions: Sequence[Question],
        answers: Answers,
        blind: Answers,
        top: Mapping[str, Sequence[str]] | None = None,
        scenes: Collection[str] | None = None,
    ) -> Report:
        """Score the answers to all questions.

        Args:
            questions: with references.
            answers: to each.
            blind: what is answered without the scene (see `BlindGuesses`), to each.
            top: up to ten answers to each, best first, for EM@10.
            scenes: score only questions about these; the others are counted.

        Raises:
            ValueError: an id is missing or unknown, a question has no reference, or there is nothing to score.
        """
        for given in (answers, blind, *(() if top is None else (top,))):
            check_complete(questions, given)
        kept = [question for question in questions if scenes is None or question.scene in scenes]
        _check_references(kept)
        places = number_scenes([question.scene for question in kept])
        (own, scores), (other, blind_scores) = (
            self._scored(kept, each, more, places) for each, more in ((answers, top), (blind, None))
        )
        kinds = np.array([self.protocol.type_of(question) for question in kept])
        lead = next(name for name in LEADING if name in own)
        return Report(
            protocol=self.protocol.name,
            quirks=self.protocol.quirks,
            tokeniser=self._tokeniser.name,
            num=len(kept),
            num_scenes=len(set(places)),
            num_left_out=len(questions) - len(kept),
            scores=scores,
            by_type=_by_type(own, kinds, places, self.seed),
            blind=blind_scores,
            blind_by_type=_by_type(other, kinds, places, self.seed),
            gain=percent_gained(own[lead], other[lead], places),
            rows=tuple(_rows(kept, kinds, answers, blind, own)),
        )

    @property
    def _tokeniser(self) -> Tokeniser:
        return self.tokeniser if self.protocol.tokenise == "ptb" else Whitespace()

    def _scored(
        self,
        questions: Sequence[Question],
        answers: Answers,
        top: Mapping[str, Sequence[str]] | None,
        places: Int[np.ndarray, " n"],
    ) -> tuple[dict[str, Float[np.ndarray, " n"]], dict[str, Figure]]:
        """Scores of each question, of those that are means over questions; and all scores of the whole."""
        items = _matches(self.protocol, questions, answers)
        if top is not None:
            best = [any(each in question.answers for each in top[question.id][:_TOP]) for question in questions]
            items["em@10"] = np.array(best, dtype=np.float64)
        if self.protocol.unigram_f:
            items["unigram_f_words"] = np.array([_best_f(answers[q.id], q.answers) for q in questions])
        others: dict[str, Figure] = {}
        if self.protocol.ngrams:
            means, others = text_figures(*self._words(questions, answers), places, self.meteor, self.seed)
            items |= means
        return items, {name: percent(values, places, self.seed) for name, values in items.items()} | others

    def _words(self, questions: Sequence[Question], answers: Answers) -> tuple[list[str], list[list[str]]]:
        """Answers and references as tokens."""
        said = [self.protocol.words(answers[question.id]) for question in questions]
        right = [self.protocol.words_reference(each) for question in questions for each in question.answers]
        tokens = iter(self._tokeniser([*said, *right]))
        first = [next(tokens) for _ in said]
        return first, [[next(tokens) for _ in question.answers] for question in questions]


def unigram_f(one: str, two: str) -> float:
    """ScanQA's F value of two answers: harmonic mean of the parts of each one's words that the other has.

    ScanQA takes lemmas, for which WordNet would have to be downloaded; here words are compared as they are. An answer
    without words scores 0, where the original divides by 0.
    """
    first, second = one.split(), two.split()
    if not first or not second:
        return 0.0
    precision = sum(word in first for word in second) / len(second)
    recall = sum(word in second for word in first) / len(first)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _best_f(answer: str, references: Sequence[str]) -> float:
    return 1.0 if answer in references else max(unigram_f(answer, each) for each in references)


def _matches(way: Protocol, questions: Sequence[Question], answers: Answers) -> dict[str, Float[np.ndarray, " n"]]:
    if way.match is None:
        return {}
    found = [
        way.match(way.clean(answers[question.id]), [way.clean_reference(each) for each in question.answers])
        for question in questions
    ]
    items = {"em": np.array([right for right, _ in found], dtype=np.float64)}
    if found[0][1] is not None:
        items["em_refined"] = np.array([bool(loose) for _, loose in found], dtype=np.float64)
    return items


def _by_type(
    items: Mapping[str, Float[np.ndarray, " n"]], kinds: np.ndarray, places: Int[np.ndarray, " n"], seed: int
) -> dict[str, dict[str, Figure]]:
    """Means over the questions of each type; n-gram scores are left out, since they depend on the set."""
    chosen = {name: values for name, values in items.items() if name.startswith("em")}
    if not chosen or set(kinds) == {""}:
        return {}
    found = {}
    for kind in sorted(set(kinds)):
        of_it = kinds == kind
        found[kind or "no type"] = {n: percent(values[of_it], places[of_it], seed) for n, values in chosen.items()}
    return found


def _rows(
    questions: Sequence[Question],
    kinds: np.ndarray,
    answers: Answers,
    blind: Answers,
    items: Mapping[str, Float[np.ndarray, " n"]],
) -> Iterable[dict[str, Any]]:
    for place, question in enumerate(questions):
        yield {
            "question_id": question.id,
            "scene_id": question.scene,
            "type": str(kinds[place]),
            "question": question.text,
            "references": list(question.answers),
            "answer": answers[question.id],
            "blind": blind[question.id],
            **{name: float(values[place]) for name, values in items.items()},
        }


def _check_references(questions: Sequence[Question]) -> None:
    if not questions:
        raise ValueError("no question is left to be scored: none is about one of the scenes")
    without = [question.id for question in questions if not question.answers]
    if without:
        raise ValueError(
            f"{len(without)} questions have no reference, such as {', '.join(without[:_SEVERAL])}: "
            "answers to a test set without references are for its server to score"
        )


def _beginning(question: Question) -> tuple[str, ...]:
    return tuple(question.text.lower().split())
