"""How well the agent would do with a guide that never errs: `python -m tests.navigation_bound object 200`.

Answers are read off the floor for what the kept views show; exploring, standing, planning and walking are the agent's.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from genworld.data.walks import Task
from genworld.eval.navigation import NavigationReport
from genworld.pipelines.navigation_agents import Agent
from genworld.pipelines.navigation_evaluation import HELD_OUT, NavigationExam, evaluate_navigation
from genworld.pipelines.navigator import Navigator
from genworld.pipelines.navigator_guide import ClauseGuide
from genworld.pipelines.navigator_teacher import Teacher, tasks_of
from genworld.world.navigation.environment import NavigationEnv
from genworld.world.navigation.episode import Episode
from genworld.world.navigation.motion import Action
from genworld.world.navigation.route_facts import Clause, Surroundings
from genworld.world.navigation.routes import object_episode, route_episodes
from genworld.world.rooms import sample_floor


@lru_cache(maxsize=2)
def around(scene: str) -> Surroundings:
    return Surroundings(sample_floor(int(scene.rpartition("-")[2])))


def tasks_for(episode: Episode, exam: NavigationExam) -> tuple[Task, ...]:
    """What the episode's words mean: drawn again as it was drawn."""
    name = episode.id.rpartition("/")[2]
    if exam.sort == "instruction":
        route = route_episodes(around(episode.scene), exam.routes, name.partition("_")[0])
        assert route is not None
        assert episode in route[1]
        return tasks_of(around(episode.scene), route[0])
    thing = object_episode(around(episode.scene), exam.routes, name)
    assert thing is not None
    assert thing[1] == episode
    return (Task(Clause("stop", 0.0, thing=thing[0]), thing[0]),)


class Told:
    """A navigator whose guide is made anew for each episode."""

    def __init__(self, env: NavigationEnv, exam: NavigationExam) -> None:
        self.env, self.exam = env, exam

    def reset(self) -> None:
        episode, config = self.env.episode, self.env.config
        teacher = Teacher(around(episode.scene).floor, config.camera, tasks_for(episode, self.exam))
        self.navigator = Navigator(config, ClauseGuide(teacher), None, teacher)

    def act(self, observation: dict[str, Any]) -> Action:
        return self.navigator.act(observation)


def bound(sort: Any, floors: int, first: int = HELD_OUT) -> NavigationReport:
    exam = NavigationExam(sort=sort, floors=floors, first=first)
    told = Agent("told", lambda env, seed: Told(env, exam), True, "told by the floor itself")
    return evaluate_navigation(exam, [told]).reports["told"]


if __name__ == "__main__":
    sys.stdout.write(f"{bound(sys.argv[1], int(sys.argv[2]))}\n")
