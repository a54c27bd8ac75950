"""Walks to learn from: led by a teacher at first, then by the agent itself (DAgger, Ross et al. 2011)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from tqdm import tqdm

from genworld.data.walks import State, Task, WalkRecord
from genworld.ops.random import seed_of
from genworld.pipelines.navigation_agents import SceneWalker
from genworld.pipelines.navigator import Navigator
from genworld.pipelines.navigator_guide import ClauseGuide
from genworld.pipelines.navigator_teacher import Lessons, Teacher, tasks_of
from genworld.pipelines.tally import gather
from genworld.train.runtime import find_world
from genworld.world.navigation.baselines import run
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.episode import Episode
from genworld.world.navigation.place import place_of_floor
from genworld.world.navigation.route_facts import Clause, Surroundings
from genworld.world.navigation.routes import RouteConfig, object_episode, route_episodes
from genworld.world.rooms import Floor, sample_floor
from genworld.world.rooms.store import FloorStore


@dataclass(frozen=True, kw_only=True)
class LessonPlan:
    """Which walks are taken.

    Attributes:
        floors: how many.
        first: seed of the first one; none of those that agents are measured on, which begin at 1,000,000.
        objects: walks on each floor to a thing.
        instructions: walks that are told.
        states: moments kept of each walk, at most.
        lead: of an agent's walks, the part on which the teacher leads.
        seed: of the choice of walks and moments.
        max_steps: a walk is cut after so many actions.
        cache: folder in which drawn floors are kept; None draws each anew.
    """

    floors: int = 1500
    first: int = 0
    objects: int = 1
    instructions: int = 1
    states: int = 3
    lead: float = 0.2
    seed: int = 0
    max_steps: int = 300
    cache: Path | None = None

    def __post_init__(self) -> None:
        if min(self.floors, self.states, self.max_steps) < 1 or min(self.first, self.objects, self.instructions) < 0:
            raise ValueError(f"expected floors, states and max_steps of at least 1 and no negative number, got {self}")
        if self.objects + self.instructions < 1 or not 0 <= self.lead <= 1:
            raise ValueError(f"expected a walk on each floor at least, and lead in [0, 1], got {self}")


def record_walks(plan: LessonPlan, pupil: SceneWalker | None = None) -> list[WalkRecord]:
    """Walk, and keep what was seen and would have been right to say.

    Floors are shared out over all processes; each of these is given all walks, in the order of the floors.

    Args:
        plan: which walks.
        pupil: who walks; None lets the teacher lead.
    """
    world = find_world()
    draw = sample_floor if plan.cache is None else FloorStore(plan.cache)
    seeds = range(plan.first, plan.first + plan.floors)[world.rank :: world.size]
    mine = [
        walk for seed in tqdm(seeds, "floors", disable=world.rank > 0) for walk in _on_floor(plan, draw, seed, pupil)
    ]
    return sorted((walk for part in gather(mine) for walk in part), key=lambda walk: walk.seed)


def _on_floor(
    plan: LessonPlan, draw: Callable[[int], Floor], seed: int, pupil: SceneWalker | None
) -> Iterator[WalkRecord]:
    floor, config = draw(seed), NavigationConfig(pose=True, distances=False, max_steps=plan.max_steps)
    place = place_of_floor(floor, config.agent, config.camera)
    around = Surroundings(floor, place)
    for episode, tasks, told in _episodes(around, plan):
        env = NavigationEnv([episode], lambda _: place, replace(config, task="instruction" if told else "object"))
        yield _walk(plan, env, floor, tasks, told, pupil)


def _episodes(around: Surroundings, plan: LessonPlan) -> Iterator[tuple[Episode, tuple[Task, ...], bool]]:
    """Episodes, the tasks that they tell, and whether they are told in clauses."""
    config = RouteConfig(wordings=1)
    for number in range(plan.objects):
        found = object_episode(around, config, f"{plan.seed}.{number}")
        if found is not None:
            target, episode = found
            yield episode, (Task(Clause("stop", 0.0, phrase=f"the {episode.category}", thing=target), target),), False
    for number in range(plan.instructions):
        drawn = route_episodes(around, config, f"{plan.seed}.{number}")
        if drawn is not None:
            yield drawn[1][0], tasks_of(around, drawn[0]), True


def _walk(
    plan: LessonPlan, env: NavigationEnv, floor: Floor, tasks: tuple[Task, ...], told: bool, pupil: SceneWalker | None
) -> WalkRecord:
    (episode,), camera = env.episodes, env.config.camera
    chance = Random(seed_of(plan.seed, "walk", episode.id))
    teacher = Teacher(floor, camera, tasks, None if pupil is None else pupil.eyes(camera))
    lessons = Lessons(teacher, None if pupil is None else pupil.adviser(), plan.lead, chance)
    guide = ClauseGuide(lessons, None if pupil is None else pupil.guide)
    done = run(env, Navigator(env.config, guide, None if pupil is None else pupil.settings, teacher))
    states = _different(lessons.states)
    kept = sorted(chance.sample(range(len(states)), min(plan.states, len(states))))
    return WalkRecord(
        floor.seed,
        episode.id,
        tuple(teacher.taken),
        tasks if told else (),
        tasks[-1].index,
        tuple(states[i] for i in kept),
        bool(done.success),
    )


def _different(states: list[State]) -> list[State]:
    """Without those in which nothing had changed since the one before."""
    return [state for before, state in zip([None, *states], states, strict=False) if state != before]
