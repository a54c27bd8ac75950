"""Boxes in prompts point at the objects that were found there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.models.llm_base import LocationStyle
from genworld.models.scene_llm import SceneInputs, SceneLLM
from genworld.models.scene_pointing import boxes_told
from genworld.tasks.converse import Converse
from tests.models.scene_llm_cases import OWN, furnished_turns, make_task

CORNER = replace(OWN, locations="corner")


def box_text(cells: list[int]) -> str:
    return "".join(f"<loc{cell}>" for cell in cells)


def found(task: Converse, sure: tuple[int, ...]) -> tuple[SceneLLM, list[list[int]]]:
    """A model that is sure of some queries alone, and the corners of all."""
    model = task.model
    settle = model.connector.settle

    def settled(batch):  # type: ignore[no-untyped-def]
        tokens = settle(batch)
        last = tokens.objects.last
        logits = torch.full_like(last.sure, -1.0)
        logits[:, list(sure)] = 1.0
        return tokens._replace(objects=tokens.objects._replace(last=last._replace(sure=logits)))

    model.connector.settle = settled  # type: ignore[method-assign]
    seen = model.see(furnished_turns(1))
    assert seen.settled.objects is not None
    return model, seen.settled.objects.corners[0].tolist()


def changed(one: SceneInputs, other: SceneInputs) -> list[int]:
    """Places of a prompt, from its end, whose embeddings differ."""
    away = (one.prompt[0] - other.prompt[0]).abs().amax(dim=-1)
    return [int(place) - len(away) for place in away.nonzero()[:, 0]]


@pytest.mark.parametrize("style", ["axis", "corner"])
def test_boxes_among_tokens(style: LocationStyle) -> None:
    llm = make_task(replace(OWN, locations=style), answers=1).model.llm
    text = f"chair {box_text([1, 2, 3, 4, 5, 6])}{box_text([7, 8, 9, 10, 11, 12])} lamp <loc1><loc2><loc3> sofa"
    ids = llm.encode(text)
    first = len(llm.encode("chair"))
    assert boxes_told(llm, ids) == [(first + 5, [1, 2, 3, 4, 5, 6]), (first + 11, [7, 8, 9, 10, 11, 12])]
    assert boxes_told(llm, ids[:-1]) == boxes_told(llm, ids)
    assert boxes_told(llm, ids[first + 1 :])[:1] == []  # eleven tokens are no whole boxes


@torch.no_grad()
def test_the_last_token_of_a_box_becomes_that_of_the_object_there() -> None:
    model, corners = found(make_task(CORNER, answers=1), sure=(0, 1))
    near = [max(0, cell - 1) for cell in corners[1]]
    (turn,) = furnished_turns(1)
    for history in ((), (f"What is in {box_text(near)}?", "a lamp")):
        turn = replace(turn, prompt=f"What is in {box_text(near)}?", history=history)
        inputs = model.inputs([turn], with_answers=False)
        ids = torch.tensor(model._prompt_ids(turn))
        ends = [at for at, _ in boxes_told(model.llm, ids.tolist())]
        assert len(ends) == 1 + len(history) // 2
        for end in ends:
            torch.testing.assert_close(inputs.prompt[0, end], inputs.scenes.tokens.x[0, 1])
            torch.testing.assert_close(inputs.prompt[0, end - 1], model.llm.embed(ids[end - 1]))


@torch.no_grad()
def test_nothing_is_pointed_at_where_nothing_was_found_or_somebody_stands() -> None:
    (turn,) = furnished_turns(1)
    model, corners = found(make_task(CORNER, answers=1), sure=(0,))
    asked = replace(turn, prompt=f"What is in {box_text(corners[0])}?")
    unsure, _ = found(make_task(CORNER, answers=1), sure=())
    (end,) = changed(model.inputs([asked], with_answers=False), unsure.inputs([asked], with_answers=False))
    far = replace(turn, prompt=f"What is in {box_text([255] * 6)}?")
    standing = replace(asked, standing=(0.0, 0.0, 0.0))
    for other in (far, standing):
        assert changed(model.inputs([other], with_answers=False), unsure.inputs([other], with_answers=False)) == []
    assert end == -len(model.llm.encode("?")) - 2
