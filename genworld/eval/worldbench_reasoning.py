"""Reasoning beyond what is seen: what a video shows after its given frames, against what must happen.

The truth is the real render, read by the same detectors, so that what they get wrong is wrong on both sides. Every
error is measured in parts of the error of a video that stands still after the given frames, which scores 0.

What is shown for at least half of the time is judged by the frames that show it: that it should not vanish is a matter
of consistency. What is shown for less did not do what it must.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from genworld.eval.palette import bounces
from genworld.eval.tracking import Thing
from genworld.eval.worldbench_cases import Case
from genworld.eval.worldbench_reading import BLINK, Reading, closeness, read_video, weakest
from genworld.eval.worldbench_scores import Criteria

_NAMES = ("still", "way", "end", "lands", "rebounds", "first", "comes_out")
_LOST = 0.15  # shorter sides that a frame counts in which something is missing, or is to be hidden and is not
_MOVES = 0.04  # shorter sides


def reasoning_criteria(reading: Reading) -> Criteria:
    """Whether what must happen after the given frames does; each criterion is that of the object that does worst.

    - `still`: what rests goes on resting;
    - `way`: what slides or rolls is where it must be, frame by frame;
    - `end`: and comes to rest where it must;
    - `lands`: what hangs in the air falls, and lands where and when it must;
    - `rebounds`: and comes up again;
    - `first`: of two that fall, the right one lands first;
    - `comes_out`: what the wall hides comes out when it must.
    """
    truth, case = real_reading(reading.case), reading.case
    found: list[Criteria] = []
    landed: list[tuple[int | None, int | None]] = []
    for index, wanted in enumerate(case.objects):
        real, made = truth.of_colour(wanted.colour), reading.of_colour(wanted.colour)
        if real is None:
            continue
        if case.clip.story.acts[index] == "bounce":
            criteria, times = _falls(case, real, made)
            landed.append(times)
        else:
            criteria = _slides(case, real, made)
        if index in case.clip.story.passages:
            criteria["comes_out"] = _comes_out(case, real, made)
        found.append(criteria)
    result = {name: weakest([part.get(name) for part in found]) for name in _NAMES}
    if len(landed) > 1:
        result["first"] = _order(landed)
    return result


@lru_cache(maxsize=16)
def real_reading(case: Case) -> Reading:
    """What the detectors see in the real video of a case."""
    return read_video(case.pixels, case)


def _slides(case: Case, real: Thing, made: Thing | None) -> Criteria:
    after = np.arange(len(real.present)) >= case.num_given
    start = real.centres[np.flatnonzero(real.present[: case.num_given])[-1]]
    errors = _errors(real, made)
    frozen = np.linalg.norm(real.centres - start, axis=1)
    if frozen[after & real.present].max() < _MOVES:
        return {"still": closeness(float(errors[_judged(after, made)].mean()), 0.02, 0.08)}
    judged = _judged(after & real.present, made)
    last = np.flatnonzero(judged)[-3:]
    way, end = float(frozen[judged].mean()), float(frozen[last].mean())
    return {
        "way": closeness(float(errors[judged].mean()), 0.012 + 0.08 * way, max(0.03, 0.75 * way)),
        "end": closeness(float(errors[last].mean()), 0.012 + 0.1 * end, max(0.03, 0.65 * end)),
    }


def _judged(frames: Bool[np.ndarray, " F"], made: Thing | None) -> Bool[np.ndarray, " F"]:
    """Those of some frames that show a thing, if they are half of them; else all."""
    shown = frames & (False if made is None else made.present)
    return shown if 2 * shown.sum() >= frames.sum() else frames


def _errors(real: Thing, made: Thing | None) -> Float[np.ndarray, " F"]:
    """Distance of the centres; `_LOST` where only one of the two is seen."""
    if made is None:
        return np.where(real.present, _LOST, 0.0)
    apart = np.linalg.norm(real.centres - made.centres, axis=1)
    return np.where(real.present & made.present, apart, np.where(real.present != made.present, _LOST, 0.0))


def _falls(case: Case, real: Thing, made: Thing | None) -> tuple[Criteria, tuple[int | None, int | None]]:
    truth = _landing(real, real)
    assert truth is not None, "a case whose real object does not land is not clear"
    when = None if made is None else _landing(made, real)
    if made is None or when is None:
        return {"lands": 0.0, "rebounds": 0.0}, (truth, None)
    off = np.linalg.norm(made.centres[when] - real.centres[truth])
    drop = float(real.centres[truth, 1] - real.centres[0, 1])
    late = abs(when - truth) / case.shape.fps
    until = np.flatnonzero(made.present)[-1] + 1
    return {
        "lands": min(closeness(float(off), 0.2 * drop, 0.8 * drop), closeness(late, 0.15, 0.4)),
        # As far as it can be seen at all: low ones are lost between two frames.
        "rebounds": float(bounces(_filled(made)[:, 1])) if bounces(_filled(real)[:until, 1]) else None,
    }, (truth, when)


def _landing(thing: Thing, real: Thing) -> int | None:
    """The frame of the first turn from down to up near the real floor; None where it does not come there."""
    y, target = _filled(thing)[:, 1], float(np.nanmax(real.centres[:, 1]))
    high = target - 0.35 * (target - float(real.centres[0, 1]))
    low = [i for i in range(1, len(y) - 1) if y[i] >= y[i - 1] and y[i] > y[i + 1] and y[i] > high]
    return low[0] if low else None


def _order(landed: list[tuple[int | None, int | None]]) -> float:
    (real_a, a), (real_b, b) = landed[:2]
    if a is None or b is None or real_a is None or real_b is None:
        return 0.0
    return float((a - b) * (real_a - real_b) > 0)


def _comes_out(case: Case, real: Thing, made: Thing | None) -> float:
    truth = _reappearance(real.present)
    when = None if made is None else _reappearance(made.present)
    if truth is None or when is None:
        return 0.0
    return closeness(abs(when - truth) / case.shape.fps, 0.26, 0.7)


def _reappearance(present: Bool[np.ndarray, " F"]) -> int | None:
    """The first frame of a stretch that follows an absence."""
    back = [i for i in range(1, len(present)) if present[i] and not present[i - 1] and present[:i].any()]
    return back[-1] if back else None


def _filled(thing: Thing) -> Float[np.ndarray, "F 2"]:
    seen = np.flatnonzero(thing.present)
    frames = np.arange(len(thing.present))
    assert len(seen) >= BLINK, "a thing is seen in two frames at least"
    return np.stack([np.interp(frames, seen, thing.centres[seen, i]) for i in range(2)], axis=1)
