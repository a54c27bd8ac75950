"""Text understanding and object consistency: what a video of the world shows, against its prompt and against itself.

Every function gives readable criteria by name, each in [0, 1]; one that does not apply is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from genworld.eval.palette import is_rough
from genworld.eval.tracking import Thing, gaps_of, hidden_frames, shrunk
from genworld.eval.worldbench_reading import BLINK, Reading, closeness, weakest
from genworld.eval.worldbench_scenes import HALF

Criteria = dict[str, float | None]

_CLOSEST = 0.1  # metres above the shortest distance that still count as it
TOUCH = 0.06  # shorter sides between two patches that may be in contact
_SPEED, _FALL_SPEED = 3.2, 7.5  # m/s that things of the world reach across the picture and up or down it
_TREMBLE = 0.12  # metres that a centre may be off
_COVERED = 4  # frames that something may be hidden by a thing that passes


# ---- text understanding ----


def text_criteria(reading: Reading) -> Criteria:
    """Whether a video shows what its prompt says.

    - `colours`: colours that are asked for and shown, among all that are asked for or shown;
    - `shapes`: objects asked for that are shown in their colour and shape, among the same;
    - `count`: as many things as are asked for;
    - `motions`: motion words that hold, among those that the prompt has;
    - `relations`: "hits" and "passes behind", among those that the prompt has.
    """
    asked, shown = reading.case.objects, reading.shown
    number = sum(_copies(thing) for thing in shown)
    named = [reading.of_colour(wanted.colour) for wanted in asked]
    found = [thing for thing in named if thing is not None]
    right = [thing for thing, wanted in zip(named, asked, strict=True) if thing and _is(reading, thing, wanted.shape)]
    union = len(asked) + number - len(found)
    return {
        "colours": len(found) / union,
        "shapes": len(right) / union,
        "count": float(number == len(asked)),
        "motions": _part(_motions(reading)),
        "relations": _part(_relations(reading)),
    }


def _is(reading: Reading, thing: Thing, shape: str) -> bool:
    return shape in reading.shapes_of(thing)


def _copies(thing: Thing) -> int:
    """How many things of one colour there are: patches that stand apart for a good part of the time."""
    return max(1, int(np.quantile(thing.parts[thing.present], 0.7)))


def _part(answers: list[bool]) -> float | None:
    return sum(answers) / len(answers) if answers else None


def _motions(reading: Reading) -> list[bool]:
    """Whether each motion word holds. Terse captions have no word for what stays; being hit is a relation."""
    story, terse = reading.case.clip.story, reading.case.clip.scene.caption_style == "terse"
    hitters = dict(reversed(story.hits))
    answers = []
    for index, wanted in enumerate(reading.case.objects):
        act = story.acts[index]
        if act in ("pushed", "unclear") or (act == "stay" and terse):
            continue
        thing = reading.of_colour(wanted.colour)
        until = contact_frame(reading, index, hitters[index]) if index in hitters else None
        answers.append(thing is not None and reading.acts_of(thing, wanted, until) == act)
    return answers


def _relations(reading: Reading) -> list[bool]:
    story, asked = reading.case.clip.story, reading.case.objects
    answers = []
    for who, whom in story.hits:
        both = [reading.of_colour(asked[index].colour) for index in (who, whom)]
        answers.append(None not in both and contact_frame(reading, who, whom) is not None)
    if reading.case.clip.scene.caption_style == "detailed":
        for who in story.passages:
            thing = reading.of_colour(asked[who].colour)
            answers.append(thing is not None and bool(hidden_frames(thing, reading.wall).any()))
    return answers


def contact_frame(reading: Reading, who: int, whom: int) -> int | None:
    """The first frame in which two objects of a case are about as near on the floor as they get; None if not near."""
    first, second = reading.matches[who], reading.matches[whom]
    if first is None or second is None:
        return None
    apart = np.linalg.norm(
        reading.plan(first, reading.case.objects[who]) - reading.plan(second, reading.case.objects[whom]), axis=1
    )
    if not np.isfinite(apart).any():
        return None
    when = int(np.flatnonzero(apart <= np.nanmin(apart) + _CLOSEST)[0])
    return when if _gap(first.masks[when], second.masks[when]) <= TOUCH else None


def _gap(first: Bool[np.ndarray, "H W"], second: Bool[np.ndarray, "H W"]) -> float:
    """The shortest way between two patches in shorter sides; infinite where one is empty."""
    from scipy.ndimage import distance_transform_edt

    if not first.any() or not second.any():
        return float("inf")
    return float((distance_transform_edt(~first)[second].min() - 1) / min(first.shape))


# ---- object consistency ----


def consistency_criteria(reading: Reading) -> Criteria:
    """Whether everything that is shown stays what it is; each criterion is that of the thing that does worst.

    - `stays`: nothing appears, vanishes or flickers in the open;
    - `one`: nothing falls into pieces;
    - `colour`: no hue drifts, and nothing turns into something of another colour;
    - `shape`: no part of the time shows another shape than the rest;
    - `size`: the apparent size is that of one object at the distance where it stands;
    - `path`: nothing jumps.
    """
    things = reading.things
    if not reading.shown:
        return dict.fromkeys(("stays", "one", "colour", "shape", "size", "path"), 0.0)
    return {
        "stays": weakest([_stays(reading, thing) for thing in things]),
        "one": weakest([closeness(float((thing.parts[thing.present] > 1).mean()), 0.13, 0.5) for thing in things]),
        "colour": weakest([_keeps_colour(reading, thing) for thing in things]),
        "shape": weakest([_keeps_shape(reading, thing) for thing in reading.shown]),
        "size": weakest([_keeps_size(reading, thing) for thing in reading.shown]),
        "path": weakest([_keeps_path(reading, thing) for thing in reading.shown]),
    }


def _unexplained(reading: Reading, thing: Thing) -> list[tuple[int, int]]:
    """Stretches in which a thing is absent though nothing hides it and it has not left the picture."""
    behind, count = hidden_frames(thing, reading.wall), len(thing.present)
    found = []
    for begin, end in gaps_of(thing.present):
        sides = [frame for frame in (begin - 1, end) if 0 <= frame < count]
        left = any(thing.cut[frame] for frame in sides)
        part = shrunk(thing)
        covered = end - begin <= _COVERED and any(thing.near[frame] and part[frame] for frame in sides)
        if not (left or covered or behind[begin]):
            found.append((begin, end))
    return found


def _stays(reading: Reading, thing: Thing) -> float:
    missing = sum(end - begin for begin, end in _unexplained(reading, thing))
    return closeness(missing / len(thing.present), 0.06, 0.35)


def _keeps_colour(reading: Reading, thing: Thing) -> float:
    hue = thing.hue[thing.whole if thing.whole.sum() >= BLINK else thing.present]
    middle = np.angle(np.exp(1j * hue).mean())
    drift = np.abs(np.angle(np.exp(1j * (hue - middle))))
    turned = any(_turns_into(reading, thing, other) for other in reading.things if other is not thing)
    return 0.0 if turned else closeness(float(np.quantile(drift, 0.9)), 0.14, 0.4)


def _turns_into(reading: Reading, thing: Thing, other: Thing) -> bool:
    """Whether a thing ends in the open where, at the same time, another begins."""
    ends = [begin for begin, _ in _unexplained(reading, thing) if begin > 0]
    starts = [end for _, end in _unexplained(reading, other) if end < len(other.present)]
    return any(
        abs(end - start) <= 1 and np.linalg.norm(thing.centres[end - 1] - other.centres[start]) < 2 * TOUCH
        for end in ends
        for start in starts
    )


def _keeps_shape(reading: Reading, thing: Thing) -> float:
    """How much any third of the frames prefers another shape to the one that is likeliest over all.

    Of what passes behind the wall it is not thirds but the frames before and those after: there it may change unseen.
    Frames that others cover most of it in tell nothing: what is left of a cylinder above a cube may look like a ring.
    """
    seen = thing.present & ~_mostly_covered(reading, thing)
    uncut = seen & ~thing.cut
    frames = np.flatnonzero(next((use for use in (uncut, seen) if use.sum() >= BLINK), thing.present))
    sides = [side for side in (frames[side[frames]] for side in reading.sides(thing)) if len(side)]
    thirds = [part for side in sides for part in np.array_split(side, min(3 // len(sides), len(side) // BLINK) or 1)]
    parts = [third[thing.whole[third]] if thing.whole[third].any() else third for third in thirds]
    return closeness(shape_doubt(reading, thing, parts), 0.4, 1.6)


def _mostly_covered(reading: Reading, thing: Thing) -> Bool[np.ndarray, " F"]:
    """Frames that show, next to others, less than about half of what the fullest on the same side of the wall does."""
    little = np.zeros(len(thing.present), dtype=bool)
    for side in reading.sides(thing):
        little |= side & thing.near & (thing.areas < HALF * thing.areas[side].max(initial=0.0))
    return little


def shape_doubt(reading: Reading, thing: Thing, parts: Sequence[np.ndarray]) -> float:
    """The most that one of several parts of the frames prefers another shape to the one of all of them, in nats."""
    table = reading.table_of(thing)
    own = int(table[np.concatenate(parts)].mean(0).argmax())
    means = [table[part].mean(0) for part in parts]
    return max(float(mean.max() - mean[own]) for mean in means)


def _keeps_size(reading: Reading, thing: Thing) -> float | None:
    """Spread of the logarithm of size times distance; the distance is that of the floor, or, in a fall, the same."""
    whole = thing.whole
    if whole.sum() < 2 * BLINK:
        return None
    places, poses = reading.floor_places(thing), reading.case.camera.world_from_camera.double().numpy()
    depth = np.einsum("fi,fi->f", places - poses[:, :3, 3], poses[:, :3, 2])[whole]
    size = np.log(thing.areas[whole]) / 2
    options = [size] if not np.isfinite(depth).all() else [size, size + np.log(np.maximum(depth, 0.1))]
    return closeness(min(_spread(values) for values in options), 0.2, 0.55)


def _spread(values: Float[np.ndarray, " n"]) -> float:
    """Range after single odd frames are taken out."""
    middle = [np.median(values[max(0, i - 1) : i + 2]) for i in range(len(values))]
    return float(np.ptp(middle))


def _keeps_path(reading: Reading, thing: Thing) -> float:
    """The largest step, against what speeds of the world allow; 0 where frames say little about the next ones."""
    case, seen = reading.case, np.flatnonzero(thing.present)
    if len(seen) < 2 or (len(seen) > 3 * BLINK and any(is_rough(thing.centres[seen, i]) for i in range(2))):
        return 0.0
    metres = metres_per_side(reading, thing)
    # How far a middle shifts of which a part is not seen; next to others, that may be a small one.
    part, size = shrunk(thing) | thing.cut, metres * np.sqrt(thing.areas.max())
    cover = size * np.where(part, 0.5, np.where(thing.whole, 0.0, 0.1))
    worst = 1.0
    for before, after in pairwise(seen):
        step = np.abs(thing.centres[after] - thing.centres[before]) * metres
        limits = np.array([_SPEED, _FALL_SPEED]) * (after - before) / case.shape.fps + _TREMBLE
        limits += max(cover[before], cover[after])
        worst = min(worst, *(closeness(way, limit, 1.5 * limit) for way, limit in zip(step, limits, strict=True)))
    return float(worst)


def metres_per_side(reading: Reading, thing: Thing) -> float:
    """How much of the world a shorter side of the picture spans where a thing is."""
    places, poses = reading.floor_places(thing), reading.case.camera.world_from_camera.double().numpy()
    depth = np.einsum("fi,fi->f", places - poses[:, :3, 3], poses[:, :3, 2])
    usual = float(reading.case.clip.scene.camera.distance)
    middle = float(np.nanmedian(depth)) if np.isfinite(depth).any() else usual
    focal = float(reading.case.camera.intrinsics[0, 0]) / min(reading.case.shape.height, reading.case.shape.width)
    return min(middle, 2 * usual) / focal
