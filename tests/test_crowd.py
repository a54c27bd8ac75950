"""Walkers that share one model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from genworld.pipelines.crowd import Crowd

pytestmark = pytest.mark.timeout(60)  # who waits for nobody waits for ever


def test_who_walks_is_answered_together_and_nobody_waits_for_those_who_left() -> None:
    asked: list[list[str]] = []

    def answer(questions: Sequence[str]) -> list[str]:
        asked.append(sorted(questions))
        return [f"re {question}" for question in questions]

    crowd: Crowd[str, str] = Crowd(answer)

    def walk(name: int) -> list[str]:
        with crowd.walking():
            return [text for step in range(name + 1) for text in crowd.ask([f"{name}.{step}", f"{name}.{step}'"])]

    with ThreadPoolExecutor(3) as pool:
        walks = list(pool.map(walk, range(3)))
    assert walks == [[f"re {k}.{i}{mark}" for i in range(k + 1) for mark in ("", "'")] for k in range(3)]
    # However the three began: each question is asked once, of each walker at most one pair at a time.
    assert sorted(one for batch in asked for one in batch) == sorted(
        f"{k}.{i}{mark}" for k in range(3) for i in range(k + 1) for mark in ("", "'")
    )
    assert all(len({one.split(".")[0] for one in batch}) == len(batch) / 2 for batch in asked)
    assert crowd.ask(["alone"]) == ["re alone"]


def test_three_that_wait_are_one_batch() -> None:
    sizes: list[int] = []
    crowd: Crowd[int, int] = Crowd(lambda questions: sizes.append(len(questions)) or list(questions))

    def walk(name: int) -> list[int]:
        with crowd.walking():
            return crowd.ask([name])

    with ThreadPoolExecutor(2) as pool:
        with crowd.walking():  # both begin while this one has its turn; it must leave before they are waited for
            waiting = [pool.submit(walk, name) for name in (1, 2)]
            while crowd._walking < 3:
                time.sleep(0.001)
            assert crowd.ask([0]) == [0]
        assert [one.result() for one in waiting] == [[1], [2]]
    assert sizes == [3]


def test_an_error_reaches_all_who_asked() -> None:
    def answer(questions: Sequence[str]) -> list[str]:
        raise ValueError(f"cannot say {len(questions)}")

    crowd: Crowd[str, str] = Crowd(answer)

    def walk(name: str) -> list[str]:
        with crowd.walking():
            return crowd.ask([name])

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(walk, name) for name in "ab"]
        for one in waiting:
            with pytest.raises(ValueError, match="cannot say"):
                one.result()
    with pytest.raises(ValueError, match="cannot say 1"):
        crowd.ask(["alone"])
