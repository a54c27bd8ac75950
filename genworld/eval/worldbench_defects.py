"""Planted defects: the real videos of the world benchmark, rendered anew with one thing wrong.

They measure the measures: each defect must lower its own abilities and leave the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.synthetic import from_bytes, to_bytes
from genworld.eval.worldbench import Score, score_video
from genworld.eval.worldbench_cases import Ability, Case
from genworld.world.clip import stage_of
from genworld.world.layout import Scene
from genworld.world.objects import COLOURS, SHAPES, WorldObject, proportions
from genworld.world.render import render, trace
from genworld.world.stage import Stage

Defect = Literal[
    "wrong colour",
    "wrong count",
    "vanished",
    "lost behind the wall",
    "swapped behind the wall",
    "frozen",
    "reversed",
    "teleport",
    "shape change",
    "pass-through",
]


@dataclass(frozen=True)
class Effect:
    """What a defect does to scores: it lowers its own to below 0.5 and moves the others by less than 0.1.

    Attributes:
        own: abilities that a video with it does not have.
        why: where there are several, or others than one would think.
    """

    own: tuple[Ability, ...]
    why: str = ""


_MOTION: tuple[Ability, ...] = ("text", "coherence", "permanence", "interaction", "reasoning")
"""Abilities that are about what moves, and how."""

DEFECTS: dict[Defect, Effect] = {
    "wrong colour": Effect(("text",)),
    "wrong count": Effect(("text",)),
    "vanished": Effect(("consistency",)),
    "lost behind the wall": Effect(("permanence", "reasoning"), "it must come out"),
    "swapped behind the wall": Effect(("permanence", "consistency"), "what comes out is another thing"),
    "frozen": Effect(_MOTION, "of all that is to happen nothing does"),
    "reversed": Effect(
        _MOTION,
        "left becomes right, objects fall up and are pushed by nobody, and who passes a wall speeds up instead of "
        "slowing down",
    ),
    "teleport": Effect(("consistency",)),
    "shape change": Effect(("consistency",)),
    "pass-through": Effect(("interaction",)),
}
_JUMP, _JUMP_FRAMES = 1.3, 3
# Shapes about as tall: of others the middle would be seen to jump, too.
_OTHER_SHAPE = {"sphere": "cylinder", "cube": "cylinder", "cylinder": "sphere"}


def plant(case: Case, defect: Defect) -> Float[Tensor, "3 F H W"] | None:
    """The real video of a case with a defect; None where the case has no room for it.

    What is given of a video is left as it is.
    """
    return _PLANTS[defect](case)


def _stage(case: Case, scene: Scene | None = None) -> Stage:
    scene = scene or case.clip.scene
    size = case.shape.height, case.shape.width
    return stage_of(scene, scene.simulate(case.clip.end), case.clip.times, size)


def _rendered(case: Case, stage: Stage) -> Float[Tensor, "3 F H W"]:
    return from_bytes(to_bytes(render(stage, case.shape.height, case.shape.width)))


def _bystander(case: Case, shapes: Collection[str] = SHAPES) -> int | None:
    """An object of some shape that has no part in a collision or passage, at rest if there is one."""
    story = case.clip.story
    busy = {index for hit in story.hits for index in hit} | set(story.passages)
    free = [index for index, thing in enumerate(case.objects) if index not in busy and thing.shape in shapes]
    return min(free, key=lambda index: story.acts[index] != "stay", default=None)


# ---- what is seen ----


def _wrong_colour(case: Case) -> Tensor | None:
    if case.ask != "prompt":
        return None
    used = {thing.colour for thing in case.objects}
    free = [colour for colour in COLOURS if colour not in used]
    # Far from the right ones in the palette's order, which is that of hues.
    things = [
        thing if thing.shape == "wall" else replace(thing, colour=free[(3 * i + 1) % len(free)])
        for i, thing in enumerate(case.clip.scene.objects)
    ]
    return _rendered(case, _stage(case, replace(case.clip.scene, objects=tuple(things))))


def _wrong_count(case: Case) -> Tensor | None:
    """One more object, where it hides nobody and nobody comes."""
    if case.ask != "prompt":
        return None
    scene = case.clip.scene
    colour = next(colour for colour in reversed(COLOURS) if colour not in {thing.colour for thing in scene.objects})
    before = case.clip.visibility
    for x in (-1.3, 1.3, -0.6, 0.6, 0.0):
        for y in (1.4, 0.4, -0.8):
            thing = _extra(scene, colour, x, y)
            stage = _stage(case, replace(scene, objects=(thing, *scene.objects)))
            still = torch.from_numpy(case.clip.trajectory.positions(case.clip.times)).float()
            near = (stage.centre[:, 1:] - still).abs().max() > 1e-3  # it was in somebody's way
            seen = trace(stage, case.shape.height, case.shape.width)
            alone = (seen.visibility[:, 1:] - before).abs().max() < 0.02 and seen.visibility[:, 0].min() > 0.9
            if alone and not near:
                return _rendered(case, stage)
    return None


def _extra(scene: Scene, colour: str, right: float, ahead: float) -> WorldObject:
    camera, dims = scene.camera, proportions("sphere", "small")
    c, s = np.cos(camera.azimuth), np.sin(camera.azimuth)
    place = (float(c * right - s * ahead), float(s * right + c * ahead), dims[2])
    return WorldObject(shape="sphere", colour=colour, size="small", material="matte", dims=dims, position=place)  # type: ignore[arg-type]


def _vanished(case: Case) -> Tensor | None:
    """For the last third: long enough to be missed, late enough to have been seen to fall, roll and bounce."""
    index = _bystander(case)
    return None if index is None else _rendered(case, _without(_stage(case), index, case.shape.num_frames * 13 // 20))


def _lost(case: Case) -> Tensor | None:
    hidden = _hidden(case)
    return None if hidden is None else _rendered(case, _without(_stage(case), *hidden))


def _without(stage: Stage, index: int, first: int) -> Stage:
    kind = stage.kind.clone()
    kind[first:, index] = -1
    return replace(stage, kind=kind)


def _shape_change(case: Case) -> Tensor | None:
    index = _bystander(case, _OTHER_SHAPE)
    return None if index is None else _reshaped(case, index, case.shape.num_frames * 3 // 5)


def _swapped(case: Case) -> Tensor | None:
    hidden = _hidden(case)
    return None if hidden is None or case.ask != "prompt" else _reshaped(case, *hidden)


def _hidden(case: Case) -> tuple[int, int] | None:
    """Who is behind the wall, and a frame in which nothing of it is seen."""
    for index in case.clip.story.passages:
        return index, int(case.clip.visibility[:, index].argmin())
    return None


def _reshaped(case: Case, index: int, first: int) -> Tensor:
    scene, thing = case.clip.scene, case.clip.scene.objects[index]
    shape = _OTHER_SHAPE.get(thing.shape, "cube")
    other = replace(thing, shape=shape, dims=proportions(shape, thing.size))  # type: ignore[arg-type]
    things = tuple(other if i == index else each for i, each in enumerate(scene.objects))
    stage, after = _stage(case), _stage(case, replace(scene, objects=things))
    parts = {name: getattr(stage, name).clone() for name in ("kind", "dims", "bound", "rotation", "centre")}
    for name in ("kind", "dims", "bound", "rotation"):
        parts[name][first:, index] = getattr(after, name)[first:, index]
    parts["centre"][first:, index, 2] += other.half_height - thing.half_height
    changed = replace(stage, **parts)
    changed.centre[first:, index, 2] += _lowered(case, stage, changed, index, first)
    return _rendered(case, changed)


def _lowered(case: Case, before: Stage, after: Stage, index: int, frame: int) -> float:
    """How many metres the middle of what is seen of an object lies lower than before; 0 where it is hidden."""
    rows = []
    for stage in (before, after):
        only = stage.map(lambda x: x[frame : frame + 1])
        found = (trace(only, case.shape.height, case.shape.width).ids[0] == index + 1).nonzero()
        if not len(found):
            return 0.0
        rows.append(float(found[:, 0].float().mean()))
    pose, focal = before.world_from_camera[frame], float(before.intrinsics[frame, 0, 0])
    away = before.centre[frame, index] - pose[:3, 3]
    # A step upwards is seen along the picture's columns as far as the camera is level.
    return (rows[1] - rows[0]) * float(away @ pose[:3, 2]) / focal / float(-pose[2, 1])


# ---- what happens ----


def _frozen(case: Case) -> Tensor | None:
    if case.kind != "camera" and not _movers(case):
        return None
    frames = torch.arange(case.shape.num_frames).clamp(max=max(case.num_given - 1, 0))
    return case.pixels[:, frames]


def _movers(case: Case) -> list[int]:
    return [i for i in range(len(case.objects)) if case.clip.story.acts[i] not in ("stay", "pushed")]


def _reversed(case: Case) -> Tensor | None:
    """Backwards; what is given goes on the way it came from, and a camera turns the other way from where it stands."""
    if case.ask == "camera":
        camera = case.clip.scene.camera
        return _rendered(case, _stage(case, replace(case.clip.scene, camera=replace(camera, rate=-camera.rate))))
    if not _movers(case):
        return None
    if case.ask == "prompt":
        return case.pixels.flip(1)
    stage, last = _stage(case), case.num_given - 1
    centre = stage.centre.clone()
    centre[last:] = 2 * centre[last] - centre[last:]
    return _rendered(case, replace(stage, centre=centre))


def _teleport(case: Case) -> Tensor | None:
    """Somebody is elsewhere for a few frames, in the open."""
    index = _bystander(case)
    if case.ask != "prompt" or index is None:
        return None
    azimuth, first = case.clip.scene.camera.azimuth, case.shape.num_frames // 2
    frames = slice(first, first + _JUMP_FRAMES)
    for way in (_JUMP, -_JUMP):
        stage = _stage(case)
        centre = stage.centre.clone()
        centre[frames, index, :2] += way * torch.tensor([np.cos(azimuth), np.sin(azimuth)]).float()
        stage = replace(stage, centre=centre)
        seen = trace(stage, case.shape.height, case.shape.width)
        edge = seen.ids[frames, :, [0, -1]] == index + 1
        if seen.visibility[frames].min() > 0.9 and not edge.any():
            return _rendered(case, stage)
    return None


def _pass_through(case: Case) -> Tensor | None:
    if not case.clip.story.hits:
        return None
    who, whom = case.clip.story.hits[0]
    stage, scene = _stage(case), case.clip.scene
    centre, rotation = stage.centre.clone(), stage.rotation.clone()
    for index in (who, whom):
        alone = _stage(case, replace(scene, objects=(scene.objects[index],)))
        centre[:, index], rotation[:, index] = alone.centre[:, 0], alone.rotation[:, 0]
    return _rendered(case, replace(stage, centre=centre, rotation=rotation))


_PLANTS: dict[Defect, Callable[[Case], Tensor | None]] = {
    "wrong colour": _wrong_colour,
    "wrong count": _wrong_count,
    "vanished": _vanished,
    "lost behind the wall": _lost,
    "swapped behind the wall": _swapped,
    "frozen": _frozen,
    "reversed": _reversed,
    "teleport": _teleport,
    "shape change": _shape_change,
    "pass-through": _pass_through,
}


@dataclass(frozen=True)
class Planted:
    """Mean scores on one ability of the cases that a defect was planted in.

    Attributes:
        defect: which.
        ability: which.
        num: cases.
        real: mean score of the real videos.
        planted: of those with the defect.
    """

    defect: Defect
    ability: Ability
    num: int
    real: float
    planted: float


def defect_table(cases: Sequence[Case], defects: Sequence[Defect] = tuple(DEFECTS)) -> list[Planted]:
    """What every defect does to every ability that can be asked where it can be planted."""
    real: dict[int, Score] = {}
    rows = []
    for defect in defects:
        pairs: dict[Ability, list[tuple[float, float]]] = {}
        for case in cases:
            video = plant(case, defect)
            if video is None:
                continue
            if case.index not in real:
                real[case.index] = score_video(case.pixels, case)
            with_it, without = score_video(video, case).abilities, real[case.index].abilities
            for name in case.abilities:
                one, other = without[name], with_it[name]
                assert one is not None
                assert other is not None
                pairs.setdefault(name, []).append((one, other))
        means = {name: np.mean(each, axis=0) for name, each in pairs.items()}
        rows += [Planted(defect, name, len(pairs[name]), *map(float, mean)) for name, mean in means.items()]
    return rows
