"""Attention that goes on from what was looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.models.connectors import Connector, ConnectorConfig, NormConfig, ObjectQueriesConfig, PlacesConfig
from genworld.models.llm import build_llm
from genworld.models.llm_base import Asked, GenerationConfig
from genworld.models.object_relations import RELATIONS
from genworld.models.scene_llm import SceneLLM, SceneLLMConfig
from genworld.types import Turn
from tests.models.scene_llm_cases import FEATURES, OWN, make_points, make_turns

PARTS = (NormConfig(), ObjectQueriesConfig(width=16, depth=1, num_heads=2, num_queries=5, neighbours=4), PlacesConfig())
SHORT = GenerationConfig(max_tokens=6)


def make_model(anchored: bool, gates: float = 0.0, *, telling: bool = False) -> SceneLLM:
    torch.manual_seed(0)
    heads = {"counting": True, "copying": True, "locations": "corner"} if telling else {}
    llm = replace(OWN, anchored=anchored, depth=3, **heads)
    model = SceneLLM(SceneLLMConfig(connector=ConnectorConfig(parts=PARTS), llm=llm), FEATURES).eval()
    model.fit_tokenizer(["what is the red chair next to? a lamp sofa where box"])
    assert isinstance(model.connector, Connector)
    torch.manual_seed(1)
    for name, x in model.llm.named_parameters():
        if any(part in name for part in ("relate", ".count.", ".corners.")):
            torch.nn.init.normal_(x, std=gates)  # of 0: none
    return model


def turns() -> list[Turn]:
    """Three about one scene, of different lengths, and one about a scene of fewer points."""
    first = make_turns(1)[0]
    prompts = ("what is the red chair next to?", "where?", "is the lamp a box?")
    points = make_points(9, 1)
    many = [replace(first, points=points, position=i, id=f"q{i}", prompt=text) for i, text in enumerate(prompts)]
    return [*many, replace(first, points=make_points(3, 2), position=9, id="q9", scene="other")]


@torch.no_grad()
def test_it_begins_with_two_relations_and_is_nothing_without_gates() -> None:
    torch.manual_seed(0)
    blocks = build_llm(replace(OWN, anchored=True, depth=6, num_heads=4)).network.model.layers
    begun = [block.self_attn.relate.bias.view(4, -1) for block in list(blocks)[1:]]
    assert [int((bias > 0).sum()) for bias in begun] == [0, 2, 2, 0, 0]
    assert begun[1][0, RELATIONS.index("near")] == begun[2][1, RELATIONS.index("room")] == 1
    plain, anchored = make_model(anchored=False), make_model(anchored=True)
    anchored.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(anchored.loss(turns()).sums, plain.loss(turns()).sums)
    assert anchored.generate(turns(), SHORT) == plain.generate(turns(), SHORT)


@torch.no_grad()
@pytest.mark.parametrize("telling", [False, True])
def test_who_shares_a_batch_or_a_beginning_makes_no_difference(telling: bool) -> None:
    model = make_model(anchored=True, gates=0.5, telling=telling)
    plain = make_model(anchored=True, gates=0.5 * telling)
    asked = turns()
    alone = torch.cat([model.loss([turn]).sums for turn in asked])
    assert not torch.allclose(alone, plain.loss(asked).sums, atol=1e-3)
    torch.testing.assert_close(model.loss(asked).sums, alone, rtol=1e-4, atol=1e-4)
    shared = model.inputs(asked[:3], with_answers=True)
    assert shared.start is not None
    torch.testing.assert_close(model.answer_losses(shared).sums, alone[:3], rtol=1e-4, atol=1e-4)
    assert model.generate(asked, SHORT) == [model.generate([turn], SHORT)[0] for turn in asked]


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("telling", [False, True])
def test_generation_follows_the_logits_of_the_loss(beams: int, telling: bool) -> None:
    model = make_model(anchored=True, gates=0.5, telling=telling)
    inputs = model.inputs(turns()[:1], with_answers=False)
    (ids,) = model.llm.generate(inputs, replace(SHORT, num_beams=beams))
    if beams == 1:
        answers = torch.tensor([[*ids, model.llm.end]])
        whole = torch.ones_like(answers, dtype=torch.bool)
        logits = model.logits(replace(inputs, answers=answers, answers_keep=whole))
        assert logits[0, : len(ids)].argmax(dim=-1).tolist() == ids


def test_gradients_reach_the_gates() -> None:
    model = make_model(anchored=True)
    model.loss(turns()).sums.sum().backward()
    gates = [x.grad for name, x in model.llm.named_parameters() if "relate" in name]
    assert len(gates) == 4  # of the second and third block
    assert all(x is not None and x.abs().sum() > 0 for x in gates)


@torch.no_grad()
def test_what_is_looked_at_next_lies_near_what_was_looked_at() -> None:
    """Two tokens of a scene: with a gate that wants nearness, the second look goes to the one near the first."""
    model = make_model(anchored=True)
    llm, inputs = model.llm, model.inputs(turns()[:1], with_answers=True)
    assert inputs.lying is not None
    pairs = torch.zeros_like(inputs.lying.pairs)
    pairs[..., 3, 0] = -8.0  # whatever was looked at, the fourth token is far from it
    for block in list(llm.network.model.layers)[1:]:
        block.self_attn.relate.bias.view(-1, pairs.shape[-1])[:, 0] = 30.0
    words = torch.arange(3)
    first = int(inputs.lying.first[0])
    glances = torch.stack([torch.zeros(3).long(), words, torch.full((3,), first + 3)], dim=1)
    looks = {}
    for name, table in (("near", torch.zeros_like(pairs)), ("far", pairs)):
        given = replace(inputs, lying=replace(inputs.lying, pairs=table))
        looks[name] = llm.answer_looking(given, Asked(glances, *2 * [glances[:0, :2]])).looks
    assert (looks["far"] < 0.5 * looks["near"]).all()
