"""How objects lie to one another, and which share a room."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genworld.models.connector_parts import ObjectSteps, SceneObjects, SceneTokens
from genworld.models.object_relations import RelationsConfig
from genworld.models.object_rooms import rooms_of
from genworld.models.point_batch import PointBatch
from genworld.types import PointSet
from genworld.world.rooms import sample_floor

WIDTH = 16
SHELF, VASE, CHAIR, FAR, NONE = range(5)


def lying(rooms: torch.Tensor | None = None, sure: float = 9.0) -> SceneTokens:
    """A shelf with a vase on it, a chair beside it, another chair far away, and a query that is no object."""
    lower = torch.tensor([[0.0, 0, 0], [0.4, 0.2, 1], [1.1, 0, 0], [7, 7, 0], [0.4, 0.2, 1]])
    upper = torch.tensor([[1.0, 0.5, 1], [0.6, 0.4, 1.3], [1.5, 0.5, 1], [7.5, 7.5, 1], [0.6, 0.4, 1.3]])
    certain = torch.tensor([[sure, sure, sure, sure, -20.0]])
    said = SceneObjects(lower[None], upper[None], certain, torch.zeros(1, 5, WIDTH))
    keep = torch.ones(1, 5, dtype=torch.bool)
    shared = torch.ones(1, 5, 5) if rooms is None else rooms[None]
    objects = ObjectSteps(torch.zeros(1, 3), (), said, keep, torch.zeros(1, 5, 15), shared, torch.zeros(1, 5, 6).long())
    return SceneTokens(torch.eye(5, WIDTH)[None], keep, objects)


def test_heads_begin_as_relations() -> None:
    part = RelationsConfig().build(WIDTH, WIDTH)
    tokens = lying(torch.eye(5).index_fill(0, torch.tensor([SHELF, VASE]), 1.0))
    assert tokens.objects is not None
    beside, _, on, under, room, others, _, _ = part.shares(tokens.objects)[0]
    assert beside[CHAIR, SHELF] > 0.4
    assert beside[CHAIR, FAR] < 0.01
    assert on[VASE].argmax() == SHELF
    assert on[VASE, SHELF] > 0.8
    assert on[SHELF].max() < 0.05
    assert under[SHELF].argmax() == VASE
    assert room[SHELF, [SHELF, VASE, CHAIR, FAR]].allclose(torch.tensor(0.25), atol=0.01)
    assert room[FAR, FAR] > 0.9
    assert others[SHELF, SHELF] < 0.01
    assert part.shares(tokens.objects)[..., NONE].max() < 1e-6
    assert part.shares(tokens.objects).sum(dim=-1).max() < 1


def test_tokens_hear_of_others_and_gradients_come_back() -> None:
    part = RelationsConfig().build(WIDTH, WIDTH)
    tokens = lying()
    heard = part(tokens, None)
    assert not torch.allclose(heard.x, tokens.x)
    heard.x.square().sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in part.parameters())
    nobody = lying(sure=-50.0)
    assert torch.allclose(part(nobody, None).x, nobody.x, atol=1e-6)


def test_relations_need_objects() -> None:
    with pytest.raises(ValueError, match="after one of kind objects"):
        RelationsConfig().build(WIDTH, WIDTH)(lying()._replace(objects=None), None)


def walled(seed: int) -> tuple[PointBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points of a floor, a few of every wall, with the boxes of its things and which of these share a room."""
    floor = sample_floor(seed)
    chance = np.random.default_rng(seed)
    points = [np.zeros((1, 3)), np.full((1, 3), 2.5)]
    for slab in floor.plan.walls:
        count = int(np.ceil(12 * (slab.box.upper - slab.box.lower)[:2].max()))
        points.append(chance.uniform(slab.box.lower, slab.box.upper, (count, 3)))
    places = torch.from_numpy(np.concatenate(points)).float()
    nothing = torch.zeros(len(places), 1)
    batch = PointBatch.stack([PointSet(nothing, places, nothing.expand(-1, 3), places.long())])
    lower, upper = (
        torch.from_numpy(np.stack([getattr(thing.box, name) for thing in floor.things])).float()
        for name in ("lower", "upper")
    )
    room = torch.tensor([thing.room for thing in floor.things])
    return batch, lower[None], upper[None], room[:, None] == room


@pytest.mark.parametrize("seed", [3, 5, 7, 11])
def test_walls_part_rooms(seed: int) -> None:
    batch, lower, upper, same = walled(seed)
    real = torch.ones(lower.shape[:2], dtype=torch.bool)
    found = rooms_of(batch, batch.keep, lower, upper, real)
    assert ((found[0] > 0.5) == same).float().mean() > 0.94
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rooms_of(batch, batch.keep, lower, upper, real), found)
    real[0, 0] = False
    found = rooms_of(batch, batch.keep, lower, upper, real)
    assert found[0, 0].max() == found[0, :, 0].max() == 0
    nowhere = rooms_of(batch, torch.zeros_like(batch.keep), lower, upper, real)
    assert nowhere[0, 1:, 1:].allclose(torch.tensor(1.0))
