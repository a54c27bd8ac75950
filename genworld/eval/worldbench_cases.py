"""The cases of the world benchmark: prompts in a world whose truth is known, fixed by a hash.

A case is a scene of the procedural world and what may be told of it to a model: its caption, for some cases its first
frames, for some the path of its camera. Of many random scenes only those are taken that show clearly what they are for:
nobody starts half hidden, who moves goes far enough to be named, and who is to be hidden reappears in time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.data.synthetic import camera_path, from_bytes, to_bytes
from genworld.ops.random import seed_of
from genworld.types import CameraPath, ClipShape
from genworld.world.cameras import Camera, CameraMotion
from genworld.world.clip import WorldClip, sample_clip
from genworld.world.layout import Motion, Scene, WorldConfig
from genworld.world.objects import WorldObject

Suite = Literal["single", "full"]
SUITES: tuple[Suite, ...] = ("single", "full")
Ability = Literal["text", "coherence", "consistency", "permanence", "interaction", "reasoning"]
ABILITIES: dict[Ability, str] = {
    "text": "text understanding",
    "coherence": "3D motion coherence",
    "consistency": "object consistency",
    "permanence": "object permanence",
    "interaction": "interaction",
    "reasoning": "reasoning beyond what is seen",
}
Ask = Literal["prompt", "frames", "camera"]
"""What a case needs a model to take besides a prompt: nothing, first frames, or a camera path."""
ASKS: tuple[Ask, ...] = ("prompt", "frames", "camera")
Kind = Literal["words", "drop", "collision", "wall", "rest", "fall", "race", "reveal", "camera"]

SHAPE = ClipShape(17, 64, 64, 8.0)
CYCLES: dict[Suite, tuple[Kind, ...]] = {
    "single": ("words", "rest", "words", "camera", "words", "fall"),
    "full": ("words", "collision", "wall", "rest", "camera", "drop", "race", "reveal"),
}
"""The kinds of the cases of a suite in turn, so that any number of them is a fair mixture."""
FINGERPRINTS: dict[Suite, str] = {
    "single": "8e60148ee348632433601b93158c98a3ad625687f0a2e9749b70e3a5b680dbcf",
    "full": "96a90d84655043288d0207811213a445146e571115336ef8f3c973e2d520c854",
}
"""sha256 of the first 24 cases of each suite at the default shape: see `fingerprint`."""

MOVES = 0.5  # metres a mover goes at least
PUSHED = 0.3  # metres a struck object goes at least
VISIBLE, STRUCK = 0.9, 0.72  # part of each object that nothing else covers; where objects meet, they cover more
HALF, HIDDEN = 0.45, 0.02  # parts of an object that passes a wall: enough to be followed, and gone
LARGE = 0.008  # part of the picture that an object covers at least
SWEEP = 0.06  # shorter sides that something crosses at least: what rests under a moving camera, or what is to go on
_TRIES = 2000
_SHORTEST, _LONGEST, _FEWEST, _SMALLEST = 1.5, 3.5, 9, 48


@dataclass(frozen=True)
class Case:
    """One question to a model, and the truth.

    Attributes:
        suite: it belongs to.
        index: in the suite.
        kind: what the scene was chosen for.
        seed: of the scene, and of the sample's noise.
        clip: the truth: scene, motion, events, pictures.
        num_given: first frames that belong to the question.
    """

    suite: Suite
    index: int
    kind: Kind
    seed: int
    clip: WorldClip
    num_given: int

    def afresh(self) -> Case:
        """The same case without what it has computed and kept: of many, only those at hand need hold their pictures."""
        return replace(self, clip=replace(self.clip))

    @property
    def prompt(self) -> str:
        """The caption of the scene."""
        return self.clip.caption

    @property
    def shape(self) -> ClipShape:
        """Of the video asked for."""
        return self.clip.shape

    @property
    def ask(self) -> Ask:
        """What a model has to take."""
        return "camera" if self.kind == "camera" else "frames" if self.num_given else "prompt"

    @property
    def ability(self) -> Ability:
        """What the scene was chosen for."""
        return OWN_ABILITY[self.kind]

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """All that the video is scored on; the others do not apply."""
        asked: set[Ability] = {self.ability, "consistency"}
        if self.ask == "prompt":
            asked.add("text")
            if "bounce" in self.clip.story.acts:
                asked.add("interaction")
        return tuple(name for name in ABILITIES if name in asked)

    @property
    def objects(self) -> tuple[WorldObject, ...]:
        """What is in the scene, without the wall."""
        return tuple(thing for thing in self.clip.scene.objects if thing.shape != "wall")

    @cached_property
    def camera(self) -> CameraPath:
        """Where the camera is in every frame."""
        return camera_path(self.clip.scene.camera, self.shape)

    @cached_property
    def pixels(self) -> Float[Tensor, "3 F H W"]:
        """The real video, rounded to 8 bits."""
        return from_bytes(to_bytes(self.clip.clip.pixels))

    @property
    def given(self) -> Float[Tensor, "3 n H W"]:
        """The first frames, as far as they belong to the question."""
        return self.pixels[:, : max(self.num_given, int(self.ask == "camera"))]

    @cached_property
    def wall(self) -> Bool[np.ndarray, "H W"] | None:
        """The pixels of the wall in the first frame, if there is one."""
        walls = [i for i, thing in enumerate(self.clip.scene.objects) if thing.shape == "wall"]
        return self.clip.masks[0, walls[0]].numpy() if walls else None


OWN_ABILITY: dict[Kind, Ability] = {
    "words": "text",
    "drop": "interaction",
    "collision": "interaction",
    "wall": "permanence",
    "rest": "reasoning",
    "fall": "reasoning",
    "race": "reasoning",
    "reveal": "reasoning",
    "camera": "coherence",
}


def cases(suite: Suite, num: int, shape: ClipShape = SHAPE, asks: Sequence[Ask] = ASKS) -> list[Case]:
    """The first `num` cases of a suite: a function of the arguments and nothing else.

    Args:
        suite: "single": one large object, as the configs for small machines train; "full": several objects of all
            shapes, collisions, walls and moving cameras.
        num: how many. A smaller number gives the beginning of a larger one.
        shape: of the videos.
        asks: leave out cases that need a model to take anything else.

    Raises:
        ValueError: an unknown suite, no cases, or a shape in which the truth could not be seen.
    """
    if suite not in SUITES:
        raise ValueError(f"unknown suite {suite!r} of the world benchmark: choose from {', '.join(SUITES)}")
    if num < 1 or not asks:
        raise ValueError(f"the world benchmark needs at least one case, got num={num} and asks={list(asks)}")
    _check_shape(shape)
    cycle, found, index = CYCLES[suite], list[Case](), 0
    if not any(what_asks(kind) in asks for kind in cycle):
        raise ValueError(f"suite {suite!r} has no case that asks for {list(asks)} alone")
    while len(found) < num:
        kind = cycle[index % len(cycle)]
        if what_asks(kind) in asks:
            found.append(_case(suite, index, kind, shape))
        index += 1
    return found


def fingerprint(cases: Sequence[Case]) -> str:
    """sha256 over the prompts, seeds and truth of cases: equal numbers were measured on equal questions."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(json.dumps(_facts(case.afresh()), sort_keys=True).encode())
    return digest.hexdigest()


def _facts(case: Case) -> list[object]:
    """What decides a case; millimetres, so that the last digit of a processor does not matter."""
    places = np.round(case.clip.trajectory.positions(case.clip.times), 3) + 0.0
    things = [(thing.shape, thing.colour, thing.size, thing.material) for thing in case.clip.scene.objects]
    poses = np.round(case.camera.world_from_camera.double().numpy(), 3) + 0.0
    told = [case.suite, case.index, case.kind, case.seed, case.prompt, case.num_given, list(case.shape)]
    return [*told, case.abilities, things, places.tolist(), poses.tolist()]


def _check_shape(shape: ClipShape) -> None:
    seconds = (shape.num_frames - 1) / shape.fps
    if shape.num_frames < _FEWEST or not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(
            f"the world benchmark needs videos of {_SHORTEST:g} to {_LONGEST:g} seconds in at least {_FEWEST} frames, "
            f"got {shape} ({seconds:.2f} s): sample {SHAPE} for example"
        )
    if min(shape.height, shape.width) < _SMALLEST:
        raise ValueError(f"the world benchmark needs {_SMALLEST} pixels along the shorter side, got {shape}")


# ---- scenes ----


def what_asks(kind: Kind) -> Ask:
    """What cases of a kind need a model to take besides a prompt."""
    return "camera" if kind == "camera" else "frames" if OWN_ABILITY[kind] == "reasoning" else "prompt"


def asks_for(suite: Suite, ability: Ability) -> set[Ask]:
    """What the cases of a suite that are about an ability need a model to take; empty where there are none."""
    asks = {what_asks(kind) for kind in CYCLES[suite] if OWN_ABILITY[kind] == ability}
    anywhere = {"consistency", "text", "interaction"}  # of any prompt: what is shown, what is said, what drops
    return asks | ({"prompt"} if ability in anywhere else set())


def _case(suite: Suite, index: int, kind: Kind, shape: ClipShape) -> Case:
    world, num_given = _world(suite, kind, index), _num_given(kind, shape.fps)
    for attempt in range(_TRIES):
        seed = seed_of("world benchmark", suite, index, attempt)
        try:
            clip = sample_clip(seed, world, shape)
        except ValueError:  # these objects find no place: the next scene
            continue
        if kind == "camera" and not _in_turn(clip.scene.camera, index // len(CYCLES[suite])):
            continue
        clip = _staged(clip, kind)
        if _clear(clip, STRUCK if kind == "collision" else VISIBLE) and _CHECKS[kind](clip, num_given):
            return Case(suite, index, kind, seed, clip, num_given).afresh()
    raise AssertionError(f"no clear scene of kind {kind} in {_TRIES} tries")


def _in_turn(camera: Camera, turn: int) -> bool:
    """Whether a camera does what it is the turn of: all motions, both ways, so that one answer does not fit all."""
    motions: tuple[CameraMotion, ...] = ("pan", "orbit", "dolly")
    return camera.motion == motions[turn % 3] and (camera.rate > 0) == (turn // 3 % 2 == 0)


def _world(suite: Suite, kind: Kind, index: int) -> WorldConfig:
    motions: dict[Kind, tuple[Motion, ...]] = {
        "words": ("stay", "left", "right", "towards", "away", "bounce"),
        "drop": ("bounce",),
        "fall": ("bounce",),
        "race": ("bounce",),
        "camera": ("stay",),
    }
    sliding: tuple[Motion, ...] = ("left", "right", "towards", "away")
    base = WorldConfig(
        motions=motions.get(kind, sliding),
        cameras=("orbit", "dolly", "pan") if kind == "camera" else ("stand",),
        caption_styles=("terse", "sentence"),
        collisions=0.0,
        occluders=0.0,
    )
    if suite == "single":
        easy = replace(base, max_objects=1, shapes=("sphere", "cube", "cylinder", "cone"), sizes=("large",))
        if kind == "words":  # in turn, so that few cases ask for all words
            easy = replace(easy, motions=(base.motions[index // 2 % 6],))
        return replace(easy, surroundings="fixed")
    few = {"words": (2, 3), "wall": (1, 2), "reveal": (1, 2), "race": (2, 2), "drop": (1, 2), "rest": (1, 2)}
    low, high = few.get(kind, (2, 3))
    many = replace(base, min_objects=low, max_objects=high, sizes=("medium", "large"), caption_styles=("sentence",))
    if kind == "collision":
        # Across the picture: how far apart things are along the line of sight can hardly be seen.
        return replace(many, motions=("left", "right", "stay"), collisions=1.0)
    if kind in ("wall", "reveal"):
        return replace(many, motions=("left", "right"), occluders=1.0, caption_styles=("detailed",))
    return replace(many, motions=(*many.motions, "stay")) if kind in ("rest", "drop") else many


def _num_given(kind: Kind, fps: float) -> int:
    """Half a second shows how something slides; one picture shows how high something hangs."""
    if kind in ("fall", "race"):
        return 1
    return 1 + 4 * max(1, round(fps / 8)) if kind in ("rest", "reveal") else 0


def _staged(clip: WorldClip, kind: Kind) -> WorldClip:
    """The clip; of a race, with one object low and one high, so that the order of landing can be seen."""
    if kind != "race" or len(clip.scene.objects) != 2:
        return clip
    low, high = clip.scene.objects
    drops = (0.35 + 0.25 * low.bounciness, 1.0 + 0.7 * high.bounciness)
    objects = tuple(
        replace(thing, position=(*thing.position[:2], thing.half_height + drop))
        for thing, drop in zip((low, high), drops, strict=True)
    )
    scene: Scene = replace(clip.scene, objects=objects)
    return WorldClip(scene, scene.simulate(clip.end), clip.shape, clip.start, torch.device("cpu"))


def _clear(clip: WorldClip, visible: float) -> bool:
    """Everybody can be seen well, is named, and does what a caption has a word for."""
    story, objects = clip.story, clip.scene.objects
    if len(story.seen) != len(objects) or {"unclear", "fall"} & set(story.acts):
        return False
    moves = np.array([act not in ("stay", "pushed") for act in story.acts])
    going = np.ptp(clip.trajectory.positions(clip.times), axis=0).max(-1)
    seen = np.ptp(clip.pixel_positions.numpy(), axis=0).max(-1) / min(clip.shape.height, clip.shape.width)
    if ((going < MOVES) | (seen < SWEEP))[moves].any():
        return False
    things = [i for i, thing in enumerate(objects) if thing.shape != "wall"]
    masks = clip.masks[:, things]
    if float(masks.float().mean((2, 3))[0].min()) < LARGE or bool(_cut(masks[0]).any()):
        return False
    free = clip.visibility[:, [i for i in things if i not in story.passages]]
    return free.numel() == 0 or float(free.min()) > visible


def _cut(masks: Bool[Tensor, "*n H W"]) -> Bool[Tensor, "*n"]:
    """Whether an object is cut by the edge of the picture."""
    return masks[..., [0, -1], :].flatten(-2).any(-1) | masks[..., :, [0, -1]].flatten(-2).any(-1)


def _calm(clip: WorldClip, num_given: int) -> bool:
    """No contacts between objects, and all whole in most of the frames."""
    del num_given
    return not clip.story.hits and not any(event.kind == "collision" for event in clip.contacts) and _whole(clip)


def _whole(clip: WorldClip) -> bool:
    things = [i for i, thing in enumerate(clip.scene.objects) if thing.shape != "wall"]
    return float(_cut(clip.masks[:, things]).float().mean()) < 0.12


def _drops(clip: WorldClip, num_given: int) -> bool:
    return "bounce" in clip.story.acts and _calm(clip, num_given)


def _collides(clip: WorldClip, num_given: int) -> bool:
    """One object strikes one other that rests, and nobody else."""
    del num_given
    meetings = [event for event in clip.contacts if event.kind == "collision"]
    if len(meetings) != 1 or len(clip.story.hits) != 1 or not _whole(clip):
        return False
    (who, whom), event = clip.story.hits[0], meetings[0]
    ways = np.linalg.norm(np.ptp(clip.trajectory.positions(clip.times), axis=0)[:, :2], axis=-1)
    if clip.story.acts[who] not in ("left", "right"):
        return False
    timely = clip.start + 0.4 <= event.time <= clip.end - 0.6
    return timely and clip.story.acts[whom] == "pushed" and min(ways[who], ways[whom]) > PUSHED


def _passes(clip: WorldClip, num_given: int) -> bool:
    """The first object is seen, then hidden for a frame or more, then seen again for three or more."""
    if clip.story.passages.get(0) != "behind" or set(clip.story.passages) != {0} or not _calm(clip, num_given):
        return False
    seen = clip.visibility[:, 0].numpy()
    hidden = np.flatnonzero(seen < HIDDEN)
    if not len(hidden):
        return False
    before, after = seen[: hidden[0]] > HALF, seen[hidden[-1] + 1 :] > HALF
    return seen[0] > 2 * HALF - 0.25 and before.sum() >= 2 and after.sum() >= 3


def _comes_to_rest(clip: WorldClip, num_given: int) -> bool:
    """Enough is left of the way after what is given, in the world and in the picture."""
    places, seen = clip.trajectory.positions(clip.times), clip.pixel_positions.numpy()
    left = np.linalg.norm(places[-1] - places[num_given - 1], axis=-1)
    shown = np.linalg.norm(seen[-1] - seen[num_given - 1], axis=-1) / min(clip.shape.height, clip.shape.width)
    return _calm(clip, num_given) and bool(((left > MOVES) & (shown > SWEEP)).any())


def _races(clip: WorldClip, num_given: int) -> bool:
    lands = {event.who: event.time for event in clip.contacts if event.kind == "land"}
    return len(lands) == 2 and abs(lands[0] - lands[1]) > 0.16 and _calm(clip, num_given)


def _reveals(clip: WorldClip, num_given: int) -> bool:
    return _passes(clip, num_given) and bool((clip.visibility[num_given:, 0] < HIDDEN).any())


def _sweeps(clip: WorldClip, num_given: int) -> bool:
    """The camera's motion moves everybody across the picture: least in a dolly, before which nothing goes sideways."""
    ways = np.ptp(clip.pixel_positions.numpy(), axis=0).max(-1) / min(clip.shape.height, clip.shape.width)
    least = SWEEP / 2 if clip.scene.camera.motion == "dolly" else SWEEP
    return bool(ways.min() > least) and _calm(clip, num_given)


_CHECKS: dict[Kind, Callable[[WorldClip, int], bool]] = {
    "words": _calm,
    "drop": _drops,
    "collision": _collides,
    "wall": _passes,
    "rest": _comes_to_rest,
    "fall": _drops,
    "race": _races,
    "reveal": _reveals,
    "camera": _sweeps,
}
