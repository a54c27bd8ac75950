"""Walks to learn from, however many processes walk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genworld.pipelines import navigation_walks
from genworld.pipelines.navigation_walks import LessonPlan, record_walks


def test_walks_that_processes_share_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = LessonPlan(floors=3, first=1, instructions=0, states=2, max_steps=8)
    alone = record_walks(plan)
    assert [walk.seed for walk in alone] == [1, 2, 3]
    parts: list[list] = []
    for rank in (1, 0):
        world = replace(navigation_walks.find_world(), rank=rank, size=2)
        monkeypatch.setattr(navigation_walks, "find_world", lambda world=world: world)
        monkeypatch.setattr(navigation_walks, "gather", lambda mine: parts.append(mine) or parts)
        shared = record_walks(plan)
        monkeypatch.undo()
    assert [len(part) for part in parts] == [1, 2]
    assert shared == alone
