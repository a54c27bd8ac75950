"""What an agent should have been told: read off the floor itself, so for lessons only; no agent is measured with it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from jaxtyping import Float, UInt8

from genworld.data.walk_prompts import EXPLORE, Said
from genworld.data.walks import State, Task
from genworld.ops.lifted import LiftedScene
from genworld.pipelines.navigator import Eyes, Query
from genworld.pipelines.navigator_guide import Adviser, Reply, Request
from genworld.world.navigation.camera import NEAR, CameraConfig, sight_lines
from genworld.world.navigation.motion import Stance
from genworld.world.navigation.route_facts import Surroundings, Way
from genworld.world.navigation.routes import Route
from genworld.world.rooms.boxes import Box
from genworld.world.rooms.floor import Floor

_EVERY = 2  # pixels, along both axes, between those that are counted
_MARGIN = 0.03  # metres around boxes of things
_FRAME = 0.1  # metres around an opening: its frame stands there
_THING, _DOOR = 6, 10  # counted pixels of one view that show enough


class Teacher:
    """Sees what its pupil sees, and knows what that is. It stands in for the pupil's eyes, and answers as an `Adviser`.

    A thing or door counts as seen once enough pixels of one view that the pupil kept showed it.

    Args:
        floor: where the pupil walks.
        camera: of the pupil.
        tasks: what is told, one for each clause.
        eyes: of the pupil, where a model guides it.
    """

    def __init__(self, floor: Floor, camera: CameraConfig, tasks: Sequence[Task], eyes: Eyes | None = None) -> None:
        self.floor, self.camera, self.tasks, self.eyes = floor, camera, tuple(tasks), eyes
        boxes = [_wider(thing.box, _MARGIN) for thing in floor.things]
        boxes += [_wider(door.box, _FRAME) for door in floor.plan.doors]
        self._lower, self._upper = (np.stack([getattr(box, end) for box in boxes]) for end in ("lower", "upper"))
        least = np.minimum(0.02, (self._upper[:, 2] - _MARGIN) / 2)  # the floor beneath is none of it; rugs are thin
        self._lower[:, 2] = np.maximum(self._lower[:, 2], least)
        self._most = np.array([_THING] * len(floor.things) + [_DOOR] * len(floor.plan.doors))
        self.reset()

    def reset(self) -> None:
        """See `Eyes` and `Adviser`."""
        self.taken: list[Stance] = []
        self._pixels = np.zeros(len(self._most), dtype=int)
        if self.eyes is not None:
            self.eyes.reset()

    def add(self, rgb: UInt8[np.ndarray, "H W 3"], depth: Float[np.ndarray, "H W"], stance: Stance) -> None:
        """See `Eyes`."""
        z = depth[::_EVERY, ::_EVERY]
        eye, direction = sight_lines(self.camera, stance, stride=_EVERY)
        points = (eye + direction * z[..., None])[z > NEAR][:, None]
        count = ((points >= self._lower) & (points <= self._upper)).all(-1).sum(0)
        self._pixels = np.maximum(self._pixels, count)
        self.taken.append(stance)
        if self.eyes is not None:
            self.eyes.add(rgb, depth, stance)

    def scene(self) -> LiftedScene:
        """See `Eyes`."""
        assert self.eyes is not None, "a teacher alone lifts nothing"
        return self.eyes.scene()

    def state(self, request: Request) -> State:
        """The moment in which the pupil asks."""
        seen, count = (self._pixels >= self._most).nonzero()[0].tolist(), len(self.floor.things)
        things, doors = (tuple(i for i in seen if i < count), tuple(i - count for i in seen if i >= count))
        return State(len(self.taken), request.started, request.number, things, doors)

    def answer(self, query: Query, requests: Sequence[Request]) -> list[Reply]:
        """See `Adviser`."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: Request) -> Reply:
        task, state = self.tasks[request.number], self.state(request)
        door = task.deed == "through"
        if task.index not in (state.doors if door else state.things):
            return Reply(EXPLORE, Said(None))
        box = (self.floor.plan.doors if door else self.floor.things)[task.index].box
        return Reply(task.deed, Said(task.deed, torch.from_numpy(np.stack([box.lower, box.upper])).float()))


class Lessons:
    """An `Adviser` that writes down every moment in which it is asked, and passes on what another says.

    Args:
        teacher: knows what was seen.
        model: the pupil's own adviser; None in the first round, in which the teacher leads.
        lead: how often, of episodes, the teacher leads although there is a model.
        chance: draws who leads.
    """

    def __init__(self, teacher: Teacher, model: Adviser | None, lead: float, chance: Random) -> None:
        self.teacher, self.model, self.lead, self.chance = teacher, model, lead, chance
        self.states: list[State] = []
        self._leads = True

    def reset(self) -> None:
        """See `Adviser`."""
        self.states = []
        self._leads = self.model is None or self.chance.random() < self.lead
        if self.model is not None:
            self.model.reset()

    def answer(self, query: Query, requests: Sequence[Request]) -> list[Reply]:
        """See `Adviser`."""
        self.states.append(self.teacher.state(requests[-1]))
        if self._leads or self.model is None:
            return self.teacher.answer(query, requests)
        return self.model.answer(query, requests)


def tasks_of(around: Surroundings, route: Route) -> tuple[Task, ...]:
    """Where each clause of a route leads."""
    doors = iter(crossing.door for crossing in Way(around, route.path, route.heading).crossings)
    return tuple(Task(clause, next(doors) if clause.thing is None else clause.thing) for clause in route.clauses)


def _wider(box: Box, margin: float) -> Box:
    return Box(box.lower - margin, box.upper + margin)
