"""The scenes of the world benchmark: of many random ones, those that show clearly what they are for.

Nobody starts half hidden, who moves goes far enough to be named, and who is to be hidden reappears in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from genworld.ops.random import seed_of
from genworld.types import ClipShape
from genworld.world.cameras import Camera, CameraMotion
from genworld.world.clip import WorldClip, sample_clip
from genworld.world.layout import Motion, Scene, WorldConfig

Suite = Literal["single", "full"]
Kind = Literal["words", "drop", "collision", "wall", "rest", "fall", "race", "reveal", "camera"]
CYCLES: dict[Suite, tuple[Kind, ...]] = {
    "single": ("words", "rest", "words", "camera", "words", "fall"),
    "full": ("words", "collision", "wall", "rest", "camera", "drop", "race", "reveal"),
}
"""The kinds of the cases of a suite in turn, so that any number of them is a fair mixture."""

MOVES = 0.5  # metres a mover goes at least
PUSHED = 0.3  # metres a struck object goes at least
VISIBLE, STRUCK = 0.9, 0.72  # part of each object that nothing else covers; where objects meet, they cover more
HALF, HIDDEN = 0.45, 0.02  # parts of an object that passes a wall: enough to be followed, and gone
LARGE = 0.008  # part of the picture that an object covers at least
EARLIEST = 0.4  # seconds before which nobody is struck
SWEEP = 0.06  # shorter sides that something crosses at least: what rests under a moving camera, or what is to go on
_TRIES = 2000


def find_scene(suite: Suite, index: int, shape: ClipShape) -> tuple[Kind, int, WorldClip, int]:
    """The scene of a case: its kind, its seed, the clip, and how many first frames belong to the question."""
    kind = CYCLES[suite][index % len(CYCLES[suite])]
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
            return kind, seed, clip, num_given
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
    timely = clip.start + EARLIEST <= event.time <= clip.end - 0.6
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
