"""A scene that is turned and mirrored is the same scene."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.data.scene_anew import seen_anew
from genworld.models.point_batch import PointBatch
from genworld.ops.random import generator
from genworld.tasks.converse import ConverseConfig
from genworld.types import PointSet, SceneBox, Turn

COUNT, CELLS = 200, 64


def a_turn() -> Turn:
    """Points of a room that lies somewhere, each with its number for a feature, and three boxes."""
    chance = torch.Generator().manual_seed(0)
    points = torch.rand(COUNT, 3, generator=chance) * torch.tensor([6.0, 4.0, 2.5]) + torch.tensor([3.0, -2.0, 0.0])
    numbers = torch.arange(COUNT)[:, None].float()
    cells = ((points - points.amin(0)) / 6.0 * (CELLS - 1)).long()
    lower = torch.tensor([[3.0, -2, 0], [5, 0, 0], [7, 1, 1]])
    boxes = tuple(SceneBox("box", i, low, low + torch.tensor([2.0, 1.0, 0.8])) for i, low in enumerate(lower))
    return Turn(0, "room", PointSet(numbers, points, points.clamp(0, 1), cells), (), "?", "!", "ground", "0", boxes)


def inside(turn: Turn, box: SceneBox) -> set[int]:
    held = ((turn.points.points >= box.lower) & (turn.points.points <= box.upper)).all(dim=1)
    return set(turn.points.features[held, 0].int().tolist())


@pytest.mark.parametrize("seed", range(12))
def test_boxes_hold_the_same_points(seed: int) -> None:
    turn = a_turn()
    anew = seen_anew(turn, generator(seed))
    stayed = set(anew.points.features[:, 0].int().tolist())
    assert 0.7 * COUNT - 1 <= len(stayed) == len(anew.points) <= COUNT
    for before, after in zip(turn.things, anew.things, strict=True):
        assert (after.upper > after.lower).all()
        assert inside(turn, before) & stayed == inside(anew, after)
        assert sorted(after.size[:2].tolist()) == pytest.approx(sorted(before.size[:2].tolist()), abs=1e-4)
    numbers = anew.points.features[:, 0].long()
    assert torch.equal(anew.points.colours, turn.points.colours[numbers])
    assert torch.equal(anew.points.points[:, 2], turn.points.points[numbers, 2])
    apart = torch.cdist(turn.points.points[numbers], turn.points.points[numbers])
    torch.testing.assert_close(torch.cdist(anew.points.points, anew.points.points), apart, rtol=1e-3, atol=1e-2)


def test_cells_go_along_and_every_way_comes_up() -> None:
    turn, ways = a_turn(), set()
    for seed in range(60):
        anew = seen_anew(turn, generator(seed))
        assert torch.equal(anew.points.points, seen_anew(turn, generator(seed)).points.points)
        batch = PointBatch.stack([anew.points])
        found = batch.cells_at(batch.points)[0]
        assert (found - anew.points.voxels - 0.5).abs().max() < 1.1
        lower = anew.things[0].lower
        ways.add((lower[0].item() > 0, lower[1].item() > 0, (anew.things[0].size[0] > 1.5).item()))
    assert len(ways) >= 6


def test_only_without_answers() -> None:
    with pytest.raises(ValueError, match="set answers to 0"):
        ConverseConfig(anew=True)
    assert replace(ConverseConfig(answers=0.0, objects=1.0), anew=True).anew
