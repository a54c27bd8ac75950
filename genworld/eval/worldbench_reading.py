"""What a video shows, read for a case of the world benchmark: things, their shapes, who they are, where they stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.eval.palette import bounces, is_rough
from genworld.eval.shape_recogniser import ShapeRecogniser, packaged_recogniser, shape_evidence
from genworld.eval.tracking import Thing, find_things, find_wall, hidden_frames, shrunk
from genworld.eval.worldbench_cases import Case
from genworld.eval.worldbench_scenes import EARLIEST
from genworld.world.objects import SHAPES, WorldObject
from genworld.world.story import Act

SHOWN = 0.25  # part of the frames that something has to be seen in to count as shown
BLINK = 2  # frames: what is seen in fewer is not looked at
STILL, APPROACH = 0.3, 0.2  # metres: less is not called a movement; one that ends in a collision
TREMBLE = 0.025  # shorter sides: less cannot be told from rest
_AT_ONCE = 0.1  # part of its way that what moves of itself has gone by the time at which others may be struck
_USUAL_HEIGHT = 0.6  # metres of a centre above the floor, of what nobody asked for
# Height of the middle of what is seen of a shape, in half heights, for what is not 1; found where it puts real renders
# within 6 cm on the floor, of up to 1.2 m without.
_MIDDLES = {"cone": 0.48, "sphere": 1.05}
_FARTHEST = 30.0  # metres: rays that meet the floor beyond say nothing


@dataclass(frozen=True)
class Reading:
    """A video as the detectors see it.

    Attributes:
        case: the question that it answers.
        things: everything coloured that is there for two frames or more.
        evidence: log probabilities of `SHAPES` for each thing in each frame; NaN where absent.
        wall: pixels of the wall; None where there is none.
    """

    case: Case
    things: tuple[Thing, ...]
    evidence: tuple[Float[np.ndarray, "F shapes"], ...]
    wall: Bool[np.ndarray, "H W"] | None

    @cached_property
    def shown(self) -> list[Thing]:
        """Things that are there for a good part of the time in which the wall does not hide them."""
        return [
            thing for thing in self.things if thing.present.sum() >= SHOWN * (~hidden_frames(thing, self.wall)).sum()
        ]

    def of_colour(self, colour: str) -> Thing | None:
        """The thing of a colour, if it is shown."""
        return next((thing for thing in self.shown if thing.colour == colour), None)

    @cached_property
    def matches(self) -> list[Thing | None]:
        """Who plays each object of the case: the thing of its colour, or else the likest that is left.

        So something of a wrong colour can still be seen to roll, to bounce and to hit.
        """
        from scipy.optimize import linear_sum_assignment

        found = [self.of_colour(thing.colour) for thing in self.case.objects]
        free = [thing for thing in self.shown if not any(thing is taken for taken in found)]
        open_roles = [index for index, thing in enumerate(found) if thing is None]
        unlike = [[self._unlike(index, thing) for thing in free] for index in open_roles]
        if free and open_roles:
            for role, actor in zip(*linear_sum_assignment(np.array(unlike)), strict=True):
                found[open_roles[role]] = free[actor]
        return found

    def _unlike(self, index: int, thing: Thing) -> float:
        """How little a thing of another colour looks and does like an object of the case."""
        story, wanted = self.case.clip.story, self.case.objects[index]
        pushed = story.acts[index] == "pushed"
        # A push may be short: as long a way as that of one that comes to strike counts.
        does = self.acts_of(thing, wanted, until=len(thing.present) - 1 if pushed else None)
        passes = bool(hidden_frames(thing, self.wall).any())
        return (
            float(self.shape_of(thing) != wanted.shape)
            + 1.5 * float((story.acts[index] != "stay") != (does not in ("stay", None)))
            + 0.5 * float(not pushed and does != story.acts[index])
            + 1.5 * float(pushed != self._starts_late(thing))
            + 2.0 * float((index in story.passages) != passes)
        )

    def _starts_late(self, thing: Thing) -> bool:
        """Whether it moves, but rests until the time at which it might be struck at the earliest."""
        seen = np.flatnonzero(thing.present)
        gone = np.linalg.norm(thing.centres[seen] - thing.centres[seen[0]], axis=1)
        before = gone[seen <= EARLIEST * self.case.shape.fps]
        return bool(gone[-1] > TREMBLE and before.max(initial=0.0) < _AT_ONCE * gone[-1])

    def shape_of(self, thing: Thing) -> str:
        """The shape that most of the frames show that tell it."""
        return self._vote(thing, self.telling(thing))

    def shapes_of(self, thing: Thing) -> set[str]:
        """The shape that it has by most frames before the wall hides it, and the one after: the same in a good video.

        Whether they are the same is a question of permanence and consistency; a prompt only says what is to be seen.
        """
        # Each side by its own largest area: what comes out may be larger than what went in.
        tells = [self.telling(thing), *(self.telling(thing, side) for side in self.sides(thing))]
        return {self._vote(thing, use) for use in tells if use.any()}

    def sides(self, thing: Thing) -> list[Bool[np.ndarray, " F"]]:
        """The frames before the wall hides a thing, and those after; all, if it does not."""
        hidden, frames = np.flatnonzero(hidden_frames(thing, self.wall)), np.arange(len(thing.present))
        return [frames < hidden[0], frames > hidden[-1]] if len(hidden) else [frames >= 0]

    def _vote(self, thing: Thing, use: Bool[np.ndarray, " F"]) -> str:
        table = self.table_of(thing)[use]
        votes = np.bincount(table.argmax(1), minlength=len(SHAPES))
        return SHAPES[int(np.where(votes == votes.max(), table.mean(0), -np.inf).argmax())]

    def table_of(self, thing: Thing) -> Float[np.ndarray, "F shapes"]:
        """Its row of `evidence`."""
        return next(table for other, table in zip(self.things, self.evidence, strict=True) if other is thing)

    def telling(self, thing: Thing, among: Bool[np.ndarray, " F"] | None = None) -> Bool[np.ndarray, " F"]:
        """Frames that tell its shape: those that show nearly all of it, or else those uncut, or else all it is in.

        Args:
            thing: one of `things`.
            among: of these frames alone.
        """
        present = thing.present if among is None else thing.present & among
        options = present & ~thing.cut & ~shrunk(thing, among), present & ~thing.cut
        return next((use for use in options if use.sum() >= BLINK), present)

    def floor_places(self, thing: Thing, wanted: WorldObject | None = None) -> Float[np.ndarray, "F 3"]:
        """Where its centre is if it stands on the floor: metres, world axes; NaN where absent or beyond the horizon."""
        height = _USUAL_HEIGHT if wanted is None else wanted.half_height * _MIDDLES.get(wanted.shape, 1.0)
        poses, inverse = self.case.camera.world_from_camera.double().numpy(), _inverse_intrinsics(self.case)
        side = min(self.case.shape.height, self.case.shape.width)
        pixels = np.concatenate([thing.centres * side, np.ones((len(poses), 1))], axis=1)
        rays = np.einsum("fij,fj->fi", poses[:, :3, :3], pixels @ inverse.T)
        with np.errstate(all="ignore"):
            along = (height - poses[:, 2, 3]) / rays[:, 2]
        along = np.where((along > 0) & (along < _FARTHEST), along, np.nan)
        return poses[:, :3, 3] + rays * along[:, None]

    def plan(self, thing: Thing, wanted: WorldObject | None = None) -> Float[np.ndarray, "F 2"]:
        """`floor_places` in metres to the right of and away from the camera of the first frame."""
        pose = self.case.camera.world_from_camera[0].double().numpy()
        ahead = pose[:2, 2] / np.linalg.norm(pose[:2, 2])
        return self.floor_places(thing, wanted)[:, :2] @ np.stack([pose[:2, 0], ahead], axis=1)

    def acts_of(self, thing: Thing, wanted: WorldObject | None = None, until: int | None = None) -> Act | None:
        """What a thing does, in the words of captions; None when it moves as nothing in the world does.

        Args:
            thing: one of `things`.
            wanted: whose height above the floor it has.
            until: the frame at which its way of itself ends, such as a collision.
        """
        seen = np.flatnonzero(thing.present)
        last = len(thing.present) if until is None else until + 1
        x, y = (np.interp(np.arange(len(thing.present)), seen, thing.centres[seen, i]) for i in range(2))
        if is_rough(x) or is_rough(y):
            return None
        if bounces(y):
            return "bounce"
        if self.wall is not None and hidden_frames(thing, self.wall)[-1]:
            # What is lost behind the wall went there, however near it was; of what is half covered no way can be seen.
            return "right" if x[0] < np.flatnonzero(self.wall.any(0)).mean() / min(self.wall.shape) else "left"
        way = self.plan(thing, wanted)[:last]
        way = way[np.isfinite(way).all(1)]
        if len(way) < BLINK:
            return None
        few = BLINK if len(way) > 3 * BLINK else 1  # of a short way every frame counts
        step = way[-few:].mean(0) - way[:few].mean(0)
        shift = math.hypot(x[:last][-1] - x[0], y[:last][-1] - y[0])
        if math.hypot(*step) < (STILL if until is None else APPROACH) or shift < TREMBLE:
            return "stay"
        names: tuple[Act, ...] = ("right", "away", "left", "towards")
        return names[round(math.atan2(step[1], step[0]) / (math.pi / 2)) % 4]


def read_video(pixels: Float[Tensor, "3 F H W"], case: Case, recogniser: ShapeRecogniser | None = None) -> Reading:
    """Find what a video shows.

    Args:
        pixels: in [-1, 1], of the case's shape.
        case: the question that it answers.
        recogniser: of shapes; the packaged one by default.

    Raises:
        ValueError: another number of frames, or another size.
    """
    frames, height, width, _ = case.shape
    if tuple(pixels.shape) != (3, frames, height, width):
        raise ValueError(
            f"case {case.index} of the world benchmark asks for a video of shape {[3, frames, height, width]}, got "
            f"{list(pixels.shape)}"
        )
    pixels = torch.nan_to_num(pixels.detach().float().cpu(), 0.0, 0.0, 0.0).clamp(-1, 1)
    walled = case.wall is not None
    wall = case.wall if case.num_given else find_wall(pixels) if walled else None
    things = [thing for thing in find_things(pixels, wall) if thing.present.sum() >= BLINK]
    evidence = shape_evidence(recogniser or packaged_recogniser(), pixels, things)
    return Reading(case, tuple(things), tuple(evidence), wall)


def closeness(error: float, free: float, zero: float) -> float:
    """1 up to an error of `free`, 0 from `zero` on, a straight line between; 0 for what is not a number."""
    if not math.isfinite(error):
        return 0.0
    return min(1.0, max(0.0, (zero - error) / (zero - free)))


def weakest(values: Sequence[float | None]) -> float | None:
    """The lowest of those there are."""
    return min((value for value in values if value is not None), default=None)


def _inverse_intrinsics(case: Case) -> Float[np.ndarray, "3 3"]:
    return np.linalg.inv(case.camera.intrinsics.double().numpy())
