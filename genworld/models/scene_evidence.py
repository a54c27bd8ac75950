"""Where a language model should look in a scene while it reads and answers, and how far it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genworld.models.llm_base import Answered, Asked, LanguageModel
from genworld.models.llm_corners import CORNERS
from genworld.ops.precision import without_autocast
from genworld.types import Turn

_MOST = 6
"""Things that a turn is about, at most, for what it looks at to be taught; those that are not to be looked at aside."""
_TOLD = 4.0
"""How much all words together weigh with which an answer tells of things, in words by which things are known."""
_DIM = 1e-3
"""Attention that is as good as none."""


class Look(NamedTuple):
    """What one token should look at.

    Attributes:
        word: the token; see `looking`.
        things: numbers of things, or of their tokens, with the share of what is looked at that each should have.
        late: whether it has to be in the last block that tells; else it may be in any.
        weight: of it among others.
    """

    word: int
    things: list[tuple[int, float]]
    late: bool = False
    weight: float = 1.0

    def at(self, tokens: Sequence[int]) -> Look:
        """With the tokens of things in place of their numbers; those that have none (-1) are left out."""
        return self._replace(things=[(tokens[thing], share) for thing, share in self.things if tokens[thing] >= 0])


@dataclass(frozen=True)
class Glances:
    """What should be looked at.

    Attributes:
        at: row, token of its prompt after what prompts share, token of what they share; see `answer_looking`.
        shares: how much of what that token looks at this should be.
        groups: which glances belong to one look, in rising order.
        late: of each look, see there.
        weights: of each look.
    """

    at: Int[Tensor, "n 3"]
    shares: Float[Tensor, " n"]
    groups: Int[Tensor, " n"]
    late: Bool[Tensor, " G"]
    weights: Float[Tensor, " G"]

    @classmethod
    def of(cls, looks: Iterable[tuple[int, Look]]) -> Self:
        """From rows and their looks at tokens; those at nothing are left out."""
        kept = [(row, look) for row, look in looks if look.things]
        rows = [((row, x.word, token), share, g) for g, (row, x) in enumerate(kept) for token, share in x.things]
        return cls(
            torch.tensor([row[0] for row in rows], dtype=torch.long).view(-1, 3),
            torch.tensor([row[1] for row in rows]),
            torch.tensor([row[2] for row in rows], dtype=torch.long),
            torch.tensor([look.late for _, look in kept], dtype=torch.bool),
            torch.tensor([look.weight for _, look in kept]),
        )

    def unseen(self, looks: Float[Tensor, "n K"]) -> Float[Tensor, " G"]:
        """Of each look, the cross-entropy of attention with the shares wanted: the least of all blocks, or the last.

        Each counts as much as it weighs.
        """
        with without_autocast(looks):
            looks, shares = looks.float(), self.shares[:, None].to(looks.device)
            groups, count = self.groups.to(looks.device), len(self.late)
            lost, wanted, seen = (
                x.new_zeros(count, looks.shape[1]).index_add(0, groups, x.expand_as(looks))
                for x in (-shares * (looks + _DIM).log(), shares, looks)
            )
            elsewhere = (1 - seen + _DIM).clamp(min=_DIM).log()
            lost = lost - (1 - wanted).clamp(min=0) * elsewhere
            return self.weights.to(lost) * torch.where(self.late.to(lost.device), lost[:, -1], lost.amin(dim=1))


def looking(llm: LanguageModel, turn: Turn, length: int, answer: Sequence[int]) -> list[Look]:
    """What tokens should look at things that a turn is about.

    Those by which things are known; things that share what is looked at belong together, others stand alone. And where
    the answer is a box, those from which its tokens follow; where it tells of things, those from which these words do.

    Args:
        llm: counts tokens.
        turn: with what it is about, of which more than six things teach nothing, and what its answer tells of.
        length: tokens of the prompt that are counted from 0; its last ones are what is asked and the mark after it.
        answer: ids of the answer.
    """
    told = _telling(llm, turn, length)
    if sum(thing.share > 0 for thing in turn.about) > _MOST:
        return told
    found = list[Look]()
    for (end, share, late), some in groupby(turn.about, lambda x: (x.known_at, x.share, x.late)):
        word, things = _word(llm, turn, length, end), [(x.thing, x.share) for x in some]
        found += [Look(word, each, late) for each in ([things] if share < 1 else [[thing] for thing in things])]
    boxes = [Look(length - 1 + at, [(x.thing, 1.0)]) for x in turn.about[:1] for at in _located(llm, answer)]
    return [*found, *boxes, *told]


def _telling(llm: LanguageModel, turn: Turn, length: int) -> list[Look]:
    """Of all words from which those follow that tell of things: together they weigh the same, however many they are."""
    found = list[Look]()
    for (start, end), some in groupby(turn.told, lambda x: (x.start, x.end)):
        things = [(x.thing, x.share) for x in some]
        first, last = (len(llm.encode(turn.answer[:place])) for place in (start, end))
        found += [Look(length - 1 + at, things) for at in range(first, last)]
    return [look._replace(weight=_TOLD / len(found)) for look in found]


class Meant(NamedTuple):
    """What words mean that are told how many.

    Attributes:
        at: row, token of its prompt after what prompts share; see `answer_looking`.
        things: which of the scene's tokens each means.
    """

    at: Int[Tensor, "m 2"]
    things: Bool[Tensor, "m Q"]

    @classmethod
    def of(cls, said: Iterable[tuple[int, int, Sequence[int]]], tokens: int) -> Self:
        """From rows, their words, and which of the scene's tokens these mean; -1, for things without one, is none."""
        rows = list(said)
        things = torch.zeros(len(rows), tokens + 1, dtype=torch.bool)
        for number, (_, _, meant) in enumerate(rows):
            things[number, list(meant)] = True  # the last is what has no token
        return cls(torch.tensor([row[:2] for row in rows], dtype=torch.long).view(-1, 2), things[:, :-1])

    def lost(self, logits: Float[Tensor, "m Q"]) -> Float[Tensor, " m"]:
        """Of each word, the sum over things of the cross-entropy of whether it means them."""
        if not len(self.at):
            return logits.new_zeros(0)
        with without_autocast(logits):
            real, wanted = logits.isfinite(), self.things.to(logits)
            each = F.binary_cross_entropy_with_logits(logits.float().masked_fill(~real, 0.0), wanted, reduction="none")
            return (each * real).sum(dim=1)


def counting(llm: LanguageModel, turn: Turn, length: int) -> list[tuple[int, list[int]]]:
    """Tokens that are told how many things they mean, and which; none where the language model does not count.

    Args:
        llm: counts tokens.
        turn: with what it counts.
        length: see `looking`.
    """
    return [(_word(llm, turn, length, x.known_at), list(x.things)) for x in turn.counted] if llm.counts else []


class Copied(NamedTuple):
    """Which corner of a box follows words.

    Attributes:
        at: row, token of its prompt after what prompts share; see `answer_looking`.
        corners: which follows; the number of corners for none.
    """

    at: Int[Tensor, "k 2"]
    corners: Int[Tensor, " k"]

    @classmethod
    def of(cls, said: Iterable[tuple[int, int, int]]) -> Self:
        """From rows, their words, and what follows these."""
        rows = torch.tensor(list(said), dtype=torch.long).view(-1, 3)
        return cls(rows[:, :2], rows[:, 2])

    def lost(self, logits: Float[Tensor, "k 7"]) -> Float[Tensor, " k"]:
        """Of each word, the cross-entropy of what follows it."""
        if not len(self.at):
            return logits.new_zeros(0)
        with without_autocast(logits):
            return F.cross_entropy(logits.float(), self.corners.to(logits.device), reduction="none")


def copying(llm: LanguageModel, turn: Turn, length: int, answer: Sequence[int]) -> list[tuple[int, int]]:
    """Tokens from which those of an answer follow, and which corner each of these is; see `Copied`.

    Nothing is taught by answers with location tokens that are no boxes of what turns are about, and where the language
    model does not copy.

    Args:
        llm: counts tokens.
        turn: with what it is about.
        length: see `looking`.
        answer: ids of the answer.
    """
    located = _located(llm, answer)
    if not llm.copies or not turn.about or len(located) % CORNERS:
        return []
    corners = {at: number % CORNERS for number, at in enumerate(located)}
    return [(length - 1 + at, corners.get(at, CORNERS)) for at in range(len(answer))]


class EvidenceLosses(NamedTuple):
    """See `SceneLLM.evidence_losses`.

    Attributes:
        looks: of what should be looked at, too little of which was.
        counts: of words whose things are counted.
        corners: of words from which tokens of answers follow.
    """

    looks: Float[Tensor, " G"]
    counts: Float[Tensor, " M"]
    corners: Float[Tensor, " K"]


class Spoken(NamedTuple):
    """A turn as it is read.

    Attributes:
        turn: with what it is about, and what it counts.
        scene: number of its scene.
        length: tokens of its prompt after what prompts share.
        answer: ids of its answer.
    """

    turn: Turn
    scene: int
    length: int
    answer: list[int]


@dataclass(frozen=True)
class Evidence:
    """What words of turns should look at, count and copy."""

    glances: Glances
    meant: Meant
    copied: Copied

    @classmethod
    def of(
        cls, llm: LanguageModel, spoken: Sequence[Spoken], queries: Sequence[Int[Tensor, " N"]], first: int, num: int
    ) -> Self:
        """From turns, in the order of their rows.

        Args:
            llm: counts tokens.
            spoken: the turns.
            queries: for each scene, the token of each of its things among those of the scene; -1 for none.
            first: place of a scene's first token in what prompts share.
            num: tokens of a scene.
        """
        tokens = [torch.where(found < 0, found, found + first).tolist() for found in queries]
        rows = list(enumerate(spoken))
        glances = [
            (row, look.at(tokens[x.scene])) for row, x in rows for look in looking(llm, x.turn, x.length, x.answer)
        ]
        meant = [
            (row, word, queries[x.scene][things].tolist())
            for row, x in rows
            for word, things in counting(llm, x.turn, x.length)
        ]
        copied = [(row, word, corner) for row, x in rows for word, corner in copying(llm, x.turn, x.length, x.answer)]
        return cls(Glances.of(glances), Meant.of(meant, num), Copied.of(copied))

    def asked(self, device: torch.device) -> Asked:
        """What a language model has to tell for it."""
        return Asked(*(x.at.to(device) for x in (self.glances, self.meant, self.copied)))

    def lost(self, answered: Answered) -> EvidenceLosses:
        """How little of it there was."""
        return EvidenceLosses(
            self.glances.unseen(answered.looks), self.meant.lost(answered.meant), self.copied.lost(answered.corners)
        )


def _located(llm: LanguageModel, answer: Sequence[int]) -> list[int]:
    """Which tokens of an answer are location tokens."""
    return [at for at, token in enumerate(answer) if llm.is_location(token)]


def _word(llm: LanguageModel, turn: Turn, length: int, end: int) -> int:
    """The token of a turn's prompt with which so many of its characters have been read."""
    before = length - len(llm.encode(llm.layout.assistant, marks=True)) - len(llm.encode(turn.prompt))
    return before - 1 + len(llm.encode(turn.prompt[:end]))
