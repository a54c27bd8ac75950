"""Navigation as an environment of `gymnasium`, `genworld/Nav-v0`, by the conventions of VLN-CE.

    from genworld.world.navigation.environment import register

    register()
    env = gymnasium.make("genworld/Nav-v0")

An observation holds what an agent may know and nothing else: pictures, what it is told, and, if the config says so, its
pose. What measures need besides (position, collisions, distance to the goal) is in `info`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.episode import Episode
from genworld.world.navigation.motion import Action, MotionConfig, Mover, Stance, turned, wrap
from genworld.world.navigation.occupancy import AgentConfig
from genworld.world.navigation.picture import MapPicture
from genworld.world.navigation.place import Place, Places, place_of_floor, point_goal
from genworld.world.navigation.start import reachable_goals
from genworld.world.rooms.floor import sample_floor

ID = "genworld/Nav-v0"
LONGEST = 2048
"""Characters of an instruction."""
LETTERS = frozenset(string.printable) | frozenset(map(chr, [*range(0xA0, 0xE00), *range(0x2010, 0x2040), 0x20AC]))
"""Characters of instructions: Latin, Greek, Cyrillic and the scripts of India, so that RxR fits."""

_FAR = 1e4  # metres: bounds of spaces
_DEEPEST = 1e3
_SUCCESS, _SLACK = 2.5, 0.01
_DEFAULT_FLOORS, _DEFAULT_EPISODES = 2, 4


@dataclass(frozen=True, kw_only=True)
class NavigationConfig:
    """What an episode is like; the defaults are those of R2R-CE but for the radius (its 0.1 m fits through anything).

    Attributes:
        task: what the agent is told: the goal's distance and direction at every step, the category of an object, or an
            instruction.
        actions: "discrete": STOP, FORWARD, LEFT, RIGHT; "looks": LOOK_UP and LOOK_DOWN too, as in RxR-CE; "polar":
            waypoints as (stop, metres, radians to the left); "metres": waypoints as (stop, x, y) in scene axes. The
            agent walks to a waypoint in a straight line; it stops the episode where `stop` is above 0.5.
        agent: its body.
        motion: what actions do.
        camera: what it sees with.
        images: whether it sees; a blind agent is a baseline.
        pose: whether it knows where it is: x, y, heading and pitch in scene axes.
        distances: whether `info` and the reward know the geodesic distance to the goal.
        max_steps: the episode is cut after so many actions; a waypoint counts as the turns and steps it takes.
    """

    task: Literal["point", "object", "instruction"] = "point"
    actions: Literal["discrete", "looks", "polar", "metres"] = "discrete"
    agent: AgentConfig = field(default_factory=AgentConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    images: bool = True
    pose: bool = False
    distances: bool = True
    max_steps: int = 500

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"expected max_steps >= 1, got {self.max_steps}")


def r2r_config(size: tuple[int, int] = (224, 224)) -> NavigationConfig:
    """R2R-CE (Krantz et al. 2020): 15 degrees, sliding, 90 degrees of view at 1.25 m, depth to 10 m.

    Depth has the size of colour here; there it is 256x256 of the same view. Ask for that size and shrink `rgb` where a
    network wants both. Depth is in metres; Habitat divides it by its range.
    """
    return NavigationConfig(
        task="instruction", agent=AgentConfig(radius=0.1, height=1.5), camera=CameraConfig(size=size, far=10.0)
    )


def rxr_config(size: tuple[int, int] = (480, 640)) -> NavigationConfig:
    """RxR-CE (Ku et al. 2020): 30 degrees, looks up and down, no sliding, 79 degrees of view at 0.88 m.

    Depth is told as 0.5 to 5 m, in metres; Habitat takes 0.5 off and divides it by 4.5.
    """
    return NavigationConfig(
        task="instruction",
        actions="looks",
        agent=AgentConfig(radius=0.18, height=0.88),
        motion=MotionConfig(turn=30.0, sliding=False),
        camera=CameraConfig(size=size, height=0.88, fov=79.0, near=0.5, far=5.0),
    )


def register() -> None:
    """Make `gymnasium.make("genworld/Nav-v0", ...)` known; takes the arguments of `NavigationEnv`."""
    if ID not in gymnasium.registry:
        gymnasium.register(ID, entry_point="genworld.world.navigation.environment:NavigationEnv")


class NavigationEnv(gymnasium.Env[dict[str, Any], Any]):
    """One agent, one episode after another.

    `reset` takes the next episode, `reset(seed=…)` the one that the seed draws, `reset(options={"episode": id})` that
    of an id. The reward is DD-PPO's (Wijmans et al. 2020): metres by which the goal came nearer, less 0.01 per step,
    and 2.5 for success.

    `info` holds `episode` (id), `position` [3], `heading`, `pitch`, `path` (positions after each action of this step),
    `collided`, `collisions`, `steps`, `success` and, with `distances`, `distance_to_goal` (metres).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        episodes: Sequence[Episode] | None = None,
        places: Callable[[str], Place] | None = None,
        config: NavigationConfig | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Set up.

        Args:
            episodes: taken in this order; None: point goals on two floors of the world.
            places: gives the place of an episode's scene; None: floors of the world, `rooms-SEED`.
            config: what episodes are like.
            render_mode: "rgb_array" for what the agent sees beside the map, for people.

        Raises:
            ValueError: there are no episodes, or one does not fit the task.
        """
        self.config = config or NavigationConfig()
        self.places = places or Places(self._floor)
        self.episodes = _default_episodes(self.places) if episodes is None else tuple(episodes)
        self.render_mode = render_mode
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"expected render_mode None or 'rgb_array', got {render_mode!r}")
        _check(self.episodes, self.config.task)
        self.observation_space = spaces.Dict(_spaces(self.config))
        self.action_space = _action_space(self.config)
        self._next = 0
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode.

        Raises:
            ValueError: there is no such episode, it starts inside an obstacle or on another storey, its goals cannot be
                reached, or the place was made for another camera or agent than the config's.
        """
        super().reset(seed=seed)
        self.episode = self._choose(seed, options or {})
        self.place = self.places(self.episode.scene)
        _check_place(self.place, self.config)
        self.goals = reachable_goals(self.place, self.episode)
        self.field = self.place.geodesics.toward([goal.position[:2] for goal in self.goals])
        x, y, _ = self.episode.start_position
        self.mover = Mover(self.place.map, self.config.motion)
        self.stance = Stance(x, y, wrap(self.episode.start_heading))
        self.steps, self.collisions, self._over = 0, 0, False
        self.path = [self.position]
        self._distance = self._left()
        return self._observation(), self._info([self.position], False, False)

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act.

        Raises:
            ValueError: the episode is over, or the action is none of the space.
        """
        if self._over:
            raise ValueError("the episode is over: call reset() for the next one")
        if not self.action_space.contains(action):
            raise ValueError(f"expected an action of {self.action_space}, got {action!r}")
        before, first, (x, y, *_) = self._distance, self.steps, self.stance
        stopped, done, collided = self._act(action)
        self.path += done
        if (self.stance.x, self.stance.y) != (x, y):
            self._distance = self._left()
        success = stopped and self._arrived()
        truncated = not stopped and self.steps >= self.config.max_steps
        self._over = stopped or truncated
        reward = before - self._distance if self.config.distances else 0.0
        reward += _SUCCESS * success - _SLACK * (self.steps - first)
        return self._observation(), reward, stopped, truncated, self._info(done, collided, success)

    def render(self) -> Any:
        """What the agent sees beside the map with its way: for people, since it shows what the agent must not know."""
        if self.render_mode is None:
            return None
        picture = MapPicture(self.place.map).draw(
            self.path, self.stance, [goal.position for goal in self.episode.goals], self.episode.reference_path
        )
        if self.place.viewer is None:
            return np.asarray(picture)
        view, _ = self.place.viewer(self.stance)
        picture = picture.resize((max(1, picture.width * len(view) // picture.height), len(view)))
        return np.concatenate([view, np.asarray(picture)], axis=1)

    @property
    def position(self) -> tuple[float, float, float]:
        """Of the agent's feet, scene axes, metres."""
        return self.stance.x, self.stance.y, self.place.map.floor

    def _floor(self, name: str) -> Place:
        prefix, _, seed = name.rpartition("-")
        if prefix != "rooms" or not seed.isdecimal():
            raise ValueError(f"expected a floor of the world, rooms-SEED, got {name!r}: give `places` for other scenes")
        return place_of_floor(sample_floor(int(seed)), self.config.agent, self.config.camera)

    def _choose(self, seed: int | None, options: dict[str, Any]) -> Episode:
        if "episode" in options:
            found = [i for i, episode in enumerate(self.episodes) if episode.id == options["episode"]]
            if not found:
                raise ValueError(f"no episode {options['episode']!r} among {len(self.episodes)}")
            self._next = found[0]
        elif seed is not None:
            self._next = int(self.np_random.integers(len(self.episodes)))
        chosen = self.episodes[self._next]
        self._next = (self._next + 1) % len(self.episodes)
        return chosen

    def _act(self, action: Any) -> tuple[bool, list[tuple[float, float, float]], bool]:
        """Whether it was STOP, the positions after each action it took, and whether something was in the way."""
        if self.config.actions in ("discrete", "looks"):
            self.steps += 1
            if action == Action.STOP:
                return True, [self.position], False
            self.stance, collided = self.mover.act(self.stance, Action(int(action)))
            self.collisions += collided
            return False, [self.position], collided
        stop, one, other = (float(value) for value in action)
        if stop > 0.5:
            self.steps += 1
            return True, [self.position], False
        if self.config.actions == "metres":
            dx, dy = one - self.stance.x, other - self.stance.y
            one, other = math.hypot(dx, dy), wrap(math.atan2(dy, dx) - self.stance.heading)
        return False, *self._walk_to(one, other)

    def _walk_to(self, length: float, angle: float) -> tuple[list[tuple[float, float, float]], bool]:
        """Turn at once, but for as many steps as turning takes, and go straight on."""
        motion = self.config.motion
        turns = math.ceil(abs(angle) / math.radians(motion.turn) - 1e-6)
        self.steps = min(self.steps + max(turns, 0 if length > 0 else 1), self.config.max_steps)
        self.stance = turned(self.stance, angle)
        done = [self.position]
        while length > 1e-6 and self.steps < self.config.max_steps:
            self.stance, collided = self.mover.walk(self.stance, min(length, motion.forward))
            length -= motion.forward
            self.steps += 1
            done.append(self.position)
            if collided:
                self.collisions += 1
                return done, True
        return done, False

    def _left(self) -> float:
        return self.field.distance(self.stance.x, self.stance.y) if self.config.distances else math.nan

    def _arrived(self) -> bool:
        radii = {goal.radius for goal in self.goals}
        if len(radii) == 1:
            return self.field.distance(self.stance.x, self.stance.y) < radii.pop()
        here = (self.stance.x, self.stance.y)
        return any(self.place.geodesics.distance(here, goal.position[:2]) < goal.radius for goal in self.goals)

    def _observation(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.config.images:
            assert self.place.viewer is not None
            found["rgb"], found["depth"] = self.place.viewer(self.stance)
        if self.config.pose:
            found["pose"] = np.array(self.stance, dtype=np.float32)
        if self.config.task == "point":
            found["pointgoal"] = self._point_goal()
        elif self.config.task == "object":
            found["objectgoal"] = self.episode.category
        else:
            found["instruction"] = self.episode.instruction
        return found

    def _point_goal(self) -> np.ndarray:
        """Metres to the goal in a straight line, and radians to the left."""
        x, y, _ = self.episode.goals[0].position
        dx, dy = x - self.stance.x, y - self.stance.y
        angle = wrap(math.atan2(dy, dx) - self.stance.heading) if dx or dy else 0.0
        return np.array([math.hypot(dx, dy), angle], dtype=np.float32)

    def _info(self, path: list[tuple[float, float, float]], collided: bool, success: bool) -> dict[str, Any]:
        found = {
            "episode": self.episode.id,
            "position": np.array(self.position),
            "heading": self.stance.heading,
            "pitch": self.stance.pitch,
            "path": tuple(path),
            "collided": collided,
            "collisions": self.collisions,
            "steps": self.steps,
            "success": success,
        }
        return found | {"distance_to_goal": self._distance} if self.config.distances else found


def _check_place(place: Place, config: NavigationConfig) -> None:
    """Refuse a place that was made for another camera or body than the config's."""
    agent, camera = place.agent or config.agent, config.camera
    if config.images:
        if place.viewer is None:
            raise ValueError(f"{place.name}: nothing can be seen there: give it a viewer, or set images to False")
        camera = place.viewer.camera
    for made, asked in ((camera, config.camera), (agent, config.agent)):
        if made != asked:
            raise ValueError(
                f"{place.name} was made for {made}, but the config has {asked}: make the place with both of the "
                "config's, such as place_of_floor(floor, config.agent, config.camera)"
            )


def _default_episodes(places: Callable[[str], Place]) -> tuple[Episode, ...]:
    return tuple(
        point_goal(places(f"rooms-{floor}"), seed)
        for floor in range(_DEFAULT_FLOORS)
        for seed in range(_DEFAULT_EPISODES)
    )


def _check(episodes: Sequence[Episode], task: str) -> None:
    if not episodes:
        raise ValueError("expected at least one episode, got none")
    for episode in episodes:
        if task == "object" and episode.category is None:
            raise ValueError(f"episode {episode.id!r}: expected the category of an object, got none")
        text = episode.category if task == "object" else episode.instruction
        if task == "instruction" and not text:
            raise ValueError(f"episode {episode.id!r}: expected an instruction, got none")
        if text and (len(text) > LONGEST or not set(text) <= LETTERS):
            strange = sorted(set(text) - LETTERS)
            raise ValueError(
                f"episode {episode.id!r}: expected at most {LONGEST} characters of Latin, Greek, Cyrillic or Indian "
                f"script, got {len(text)}" + (f" with {strange}" if strange else "")
            )


def _spaces(config: NavigationConfig) -> dict[str, spaces.Space[Any]]:
    found: dict[str, spaces.Space[Any]] = {}
    if config.images:
        found["rgb"] = spaces.Box(0, 255, (*config.camera.size, 3), np.uint8)
        near, far = config.camera.near, min(config.camera.far, _DEEPEST)
        found["depth"] = spaces.Box(near, far, config.camera.size, np.float32)
    if config.pose:
        bounds = np.array([_FAR, _FAR, np.pi + 1e-6, np.pi / 2], dtype=np.float32)
        found["pose"] = spaces.Box(-bounds, bounds, dtype=np.float32)
    if config.task == "point":
        edge = np.float32(np.pi + 1e-6)
        found["pointgoal"] = spaces.Box(
            np.array([0, -edge], dtype=np.float32), np.array([_FAR, edge], dtype=np.float32), dtype=np.float32
        )
    else:
        name = "objectgoal" if config.task == "object" else "instruction"
        found[name] = spaces.Text(LONGEST, charset=LETTERS)
    return found


def _action_space(config: NavigationConfig) -> spaces.Space[Any]:
    if config.actions == "discrete":
        return spaces.Discrete(4)
    if config.actions == "looks":
        return spaces.Discrete(6)
    polar = config.actions == "polar"
    low = [0, 0, -np.pi] if polar else [0, -_FAR, -_FAR]
    high = [1, 20, np.pi] if polar else [1, _FAR, _FAR]
    return spaces.Box(np.array(low, dtype=np.float32), np.array(high, dtype=np.float32), dtype=np.float32)
