"""Walkers that share one model: what all of them ask at about the same time, it answers in one go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Asked(Generic[T, R]):
    """What one of them asks, and what came of it."""

    def __init__(self, questions: Sequence[T]) -> None:
        self.questions = questions
        self.replies: list[R] | None = None
        self.error: Exception | None = None

    @property
    def open(self) -> bool:
        return self.replies is None and self.error is None


class Crowd(Generic[T, R]):
    """Who asks waits until all who walk ask, too; then one of them asks for all.

    Each walks in a thread of its own, but only one at a time: the others wait for their turn or for their replies. So
    nothing they share needs a lock.

    Args:
        answer: one reply to each question.
    """

    def __init__(self, answer: Callable[[Sequence[T]], list[R]]) -> None:
        self._answer = answer
        self._turn = threading.Condition()  # its lock is held by the one that walks
        self._counting = threading.Lock()
        self._walking = 0
        self._open: list[_Asked[T, R]] = []

    @contextmanager
    def walking(self) -> Iterator[None]:
        """While this holds, the others wait for what this one asks; so it must not wait for them in any other way."""
        with self._counting:  # before its first turn: they must not go ahead without it
            self._walking += 1
        with self._turn:
            try:
                yield
            finally:
                with self._counting:
                    self._walking -= 1
                self._answer_if_all_wait()

    def ask(self, questions: Sequence[T]) -> list[R]:
        """One reply to each question; at once where nobody else is walking.

        Raises:
            Exception: what `answer` raises, in all whose questions it was given.
        """
        mine: _Asked[T, R] = _Asked(questions)
        with self._turn:
            self._open.append(mine)
            self._answer_if_all_wait()
            self._turn.wait_for(lambda: not mine.open)
        if mine.error is not None:
            raise mine.error
        assert mine.replies is not None
        return mine.replies

    def _answer_if_all_wait(self) -> None:
        with self._counting:
            ready = bool(self._open) and len(self._open) >= self._walking
        if not ready:
            return
        everyone, self._open = self._open, []
        try:
            replies = self._answer([one for each in everyone for one in each.questions])
            for each in everyone:
                each.replies, replies = replies[: len(each.questions)], replies[len(each.questions) :]
        except Exception as error:  # noqa: BLE001 (it is raised again, by each of those that wait)
            for each in everyone:
                each.error = error
        self._turn.notify_all()
