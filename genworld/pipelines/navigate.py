"""A walk to look at: a video of what is seen beside the map, and a picture of the route."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from genworld.data.writer import VideoWriter
from genworld.eval.navigation import Geodesic, Walk, measure
from genworld.pipelines.navigation_agents import Agent
from genworld.pipelines.navigation_goals import goal_episode, goal_marks
from genworld.pipelines.navigation_scans import is_aimless
from genworld.types import Scene
from genworld.world.navigation.baselines import Deed, Policy, Run, run
from genworld.world.navigation.camera import CameraConfig, Viewer
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.episode import Episode
from genworld.world.navigation.mapping import scene_points
from genworld.world.navigation.picture import MapPicture
from genworld.world.navigation.place import place_of_floor, place_of_scene
from genworld.world.navigation.splat import PointViews
from genworld.world.navigation.views import FloorViews
from genworld.world.rooms import Floor

SUFFIXES = (".mp4", ".gif")
WALKED = "green: start   red: walked"
LEGEND = f"{WALKED}   blue: shortest way   orange: goal"
UNMEASURED = "not measured: give --at x,y"

_STILL = 900  # pixels of the longer side of a route's picture, about
_STRIP, _MARGIN, _FONT = 26, 6, 14  # pixels
_REST = 1.5  # seconds that the end is shown
_INK, _PAPER = (40, 40, 40), (250, 250, 248)


@dataclass(frozen=True)
class FilmConfig:
    """How a walk is shown.

    Attributes:
        size: height and width of the first-person view, pixels; what the agent itself sees with is smaller.
        fps: steps shown in a second.
    """

    size: int = 384
    fps: float = 8.0

    def __post_init__(self) -> None:
        if self.size < 64 or not (self.fps > 0 and math.isfinite(self.fps)):
            raise ValueError(f"expected a size of at least 64 pixels and fps above 0, got {self.size} and {self.fps}")


@dataclass(frozen=True)
class Filmed:
    """A walk and what was written of it.

    Attributes:
        episode: what was to be done.
        run: what was done.
        measures: by name, see `genworld.eval.navigation.measure`; none where nobody knows where the goal is.
        video: the film.
        picture: of the route.
    """

    episode: Episode
    run: Run
    measures: Mapping[str, float]
    video: Path
    picture: Path

    def __str__(self) -> str:
        found, collisions = self.measures, f"{self.run.collisions} collisions"
        if not found:
            walked = f"{len(self.run.positions) - 1} steps, {_length(self.run.positions):.2f} m walked"
            return f"{_end(self.run)}: {self.run.episode}, {walked}, {collisions}, {UNMEASURED}"
        how = "arrived" if found["success"] else f"{_end(self.run)} {found['navigation_error']:.2f} m from the goal"
        return (
            f"{how}: {self.run.episode}, {found['steps']:.0f} steps, {found['path_length']:.2f} m walked, shortest "
            f"{self.episode.geodesic_distance:.2f} m, {collisions}, SPL {found['spl']:.3f}"
        )


def film_walk(
    ground: Floor | Scene,
    agent: Agent,
    out: Path,
    goal: str | int = "",
    seed: int = 0,
    config: FilmConfig | None = None,
    max_steps: int = 500,
    at: tuple[float, float] | None = None,
) -> Filmed:
    """Let an agent walk to a goal, and write the film and, beside it as .png, a picture of the route.

    Words that name a thing of a scan which nobody can place (see `goal_episode`) send all agents but the oracle for a
    walk that is not measured.

    Args:
        ground: a floor of the world or a scan.
        agent: who walks.
        out: the video, .mp4 or .gif.
        goal: see `goal_episode`.
        seed: of the start.
        config: how the walk is shown.
        max_steps: the walk is cut after so many actions.
        at: see `goal_episode`.

    Raises:
        ValueError: the goal is none (see `goal_episode`), nobody can stand there, or `out` is no video.
    """
    config = config or FilmConfig()
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{out}: expected a video, {' or '.join(SUFFIXES)}; the picture of the route is put beside it")
    place = place_of_floor(ground) if isinstance(ground, Floor) else place_of_scene(ground)
    episode = goal_episode(ground, place, goal, seed, at, must_know=agent.knows_goal)
    told: Literal["point", "object", "instruction"] = "instruction"
    if not isinstance(goal, int):
        told = "point" if episode.category is None else "object"
    measured = not is_aimless(episode)
    settings = NavigationConfig(task=told, images=agent.images, pose=True, distances=measured, max_steps=max_steps)
    env = NavigationEnv([episode], lambda _: place, settings)
    stage = _Stage(env, ground, f"{_told(episode, goal)} - {agent.name} - {place.name}", config)
    with VideoWriter(out, config.fps, drawn=True) as writer, tqdm(total=max_steps, desc="walking", unit="step") as bar:
        walked = run(env, _Watched(agent.make(env, seed), stage, writer, bar))
        walk = Walk(walked.positions, walked.stopped, walked.collisions)
        found = measure(walk, episode, Geodesic(place.geodesics)) if measured else {}
        away = f"{found['navigation_error']:.2f} m away" if measured else UNMEASURED
        last = stage.frame("arrived" if walked.success else f"{_end(walked)}, {away}")
        writer.append(torch.from_numpy(last)[None].expand(max(1, round(_REST * config.fps)), -1, -1, -1))
    picture = out.with_suffix(".png")
    stage.route().save(picture)
    return Filmed(episode, walked, found, out, picture)


def _told(episode: Episode, goal: str | int) -> str:
    return episode.instruction if isinstance(goal, int) else goal or "a random point"


def _end(walked: Run) -> str:
    return "stopped" if walked.stopped else "cut"


def _length(path: Iterable[Sequence[float]]) -> float:
    """Metres along places."""
    return sum(math.dist(one, other) for one, other in pairwise(path))


class _Watched:
    """A policy that is filmed before each of its actions."""

    def __init__(self, policy: Policy, stage: _Stage, writer: VideoWriter, bar: Any) -> None:
        self.policy, self.stage, self.writer, self.bar = policy, stage, writer, bar

    def reset(self) -> None:
        self.policy.reset()

    def act(self, observation: dict[str, Any]) -> Deed:
        self.writer.append(torch.from_numpy(self.stage.frame())[None])
        self.bar.update()
        return self.policy.act(observation)


class _Stage:
    """Draws what is going on in an environment."""

    def __init__(self, env: NavigationEnv, ground: Floor | Scene, title: str, config: FilmConfig) -> None:
        self.env, self.ground, self.title, self.config = env, ground, title, config
        self.place = env.places(env.episodes[0].scene)
        self._marks = goal_marks(ground, env.episodes[0])
        self._points = None if isinstance(ground, Floor) else scene_points(ground)
        columns, rows = self.place.map.shape
        self._map = self._picture(max(1, min(config.size // rows, 2 * config.size // columns)))
        self._eyes = self._viewer(CameraConfig(size=(config.size, config.size)))

    def frame(self, said: str = "") -> UInt8[np.ndarray, "H W 3"]:
        """What is seen beside the map, with what is to be done above and what was done below."""
        env = self.env
        view, _ = self._eyes(env.stance)
        above = self._map.draw(env.path, env.stance, self._marks, env.episode.reference_path)
        width = view.shape[1] + _MARGIN + above.width
        page = Image.new("RGB", (width, max(view.shape[0], above.height) + 2 * _STRIP), _PAPER)
        page.paste(Image.fromarray(view), (0, _STRIP))
        page.paste(above, (view.shape[1] + _MARGIN, _STRIP))
        done = f"step {env.steps}   {_length(env.path):.2f} m   {env.collisions} collisions"
        _write(page, 0, _fitting(self.title, page.width))
        _write(page, page.height - _STRIP, f"{done}   {said}")
        return np.array(page)

    def route(self) -> Image.Image:
        """The whole walk on a larger map, with a legend."""
        env = self.env
        large = self._picture(max(2, _STILL // max(self.place.map.shape)))
        above = large.draw(env.path, env.stance, self._marks, env.episode.reference_path)
        page = Image.new("RGB", (max(above.width, 480), above.height + 2 * _STRIP), _PAPER)
        page.paste(above, (0, _STRIP))
        _write(page, 0, _fitting(self.title, page.width))
        _write(page, page.height - _STRIP, LEGEND if self._marks else WALKED)
        return page

    def _picture(self, scale: int) -> MapPicture:
        picture = MapPicture(self.place.map, scale)
        if isinstance(self.ground, Floor):
            return picture.show_floor(self.ground)
        assert self._points is not None
        return picture.show_points(*self._points)

    def _viewer(self, camera: CameraConfig) -> Viewer:
        if isinstance(self.ground, Floor):
            return FloorViews(self.ground.stage, camera, smooth=True)
        assert self._points is not None
        return PointViews(*self._points, self.place.map.floor, camera)


def _fitting(text: str, width: int) -> str:
    """As much of a text as a strip is wide enough for."""
    font = ImageFont.load_default(_FONT)
    while font.getlength(text) > width - 2 * _MARGIN:
        text = f"{text.removesuffix('…')[:-1]}…"
    return text


def _write(page: Image.Image, top: int, text: str) -> None:
    ImageDraw.Draw(page).text((_MARGIN, top + 4), text, _INK, ImageFont.load_default(_FONT))
