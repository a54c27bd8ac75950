"""A guide that follows what is told clause by clause, and a scene model that it asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float

from genworld.data.walk_prompts import Said, clauses_of, find_text, read_answer, walk_prompt
from genworld.ops.lifted import LiftedScene
from genworld.pipelines.navigator import Advice, Query
from genworld.tasks.converse import Converse
from genworld.types import Turn
from genworld.world.navigation.motion import Stance


class Request(NamedTuple):
    """What is asked about one clause.

    Attributes:
        text: of the clause.
        number: of it in what is told.
        started: where the agent was when the clause began.
    """

    text: str
    number: int
    started: Stance


class Reply(NamedTuple):
    """What was answered, and what that means; None where it means nothing."""

    text: str
    said: Said | None


class Adviser(Protocol):
    """Answers about clauses."""

    def reset(self) -> None:
        """A new episode begins."""
        ...

    def answer(self, query: Query, requests: Sequence[Request]) -> list[Reply]:
        """One reply to each."""
        ...


class ModelAdviser:
    """A scene model; what was asked before of the same scene is not asked again.

    A box of a thing in which next to nothing was seen is made up: it means nothing.

    Args:
        task: with its weights.
        least: points that a box of a thing holds.
        answer: how the task is asked; by default by itself.
    """

    def __init__(
        self, task: Converse, least: int = 2, answer: Callable[[Sequence[Turn]], list[str]] | None = None
    ) -> None:
        self.task, self.least, self._answer = task.eval(), least, answer or task.answer
        self.reset()

    def reset(self) -> None:
        """See `Adviser`."""
        self._known: dict[str, Reply] = {}
        self._scene: object = None

    def answer(self, query: Query, requests: Sequence[Request]) -> list[Reply]:
        """See `Adviser`."""
        scene = query.scene()
        if scene is not self._scene:
            self._scene, self._known = scene, {}
        prompts = [walk_prompt(scene, one.text, one.started[:2], one.started.heading) for one in requests]
        standing = {
            prompt: (*one.started[:2], one.started.heading) for prompt, one in zip(prompts, requests, strict=True)
        }
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if new:
            device = next(self.task.parameters()).device
            points = scene.points.map(lambda x: x.to(device))
            turns = [
                Turn(i, scene.name, points, (), prompt, "", "walk", "asked", standing=standing[prompt])
                for i, prompt in enumerate(new)
            ]
            replies = [Reply(text, self._checked(scene, read_answer(scene, text))) for text in self._answer(turns)]
            self._known.update(zip(new, replies, strict=True))
        return [self._known[prompt] for prompt in prompts]

    def _checked(self, scene: LiftedScene, said: Said | None) -> Said | None:
        if said is None or said.box is None or said.deed == "through":
            return said
        said = replace(said, box=self.task.at_objects(scene, [said.box])[0])
        assert said.box is not None
        margin = torch.tensor(scene.codec.cell_size)
        lower, upper = said.box[0] - margin, said.box[1] + margin
        within = ((scene.points.points >= lower) & (scene.points.points <= upper)).all(dim=-1)
        return said if int(within.sum()) >= self.least else None


@dataclass(frozen=True, kw_only=True)
class GuideConfig:
    """How clauses are followed.

    Attributes:
        beyond: metres behind the middle of a door to which one goes through it.
        through: metres behind it that make one through.
        past: metres from a thing, seen from above, within which it is passed.
        patience: times that a clause is asked for before the next one is, whether it is done or not.
    """

    beyond: float = 0.6
    through: float = 0.25
    past: float = 0.8
    patience: int = 40

    def __post_init__(self) -> None:
        if not 0 < self.through < self.beyond or self.past <= 0 or self.patience < 1:
            raise ValueError(f"expected 0 < through < beyond, past above 0 and patience of at least 1, got {self}")


class ClauseGuide:
    """Asks for the clause that it is at, and goes on to the next one when the agent has done it.

    Whether the last thing can be seen is asked every time, too: who sees where to stop need not be told the way.

    Args:
        adviser: who is asked.
        config: how clauses are followed.
    """

    def __init__(self, adviser: Adviser, config: GuideConfig | None = None) -> None:
        self.adviser, self.config = adviser, config or GuideConfig()
        self.reset()

    def reset(self) -> None:
        """See `Guide`."""
        self.adviser.reset()
        self.clauses: list[str] = []
        self.number = 0
        """Of the clause that it is at."""
        self._asked = 0
        self._started: Stance | None = None
        self._done: Callable[[Stance], bool] | None = None

    def advise(self, query: Query) -> Advice:
        """See `Guide`."""
        stance = query.scout.stance
        if self._started is None:
            self.clauses = [find_text(query.told)] if query.task == "object" else clauses_of(query.told)
            self._started = stance
        self._move_on(stance)
        last = len(self.clauses) - 1
        numbers = [last] if self.number == last else [last, self.number]
        replies = self.adviser.answer(query, [Request(self.clauses[k], k, self._started) for k in numbers])
        self._asked += 1
        text = " | ".join(reply.text for reply in replies)
        final, now = replies[0].said, replies[-1].said
        if final is not None and final.box is not None:
            return Advice(text, "box", final.box.double().numpy())
        if now is None or now.box is None:
            return Advice(text, "explore")
        place = self._on_the_way(now, now.box.double().numpy()[:, :2], stance)
        return Advice(text, "place", np.tile([*place, 0.0], (2, 1)))

    def _on_the_way(self, said: Said, box: Float[np.ndarray, "2 2"], stance: Stance) -> Float[np.ndarray, " 2"]:
        """Where a clause leads that is not the last; from now on it is known when it is done."""
        config, middle = self.config, box.mean(0)
        if said.deed == "through":
            assert self._started is not None
            across = int(np.argmin(box[1] - box[0]))  # a door is wider than its wall is thick
            side = math.copysign(1.0, middle[across] - self._started[across])
            far = config.beyond + 0.5 * float(box[1, 1 - across] - box[0, 1 - across])
            self._done = lambda now: (
                side * (now[across] - middle[across]) > config.through and math.dist(now[:2], middle) < far
            )
            return middle + side * config.beyond * np.eye(2)[across]
        self._done = lambda now: math.dist(np.clip(now[:2], box[0], box[1]), now[:2]) < config.past
        return np.clip(stance[:2], box[0], box[1])

    def _move_on(self, stance: Stance) -> None:
        """To the next clause, where this one is done or leads nowhere."""
        done = self._done is not None and self._done(stance)
        if self.number < len(self.clauses) - 1 and (done or self._asked >= self.config.patience):
            self.number, self._asked = self.number + 1, 0
            self._started, self._done = stance, None
