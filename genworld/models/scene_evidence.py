"""Where a language model should look in a scene while it reads and answers, and how far it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genworld.models.llm_base import LanguageModel
from genworld.ops.precision import without_autocast
from genworld.types import Turn

_MOST = 6
"""Things that a turn is about, at most, for what it looks at to be taught."""
_DIM = 1e-3
"""Attention that is as good as none."""

Things = list[tuple[int, float]]
"""Numbers of things, or of their tokens, with the share of what is looked at that each should have."""


@dataclass(frozen=True)
class Glances:
    """What should be looked at.

    Attributes:
        at: row, token of its prompt after what prompts share, token of what they share; see `answer_looking`.
        shares: how much of what that token looks at this should be.
        groups: which glances of one token belong together, in rising order.
    """

    at: Int[Tensor, "n 3"]
    shares: Float[Tensor, " n"]
    groups: Int[Tensor, " n"]

    @classmethod
    def of(cls, groups: Iterable[tuple[int, int, Things]]) -> Self:
        """From the row, the word and the tokens of each group; groups without tokens are left out."""
        kept = [group for group in groups if group[2]]
        rows = [((row, word, token), share, g) for g, (row, word, some) in enumerate(kept) for token, share in some]
        return cls(
            torch.tensor([row[0] for row in rows], dtype=torch.long).view(-1, 3),
            torch.tensor([row[1] for row in rows]),
            torch.tensor([row[2] for row in rows], dtype=torch.long),
        )

    def unseen(self, looks: Float[Tensor, "n K"]) -> Float[Tensor, " G"]:
        """Of each group, the cross-entropy of attention with the shares wanted, in the block where it is least."""
        with without_autocast(looks):
            looks, shares = looks.float(), self.shares[:, None].to(looks.device)
            groups, count = self.groups.to(looks.device), int(self.groups[-1]) + 1 if len(self.groups) else 0
            lost, wanted, seen = (
                x.new_zeros(count, looks.shape[1]).index_add(0, groups, x.expand_as(looks))
                for x in (-shares * (looks + _DIM).log(), shares, looks)
            )
            elsewhere = (1 - seen + _DIM).clamp(min=_DIM).log()
            return (lost - (1 - wanted).clamp(min=0) * elsewhere).amin(dim=1)


def looking(llm: LanguageModel, turn: Turn, length: int, answer: Sequence[int]) -> list[tuple[int, Things]]:
    """The tokens that should look at things that a turn is about: which token, and which things.

    Those by which things are known; things that share what is looked at belong together, others stand alone. And where
    the answer is a box, those from which its tokens follow.

    Args:
        llm: counts tokens.
        turn: with what it is about; of more than six things, nothing is taught.
        length: tokens of the prompt that are counted from 0; its last ones are what is asked and the mark after it.
        answer: ids of the answer.
    """
    if len(turn.about) > _MOST:
        return []
    before = length - len(llm.encode(llm.layout.assistant, marks=True)) - len(llm.encode(turn.prompt))
    found = list[tuple[int, Things]]()
    for (end, share), some in groupby(turn.about, lambda x: (x.known_at, x.share)):
        word, things = before - 1 + len(llm.encode(turn.prompt[:end])), [(x.thing, x.share) for x in some]
        found += [(word, things)] if share < 1 else [(word, [thing]) for thing in things]
    boxed = [at for at, token in enumerate(answer) if 0 <= token - llm.first_location < llm.num_locations]
    return found + [(length - 1 + at, [(x.thing, 1.0)]) for x in turn.about[:1] for at in boxed]
