"""Drawing a scene from a seed: which objects, where, how they start to move, and from where they are seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Literal, TypeVar

import numpy as np

from genworld.ops.random import seed_of
from genworld.world.bodies import body_of, friction_of
from genworld.world.cameras import CAMERA_MOTIONS, Camera, CameraMotion
from genworld.world.objects import (
    COLOURS,
    MATERIALS,
    SHAPES,
    SIZES,
    Colour,
    Material,
    Shape,
    Size,
    WorldObject,
    proportions,
)
from genworld.world.physics import GRAVITY, Body, Trajectory, gap, simulate

Motion = Literal["stay", "left", "right", "towards", "away", "bounce"]
MOTIONS: tuple[Motion, ...] = ("stay", "left", "right", "towards", "away", "bounce")
CaptionStyle = Literal["terse", "sentence", "detailed"]
CAPTION_STYLES: tuple[CaptionStyle, ...] = ("terse", "sentence", "detailed")

T = TypeVar("T")

_STAGE = 3.0  # seconds that a scene is checked for
_TRIES = 60
_RETRIES = 10  # rounds of tries with the fewest objects before a scene is given up
_CLEARANCE = 0.12  # metres between objects at time 0
# Where objects may be at any time of their motion, in metres right of and beyond the point the camera looks at.
_ACROSS, _NEAR, _FAR = 1.75, -1.5, 1.9


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What may appear in a world. The default is everything; choose subsets for easier worlds.

    Attributes:
        min_objects: fewest objects (walls not counted).
        max_objects: most objects, at most one per colour. Fewer are placed where more would not fit.
        shapes: shapes to draw from.
        colours: colours to draw from; no two objects of a scene share one.
        sizes: sizes to draw from.
        materials: matte, shiny.
        motions: what objects do of themselves. Left, right, towards and away are as seen by the camera at time 0.
        cameras: what the camera does.
        collisions: part of the scenes, among those with two objects or more and a motion along the floor, in which
            one object is aimed at another. Others collide by chance.
        occluders: part of the scenes with sideways motion in which a wall hides a stretch of it.
        surroundings: "fixed" shows every scene from one place in one light; "varied" changes viewpoint, sun and tints.
        caption_styles: styles to draw from.
    """

    min_objects: int = 1
    max_objects: int = 5
    shapes: tuple[Shape, ...] = SHAPES
    colours: tuple[Colour, ...] = COLOURS
    sizes: tuple[Size, ...] = tuple(SIZES)
    materials: tuple[Material, ...] = MATERIALS
    motions: tuple[Motion, ...] = MOTIONS
    cameras: tuple[CameraMotion, ...] = CAMERA_MOTIONS
    collisions: float = 0.3
    occluders: float = 0.15
    surroundings: Literal["fixed", "varied"] = "varied"
    caption_styles: tuple[CaptionStyle, ...] = CAPTION_STYLES

    def __post_init__(self) -> None:
        if not 1 <= self.min_objects <= self.max_objects:
            raise ValueError(
                f"expected 1 <= min_objects <= max_objects, got {self.min_objects} and {self.max_objects}: "
                "a scene needs at least one object"
            )
        for name in ("shapes", "colours", "sizes", "materials", "motions", "cameras", "caption_styles"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: name at least one, or leave the field out to allow all")
        if len(set(self.colours)) < self.max_objects:
            raise ValueError(
                f"max_objects is {self.max_objects} but there are only {len(set(self.colours))} colours, and objects "
                "of a scene never share one: allow more colours or fewer objects"
            )
        for name in ("collisions", "occluders"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, expected 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Light and background; colours are display RGB in [0, 1].

    Attributes:
        sun: unit vector towards the sun, world axes.
        floor: colour of the floor in full light.
        zenith: colour of the sky straight up.
        horizon: colour of the sky and the haze at the horizon.
    """

    sun: tuple[float, float, float]
    floor: tuple[float, float, float] = (0.72, 0.71, 0.69)
    zenith: tuple[float, float, float] = (0.62, 0.74, 0.88)
    horizon: tuple[float, float, float] = (0.90, 0.92, 0.94)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene at time 0 and the laws it then follows; a wall, if there is one, is the last object."""

    seed: int
    objects: tuple[WorldObject, ...]
    camera: Camera
    surroundings: Surroundings
    caption_style: CaptionStyle

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The objects as physics sees them."""
        return tuple(map(body_of, self.objects))

    def simulate(self, until: float) -> Trajectory:
        """All motion and contacts from time 0 to `until` seconds."""
        return simulate(self.bodies, until)


def sample_scene(seed: int, config: WorldConfig | None = None) -> Scene:
    """The scene of a seed: a function of `seed` and `config` and nothing else.

    Of many random placements the first that is clear is taken: nobody overlaps, nobody starts hidden or leaves the
    picture within two seconds, and nobody is hit in mid-air.

    Raises:
        ValueError: as few as `min_objects` of these sizes find no place.
    """
    config = config or WorldConfig()
    chance = Random(seed_of(seed, "world"))
    camera = _camera(chance, config)
    surroundings = _surroundings(chance, config, camera)
    style = _choose(chance, config.caption_styles)
    count = config.min_objects + int(chance.random() * (config.max_objects - config.min_objects + 1))
    plan = _plan(chance, config, count)
    for _ in range(config.max_objects - config.min_objects + _RETRIES):
        for _ in range(_TRIES):
            objects = _place(chance, config, camera, plan)
            if objects is not None:
                scene = Scene(seed=seed, objects=objects, camera=camera, surroundings=surroundings, caption_style=style)
                if _is_clear(scene):
                    return scene
        plan = replace(plan, count=max(plan.count - 1, config.min_objects), hide=False)
    raise ValueError(
        f"found no place for {config.min_objects} objects of sizes {', '.join(config.sizes)} (seed {seed}): lower "
        "min_objects or allow smaller sizes"
    )


@dataclass(frozen=True)
class _Plan:
    """What a scene is to contain; kept while placements are tried, so that hard scenes are not drawn less often."""

    count: int
    aim: bool
    hide: bool


def _plan(chance: Random, config: WorldConfig, count: int) -> _Plan:
    aim, hide = chance.random() < config.collisions, chance.random() < config.occluders
    hide = hide and bool({"left", "right"} & set(config.motions))
    return _Plan(min(count, 3) if hide and config.min_objects <= 3 else count, aim and not hide, hide)


def _camera(chance: Random, config: WorldConfig) -> Camera:
    motion = _choose(chance, config.cameras)
    sign = 1 if chance.random() < 0.5 else -1
    rate = {"stand": 0.0, "orbit": 0.16, "dolly": 0.11, "pan": 0.055}[motion] * (1 + 0.4 * chance.random()) * sign
    if config.surroundings == "fixed":
        return Camera(motion=motion, rate=rate)
    return Camera(
        motion=motion,
        rate=rate,
        azimuth=chance.uniform(-math.pi, math.pi),
        distance=chance.uniform(6.5, 7.3),
        height=chance.uniform(2.5, 3.5),
    )


def _surroundings(chance: Random, config: WorldConfig, camera: Camera) -> Surroundings:
    if config.surroundings == "fixed":
        return Surroundings(sun=_sun(camera.azimuth, -0.75, 0.95))
    side = chance.uniform(0.35, 1.1) * (1 if chance.random() < 0.5 else -1)
    sun = _sun(camera.azimuth, side, chance.uniform(0.8, 1.1))
    grey, warm, haze = chance.uniform(0.62, 0.78), chance.uniform(-0.02, 0.03), chance.uniform(0.86, 0.95)
    blue = chance.uniform(0.14, 0.30)
    return Surroundings(
        sun=sun,
        floor=(grey + warm, grey + 0.3 * warm, grey - warm),
        zenith=(0.88 - blue, 0.88 - 0.5 * blue, 0.89),
        horizon=(haze - 0.02, haze, haze + 0.02),
    )


def _sun(azimuth: float, side: float, height: float) -> tuple[float, float, float]:
    """Towards a sun behind the camera's shoulder; `side` is how far to its right, radians."""
    stand, flat = azimuth + side, math.cos(height)
    return math.sin(stand) * flat, -math.cos(stand) * flat, math.sin(height)


def _place(chance: Random, config: WorldConfig, camera: Camera, plan: _Plan) -> tuple[WorldObject, ...] | None:
    """One attempt at the planned objects; None when they do not fit."""
    colours = _shuffled(chance, dict.fromkeys(config.colours))[: plan.count]
    objects: list[WorldObject] = []
    motions: list[Motion] = []
    for colour in colours:
        motion = _choose(chance, config.motions)
        if objects and "stay" in config.motions and chance.random() < 0.4:
            motion = "stay"
        if plan.hide and not objects:
            motion = _choose(chance, [way for way in config.motions if way in ("left", "right")])
        shape, size = _choose(chance, config.shapes), _choose(chance, config.sizes)
        material = _choose(chance, config.materials)
        thing = WorldObject(
            shape=shape,
            colour=colour,
            size=size,
            material=material,
            dims=proportions(shape, size),
            position=(0.0, 0.0, 0.0),
            yaw=chance.uniform(-math.pi, math.pi),
            bounciness=chance.uniform(0.55, 0.75),
        )
        for _ in range(12):
            placed = _start(chance, thing, motion, camera, (2.7, 3.3) if plan.hide and not objects else (1.3, 2.2))
            if all(_apart(placed, other) for other in objects):
                break
        else:
            return None
        objects.append(placed)
        motions.append(motion)
    return _stage_events(chance, plan, camera, objects, motions)


def _start(
    chance: Random, thing: WorldObject, motion: Motion, camera: Camera, ways: tuple[float, float]
) -> WorldObject:
    """Give an object a place and a velocity such that its way, of a length within `ways`, is in the picture."""
    margin = thing.bounding_radius
    across, near, far = _ACROSS - 0.5 * margin, _NEAR + 0.5 * margin, _FAR
    x, y = chance.uniform(-across, across), chance.uniform(near, far)
    if motion in ("stay", "bounce"):
        drop = chance.uniform(0.9, 1.6) if motion == "bounce" else 0.0
        return replace(thing, position=_world(camera, x, y, thing.half_height + drop))
    way = chance.uniform(*ways)
    room = (2 * across if motion in ("left", "right") else far - near) - 0.1
    way = min(way, room)
    if motion in ("left", "right"):
        x = chance.uniform(-across + way, across) if motion == "left" else chance.uniform(-across, across - way)
    else:
        y = chance.uniform(near + way, far) if motion == "towards" else chance.uniform(near, far - way)
    speed = math.sqrt(2 * way * GRAVITY * friction_of(thing))
    angle = {"right": 0.0, "away": 0.5, "left": 1.0, "towards": 1.5}[motion] * math.pi + chance.uniform(-0.12, 0.12)
    vx, vy, _ = _world(replace(camera, target=(0, 0, 0)), speed * math.cos(angle), speed * math.sin(angle), 0.0)
    # Boxes slide face first: an edge in front would look as if it had to turn.
    yaw = angle + camera.azimuth if thing.shape == "cube" else thing.yaw
    return replace(thing, position=_world(camera, x, y, thing.half_height), velocity=(vx, vy), yaw=yaw)


def _stage_events(
    chance: Random, plan: _Plan, camera: Camera, objects: list[WorldObject], motions: list[Motion]
) -> tuple[WorldObject, ...] | None:
    """Aim one object at another, or put a wall before one, where planned; None when that does not fit."""
    movers = [i for i, motion in enumerate(motions) if motion in ("left", "right", "towards", "away")]
    targets = [i for i, motion in enumerate(motions) if motion == "stay"]
    if plan.aim and movers and targets:
        mover, target = objects[movers[0]], objects[targets[0]]
        speed = math.hypot(*mover.velocity)
        ahead = mover.bounding_radius + target.bounding_radius + chance.uniform(0.3, 0.8)
        side = chance.uniform(-0.15, 0.15)
        ux, uy = mover.velocity[0] / speed, mover.velocity[1] / speed
        x = mover.position[0] + ux * ahead - uy * side
        y = mover.position[1] + uy * ahead + ux * side
        objects[targets[0]] = replace(target, position=(x, y, target.half_height), yaw=mover.yaw)
    if plan.hide:
        objects = [*objects, _wall(objects[0], camera)]
    if not all(_apart(a, b) for a, b in combinations(objects, 2)):
        return None
    return tuple(objects)


def _wall(mover: WorldObject, camera: Camera) -> WorldObject:
    """A wall between the camera and the middle of a mover's way, as tall and wide as hides the mover."""
    speed = math.hypot(*mover.velocity)
    middle = 0.47 * speed * speed / (2 * GRAVITY * friction_of(mover))
    x = mover.position[0] + middle * mover.velocity[0] / speed
    y = mover.position[1] + middle * mover.velocity[1] / speed
    away = mover.bounding_radius + 0.35
    x, y = x + away * math.sin(camera.azimuth), y - away * math.cos(camera.azimuth)
    half = (mover.bounding_radius + 0.08, 0.07, mover.half_height * 1.1 + 0.16)
    return WorldObject(
        shape="wall",
        colour="grey",
        size="large",
        material="matte",
        dims=half,
        position=(x, y, half[2]),
        yaw=camera.azimuth,
    )


def _world(camera: Camera, right: float, ahead: float, z: float) -> tuple[float, float, float]:
    """World position of a point given in metres to the right of and beyond the camera's target at time 0."""
    c, s = math.cos(camera.azimuth), math.sin(camera.azimuth)
    return camera.target[0] + c * right - s * ahead, camera.target[1] + s * right + c * ahead, z


def _apart(a: WorldObject, b: WorldObject) -> bool:
    offset = (b.position[0] - a.position[0], b.position[1] - a.position[1])
    if math.hypot(*offset) > a.bounding_radius + b.bounding_radius + _CLEARANCE:
        return True
    return gap(body_of(a), body_of(b), offset)[0] > _CLEARANCE


def _is_clear(scene: Scene) -> bool:
    """All start seen, all stay in the picture, no collision in the air."""
    still = replace(scene.camera, motion="stand")  # the camera may lose sight of an object; the scene should not
    pose, tangent = still.world_from_camera(np.zeros(1))[0], math.tan(still.half_fov)
    radius = np.array([thing.bounding_radius for thing in scene.objects])

    def on_screen(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position and size in half widths of the picture's inner square (size 0 behind the camera)."""
        seen = (places - pose[:3, 3]) @ pose[:3, :3]
        depth = np.maximum(seen[..., 2:], 1e-3) * tangent
        return seen[..., :2] / depth, radius / depth[..., 0]

    begin = np.array([thing.position for thing in scene.objects])
    depth = (begin - pose[:3, 3]) @ pose[:3, 2]
    if not _uncovered(scene.objects, *on_screen(begin), depth):
        return False
    trajectory = scene.simulate(_STAGE)
    screen, size = on_screen(trajectory.positions(np.linspace(0.0, 2.0, 5)))
    return not (np.abs(screen).max(-1) + 0.6 * size > 1).any() and not _hit_in_the_air(scene, trajectory)


def _hit_in_the_air(scene: Scene, trajectory: Trajectory) -> bool:
    for event in trajectory.events:
        if event.whom is not None:
            pair = [event.who, event.whom]
            heights = trajectory.positions(np.array([event.time]))[0, pair, 2]
            if any(h > scene.objects[i].half_height + 0.05 for h, i in zip(heights, pair, strict=True)):
                return True
    return False


def _uncovered(objects: Sequence[WorldObject], screen: np.ndarray, radius: np.ndarray, depth: np.ndarray) -> bool:
    """Whether less than about half of each object is behind any nearer one, by boxes on the screen."""
    half = (
        np.stack(
            [
                [
                    thing.dims[0] if thing.shape == "wall" else 0.8 * thing.bounding_radius,
                    min(thing.half_height, thing.bounding_radius),
                ]
                for thing in objects
            ]
        )
        * (radius / [thing.bounding_radius for thing in objects])[:, None]
    )
    for i, j in combinations(range(len(objects)), 2):
        back = i if depth[i] > depth[j] else j
        overlap = np.minimum(screen[i] + half[i], screen[j] + half[j]) - np.maximum(
            screen[i] - half[i], screen[j] - half[j]
        )
        if np.prod(overlap.clip(0)) > 0.35 * np.prod(2 * half[back]):
            return False
    return True


def _choose(chance: Random, options: Sequence[T]) -> T:
    return options[int(chance.random() * len(options))]


def _shuffled(chance: Random, options: dict[Colour, None]) -> list[Colour]:
    return sorted(options, key=lambda _: chance.random())
