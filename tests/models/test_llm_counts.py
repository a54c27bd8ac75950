"""How many things words mean."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from torch import nn

from genworld.models.llm import build_llm
from genworld.models.llm_counts import CountHead, number_of
from tests.models.scene_llm_cases import OWN

WIDTH = 32


@torch.no_grad()
def test_numbers_of_events_are_those_of_all_their_outcomes() -> None:
    chances = torch.tensor([0.9, 0.5, 0.25, 0.0, 1.0], dtype=torch.float64)
    wanted = torch.zeros(4, dtype=torch.float64)
    for outcome in product((0, 1), repeat=len(chances)):
        happened = torch.tensor(outcome, dtype=torch.float64)
        likely = (happened * chances + (1 - happened) * (1 - chances)).prod()
        wanted[min(3, sum(outcome))] += likely
    torch.testing.assert_close(number_of(chances, most=4), wanted)
    many = number_of(torch.rand(3, 2, 64), most=7)
    torch.testing.assert_close(many.sum(dim=-1), torch.ones(3, 2))
    assert (many >= 0).all()


@torch.no_grad()
def test_it_begins_by_saying_nothing_and_things_that_are_not_there_are_not_meant() -> None:
    head = CountHead(WIDTH, 3)
    states, things, moved = torch.randn(2, 4, WIDTH), torch.randn(2, 5, WIDTH), torch.randn(2, 4, 5, 3)
    real = torch.arange(5) < torch.tensor([[5], [3]])
    seen = torch.tensor([0.2, 0.0, 0.0, 0.15, 0.01]).expand(2, 4, 5)
    told, logits = head(states, things, seen, moved, real)
    assert not told.any()
    assert (logits[1, :, 3:] == -torch.inf).all()
    assert logits.isfinite().sum() == 4 * (5 + 3)
    judged = torch.stack([head(torch.zeros(1, 4, WIDTH), things[:1], seen[:1], moved[:1], real[:1])[1][0, 0]])
    assert (judged > 0).tolist() == [[True, False, False, True, False]]  # what was looked at is meant


def test_numbers_are_told_as_their_words_at_first() -> None:
    llm = build_llm(replace(OWN, depth=3, anchored=True, counting=True))
    assert not any(x.any() for name, x in llm.named_parameters() if "count.tell" in name)
    llm.fit(["how many chairs are there?", "0 1 2 3 4 5 6"])
    (head,) = [module for module in llm.modules() if isinstance(module, CountHead)]
    for number in range(7):
        (word,) = llm.encode(str(number))
        assert torch.equal(head.tell.weight[:, number], llm.table[word])


def test_it_learns_to_count_what_is_of_a_kind_and_lies_as_is_asked() -> None:
    torch.manual_seed(0)
    kinds, head, read = torch.randn(4, WIDTH), CountHead(WIDTH, 1), nn.Linear(WIDTH, 7)
    adam = torch.optim.Adam([*head.parameters(), *read.parameters()], lr=0.01)

    def draw(batch: int) -> tuple[torch.Tensor, ...]:
        """Words that ask for a kind, and for those that lie well; things; how these lie; and which are meant."""
        kind, wanted = torch.randint(4, (batch, 12)), torch.randint(4, (batch, 1))
        lying = (torch.rand(batch, 12) < 0.5).float()
        return kinds[wanted], kinds[kind], lying[:, None, :, None], (kind == wanted) & (lying > 0)

    def loss() -> torch.Tensor:
        states, things, moved, meant = draw(64)
        told, logits = head(states, things, torch.zeros(len(states), 1, 12), moved, torch.ones_like(meant))
        judged = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], meant.float())
        return judged + nn.functional.cross_entropy(read(told)[:, 0], meant.sum(dim=1).clamp(max=6))

    for _ in range(150):
        adam.zero_grad()
        loss().backward()
        adam.step()
    states, things, moved, meant = draw(256)
    told, _ = head(states, things, torch.zeros(len(states), 1, 12), moved, torch.ones_like(meant))
    right = read(told)[:, 0].argmax(dim=1) == meant.sum(dim=1).clamp(max=6)
    assert right.float().mean() > 0.95
