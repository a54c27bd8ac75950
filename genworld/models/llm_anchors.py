"""Attention that goes on from what was looked at: to what is beside it, on it, or in its room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from genworld.models.llm_corners import CornerHead
from genworld.models.llm_counts import CountHead
from genworld.models.object_relations import RELATIONS


@dataclass(frozen=True)
class Lying:
    """How the tokens of scenes lie to one another, for the prompts that have them.

    Attributes:
        pairs: for each scene, features of each token (second axis) to each (third axis); 0 where there is none.
        rows: the scene of each prompt.
        first: place of the first token of the scene in each prompt, padding on its left included.
        counts: tokens of each scene.
        things: the tokens themselves, as they are wherever one stands.
        corners: embeddings of the location tokens of their boxes (see `CornerHead`); None where nobody reads them.
    """

    pairs: Float[Tensor, "S Q Q F"]
    rows: Int[Tensor, " B"]
    first: Int[Tensor, " B"]
    counts: Int[Tensor, " S"]
    things: Float[Tensor, "S Q D"]
    corners: Float[Tensor, "S Q 6 D"] | None = None

    def after(self, length: int, rows: Int[Tensor, " b"]) -> Lying:
        """Some of the prompts, each with its scene at the end of `length` tokens, without padding."""
        mine = self.rows[rows]
        return replace(self, rows=mine, first=length - self.counts[mine])


class Anchors:
    """Lets words look at tokens of a scene by how these lie to the tokens that the same word looked at before.

    In "the chair next to the bed", the last word looks at the bed; what it looks at in the next block is biased by
    what lies next to that, as much as the word says (spatial attention conditioned on language, Chen et al. 2022,
    "Language conditioned spatial relation reasoning for 3D object grounding", with attention itself as the anchor).
    What was looked at is the greatest attention of all blocks before, the mean over heads. The bias begins at zero, but
    in the middle third of the blocks, the first two heads begin by looking at what is near, and at what is in one room:
    from zero, the gates learned only to look at the same thing again, and whether two named things stand next to each
    other or share a room stayed a guess; so begun, both were right for 86 % after 400 steps of 64.

    Only what follows a scene has anchors: scenes are read as without.

    Args:
        blocks: of a decoder of transformers with eager attention; each gets a linear layer `self_attn.relate`.
        width: of their states.
        counting: whether the first block of the last third gets a `CountHead` too, as `count`.
        copying: whether it gets a `CornerHead` too, as `corners`.

    Attributes:
        counts: the count head; None where there is none.
        corners: the corner head; None where there is none.
        meant: what the count head made of every word and thing when the blocks were last run, as logits.
        copied: what the corner head made of every word, likewise.
    """

    def __init__(self, blocks: nn.ModuleList, width: int, *, counting: bool = False, copying: bool = False) -> None:
        self._features = len(RELATIONS)
        self.counts: CountHead | None = None
        self.corners: CornerHead | None = None
        self.meant: Tensor | None = None
        self.copied: Tensor | None = None
        self._lying: Lying | None = None
        self._seen: Tensor | None = None
        self._reading = torch.zeros(0, dtype=torch.bool)
        for number, block in enumerate(blocks):
            attention: Any = block.self_attn
            if number:
                heads = attention.config.num_attention_heads
                attention.relate = nn.Linear(width, heads * self._features)
                nn.init.zeros_(attention.relate.weight)
                nn.init.zeros_(attention.relate.bias)
                if len(blocks) // 3 <= number < 2 * len(blocks) // 3:
                    _begin(attention.relate.bias.data.view(heads, self._features))
            attention.register_forward_pre_hook(self._before, with_kwargs=True)
            attention.register_forward_hook(self._after)
        last: Any = blocks[2 * len(blocks) // 3]
        if counting:
            last.count = self.counts = CountHead(width, self._features)
        if copying:
            last.corners = self.corners = CornerHead(width)
        if counting or copying:
            last.register_forward_pre_hook(self._told)

    @contextmanager
    def among(self, lying: Lying | None) -> Iterator[None]:
        """While this holds, prompts have these scenes."""
        self._lying = lying
        try:
            yield
        finally:
            self._lying = self._seen = self.meant = self.copied = None

    def _before(self, attention: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if attention.layer_idx == 0:
            self._seen = None
        if self._lying is None or self._seen is None:
            return None
        states, mask = kwargs["hidden_states"], kwargs["attention_mask"]
        gates = attention.relate(states).unflatten(-1, (-1, self._features))
        moved = self._moved(states)
        bias = torch.einsum("blhf,blkf->bhlk", gates, moved).to(mask)
        return args, {**kwargs, "attention_mask": mask + self._at_tokens(bias, mask.shape[-1])}

    def _after(self, attention: Any, args: Any, output: tuple[Tensor, Tensor]) -> None:
        if self._lying is None:
            return
        weights = output[1].mean(dim=1)
        length, keys = weights.shape[1:]
        tokens = self._tokens(len(weights))
        self._reading = torch.arange(keys - length, keys, device=weights.device) >= tokens[:, :1] + self._counts(tokens)
        seen = weights.gather(2, tokens.clamp(max=keys - 1)[:, None].expand(-1, length, -1)) * self._reading[..., None]
        self._seen = seen if self._seen is None else torch.maximum(self._seen, seen)

    def _told(self, block: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """What heads tell words of the things that these looked at."""
        lying = self._lying
        if lying is None:
            return None
        states, rows = args[0], _repeated(lying.rows, len(args[0]))
        assert self._seen is not None
        told, things = torch.zeros_like(states), lying.things[rows]
        real = torch.arange(things.shape[1], device=things.device) < lying.counts[rows][:, None]
        if self.counts is not None:
            more, self.meant = block.count(states, things, self._seen, self._moved(states), real)
            told = told + more
        if self.corners is not None:
            assert lying.corners is not None, "a model with a corner head must be given corners"
            more, self.copied = block.corners(states, lying.corners[rows], self._seen, real)
            told = told + more
        return (states + told * self._reading[..., None], *args[1:])

    def _moved(self, states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L Q F"]:
        """How each token of the scene lies to what each word looked at."""
        assert self._lying is not None
        assert self._seen is not None
        pairs = self._lying.pairs[_repeated(self._lying.rows, len(states))]
        return torch.einsum("blq,bqkf->blkf", self._seen, pairs.to(self._seen))

    def _tokens(self, rows: int) -> Int[Tensor, "B Q"]:
        """Where the tokens of each row's scene are."""
        assert self._lying is not None
        first = _repeated(self._lying.first, rows)
        return first[:, None] + torch.arange(self._lying.pairs.shape[1], device=first.device)

    def _counts(self, tokens: Tensor) -> Int[Tensor, "B 1"]:
        """Tokens of each row's scene."""
        assert self._lying is not None
        return _repeated(self._lying.counts[self._lying.rows], len(tokens))[:, None]

    def _at_tokens(self, bias: Float[Tensor, "B H L Q"], keys: int) -> Float[Tensor, "B H L K"]:
        assert self._lying is not None
        first, count = self._lying.first, bias.shape[-1]
        start = int(first[0])
        if bool((first == start).all()) and start + count <= keys:
            return F.pad(bias, (start, keys - start - count))
        index = self._tokens(len(bias)).clamp(max=keys - 1)[:, None, None].expand_as(bias)
        return bias.new_zeros(*bias.shape[:-1], keys).scatter_add(3, index, bias)


def _begin(gates: Float[Tensor, "H F"]) -> None:
    for gate, relation in zip(gates, ("near", "room"), strict=False):
        gate[RELATIONS.index(relation)], gate[RELATIONS.index("self")] = 1.0, -8.0


def _repeated(numbers: Int[Tensor, " B"], rows: int) -> Int[Tensor, " R"]:
    """Once for each of the beams that a prompt may have."""
    return numbers if len(numbers) == rows else numbers.repeat_interleave(rows // len(numbers))
