"""Where a language model is taught to look, and what it is taught to count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from genworld.models.scene_evidence import Copied, Glances, Look, Meant, copying, counting, looking
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.types import About, Counted, Pack, Told, Turn
from tests.models.scene_llm_cases import OWN, furnished, furnished_turns, make_task

COUNTING = replace(OWN, depth=3, anchored=True, counting=True)
COPYING = replace(OWN, depth=3, anchored=True, locations="corner", copying=True)


def learn(task: Converse, turns: Sequence[Turn], log: str, count: int = 4) -> None:
    """So many words have this loss and others have not: it halves, and answers are lost as without it."""
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    lost = []
    for _ in range(60):
        out = task(Pack(tuple(turns)), seed=0, step=0)
        lost.append((out.logs[log] / out.units[log]).item())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.units[log] == count
    assert lost[-1] < lost[0] / 2
    losses, _ = task.model.evidence_losses(task.model.inputs(turns, with_answers=True), turns)
    torch.testing.assert_close(losses.sums, task.model.loss(turns).sums)


def test_evidence_is_that_the_things_asked_about_are_looked_at() -> None:
    task = make_task(answers=1, objects=1, evidence=0.5)
    asked = "Is the chair red?"
    known = (About(0, asked.index(" red")),)
    turns = [replace(turn, about=known, prompt=asked) for turn in furnished_turns(4)]
    turns.append(replace(turns[0], position=4, id="q4", about=()))
    turns.append(replace(turns[0], position=5, id="q5", about=7 * known))  # too many to look at
    learn(task, turns, "loss/looks")


def test_words_learn_which_things_they_count() -> None:
    task = make_task(COUNTING, answers=1, objects=1, evidence=0.5)
    asked = "How many chairs are there?"
    turns = [
        replace(turn, counted=(Counted(asked.index(" are"), things),), answer=str(len(things)))
        for turn, things in zip(furnished_turns(4), ((0,), (0, 1), (), (2,)), strict=True)
    ]
    turns.append(replace(turns[0], position=4, id="q4", counted=()))
    learn(task, turns, "loss/counts")


def test_words_learn_which_corner_of_a_box_comes_next() -> None:
    task = make_task(COPYING, answers=1, objects=1, evidence=0.5)
    asked, box = "Where is the chair?", "<loc3><loc4><loc5><loc6><loc7><loc8>"
    turns = [replace(turn, prompt=asked, answer=box, about=(About(0, 18),)) for turn in furnished_turns(4)]
    turns.append(replace(turns[0], position=4, id="q4", about=()))  # nobody knows what it is about
    turns.append(replace(turns[0], position=5, id="q5", answer="<loc3><loc4><loc5>"))  # a point
    learn(task, turns, "loss/corners", count=4 * 7)


@torch.no_grad()
def test_words_from_which_corners_follow_are_told_by_token() -> None:
    (turn,) = furnished_turns(1)
    turn = replace(turn, answer="at <loc3><loc4><loc5><loc6><loc7><loc8>", about=(About(0, 2),))
    assert copying(make_task(answers=1).model.llm, turn, 9, [1]) == []  # it does not copy
    llm = make_task(COPYING, answers=1).model.llm
    answer = [*llm.encode(turn.answer), llm.end]
    first = len(answer) - 7
    wanted = [*[6] * first, 0, 1, 2, 3, 4, 5, 6]
    assert copying(llm, turn, 9, answer) == [(8 + at, corner) for at, corner in enumerate(wanted)]
    assert copying(llm, turn, 9, answer[:-2]) == []  # five are no box
    found = Copied.of([(5, 8, 0), (6, 9, 6)])
    assert (found.at.tolist(), found.corners.tolist()) == ([[5, 8], [6, 9]], [0, 6])
    sure = 30.0 * torch.nn.functional.one_hot(found.corners, 7)
    assert (found.lost(sure) < 1e-6).all()
    assert (found.lost(-sure) > 20).all()


@torch.no_grad()
def test_what_words_mean_is_told_by_word_and_token() -> None:
    (turn,) = furnished_turns(1)
    turn = replace(turn, counted=(Counted(len("How many chairs"), (0, 2, 1)), Counted(len(turn.prompt), ())))
    assert counting(make_task(answers=1).model.llm, turn, 9) == []  # it does not count
    llm = make_task(COUNTING, answers=1).model.llm
    prompt, mark = llm.encode(turn.prompt), llm.encode("<assistant>", marks=True)
    (word, things), (last, nothing) = counting(llm, turn, len(prompt) + len(mark))
    assert llm.decode(prompt[: word + 1]) == "how many chairs"
    assert (things, last, nothing) == ([0, 2, 1], len(prompt) - 1, [])
    found = Meant.of([(5, word, [3, 0, -1]), (5, last, [])], 4)
    assert found.at.tolist() == [[5, word], [5, last]]
    assert found.things.tolist() == [[True, False, False, True], [False] * 4]
    sure = torch.where(found.things, 20.0, -20.0)
    sure[:, 2] = -torch.inf  # there is no third thing
    assert (found.lost(sure) < 1e-6).all()
    assert (found.lost(-sure) > 20).all()


def test_the_words_by_which_a_thing_is_known_look_at_it_and_those_that_place_it() -> None:
    model = make_task(answers=1, objects=1, evidence=1).model
    (turn,) = furnished_turns(1)
    turn = replace(turn, prompt="Where is the red chair? Answer with a box.", answer="box <loc3><loc4>")
    prompt = model._prompt_ids(turn)
    start = prompt.index(model.llm.encode("<user>", marks=True)[0])
    answer = model.llm.encode(turn.answer)
    ids = [*prompt[start:], *answer]

    def found(*about: About) -> list[Look]:
        return looking(model.llm, replace(turn, about=about), len(prompt) - start, answer)

    first, *others = found(About(0, len("Where is the red chair")))
    assert model.llm.decode(ids[: first[0] + 1]).endswith("red chair")
    assert [model.llm.decode(ids[look.word + 1 : look.word + 2]) for look in others] == ["<loc3>", "<loc4>"]
    assert all(look.things == [(0, 1.0)] for look in (first, *others))
    pair, alone, last, *_ = found(About(0, 5, 0.25), About(1, 5, 0.25), About(2, 8), About(2, 8, 0.0, late=True))
    assert pair.things == [(0, 0.25), (1, 0.25)]
    assert alone.things == [(2, 1.0)]
    assert last == Look(alone.word, [(2, 0.0)], late=True)
    assert found() == []


def test_words_that_tell_of_things_follow_from_looks_at_them() -> None:
    model = make_task(answers=1, objects=1, evidence=1).model
    (turn,) = furnished_turns(1)
    text = "The red chair, and lamps."
    told = (Told(0, 4, 13), Told(1, 19, 24, 0.5), Told(2, 19, 24, 0.5))
    turn = replace(turn, answer=text, told=told, about=7 * (About(0, 3),))  # too many to look at, but these are taught
    prompt, answer = model._prompt_ids(turn), model.llm.encode(text)
    start = prompt.index(model.llm.encode("<user>", marks=True)[0])
    ids = [*prompt[start:], *answer]
    looks = looking(model.llm, turn, len(prompt) - start, answer)
    of = {number: [ids[look.word + 1] for look in looks if look.things[0][0] == number] for number in (0, 1)}
    assert {number: model.llm.decode(words) for number, words in of.items()} == {0: "red chair", 1: "lamps"}
    assert all(look.things == ([(0, 1.0)] if look.things[0][0] == 0 else [(1, 0.5), (2, 0.5)]) for look in looks)
    assert sum(look.weight for look in looks) == pytest.approx(4)
    learn_turns = [replace(other, answer=text, told=told) for other in furnished_turns(2)]
    learn(make_task(answers=1, objects=1, evidence=0.5), learn_turns, "loss/looks", count=2 * len(looks))


def test_evidence_is_least_where_each_gets_its_share() -> None:
    several, nothing, one = Look(3, [(1, 0.25), (2, 0.25)]), Look(4, [(5, 1.0)]).at([0] * 5 + [-1]), Look(5, [(1, 1.0)])
    glances = Glances.of([(0, several), (0, nothing), (1, one)])
    assert glances.at.tolist() == [[0, 3, 1], [0, 3, 2], [1, 5, 1]]
    wanted = torch.tensor([[0.25, 0.9], [0.25, 0.0], [0.1, 1.0]])
    best = glances.unseen(wanted)
    entropy = -(0.5 * math.log(0.25) + 0.5 * math.log(0.5))
    assert best.tolist() == pytest.approx([entropy, 0.0], abs=0.01)
    for change in ([0.1, 0.0, 0.0], [-0.1, 0.1, 0.0], [-0.1, -0.1, 0.0]):
        assert glances.unseen(wanted[:, :1] + torch.tensor(change)[:, None])[0] > best[0]
    assert len(Glances.of([]).unseen(torch.zeros(0, 1))) == 0
    half = Glances.of([(0, several._replace(weight=0.5)), (1, one)])
    assert half.unseen(wanted).tolist() == pytest.approx((best * torch.tensor([0.5, 1.0])).tolist())
    late = Glances.of([(0, Look(3, [(1, 0.0)], late=True)), (0, Look(3, [(1, 0.5)], late=True))])
    assert late.unseen(torch.tensor([[0.0, 0.9], [0.5, 1.0]])).min() > 1
    assert late.unseen(torch.tensor([[0.9, 0.0], [0.9, 0.5]])).tolist() == pytest.approx([0, math.log(2)], abs=0.01)


def test_evidence_needs_objects_and_a_model_that_tells() -> None:
    with pytest.raises(ValueError, match="needs answers to be positive"):
        ConverseConfig(answers=0, objects=1, evidence=1)
    task = make_task(answers=1, objects=1, evidence=1)
    few = furnished()[0].map(lambda x: x[:3])
    mixed = [furnished_turns(1)[0], replace(furnished_turns(2)[1], points=few)]
    with pytest.raises(ValueError, match="more points than it has queries"):
        task(Pack(tuple(mixed)), seed=0, step=0)


def test_without_anything_asked_about_there_is_no_evidence() -> None:
    task = make_task(answers=1, objects=1, evidence=1)
    out = task(Pack(tuple(furnished_turns(2))), seed=0, step=0)
    assert out.units["loss/looks"] == 0
    assert out.logs["loss/looks"] == 0
    assert out.loss.isfinite()
