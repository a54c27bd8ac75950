"""A video model on the world benchmark: its videos, its scores, and what bounds them from above and below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from genworld.eval.bootstrap import Interval, interval_of_mean
from genworld.eval.worldbench import ABILITIES, CRITERIA, WorldBench, shuffled
from genworld.eval.worldbench_cases import (
    FINGERPRINTS,
    Ability,
    Ask,
    Case,
    Suite,
    asks_for,
    cases,
    fingerprint,
)
from genworld.flow.guidance import GuidanceConfig
from genworld.flow.samplers import SamplerConfig
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.given import Given
from genworld.tasks.text_to_video import Request

BATCH = 8
SHORT = {
    "text": "text",
    "coherence": "3D",
    "consistency": "consistency",
    "permanence": "permanence",
    "interaction": "interaction",
    "reasoning": "reasoning",
}
_BEGINNINGS = ("first_frame", "head", "both_ends", "frames")  # of `GivenConfig`: patterns that show how a video begins
UNPROMPTED = ("consistency",)
"""Abilities that do not look at the prompt: shuffled prompts are no floor for them."""


def run_benchmark(
    generator: VideoGenerator,
    suite: Suite,
    num: int,
    seed: int = 0,
    settings: tuple[SamplerConfig, GuidanceConfig] | None = None,
    batch: int = BATCH,
) -> dict[str, Any]:
    """Make a video for each of the first `num` cases that a model can be asked, and score them.

    First frames and camera paths go to models that take them, at the shape that the run samples by default.

    Args:
        generator: the run.
        suite: see `cases`.
        num: videos.
        seed: of the first video's noise; the next ones have the next seeds.
        settings: sampler and guidance; the run's own by default.
        batch: videos made at a time.

    Returns:
        A dictionary that is ready for JSON, but for `sheet`: its `captions` and `columns` of videos are for a contact
        sheet (see `record`). `abilities` holds for each ability that was asked: `score` with its 95 % interval (`low`,
        `high`, and how `interval` was found), `num` of videos, `ceiling` (real renders), `ceiling_vae` (their
        reconstructions), `floor` (the same videos, prompts shuffled among them), and the same by criterion;
        `not_asked` gives reasons for the others.

    Raises:
        ValueError: an unknown suite, or a shape in which the truth could not be seen.
    """
    asks = asks_of(generator)
    chosen = cases(suite, num, generator.trained, asks)
    made = make_videos(generator, chosen, seed, settings or generator.settings(None, None), batch)
    return result_of(suite, chosen, made, reconstruct(generator, chosen, batch), asks) | {"seed": seed}


def asks_of(generator: VideoGenerator) -> tuple[Ask, ...]:
    """What a model takes beside a prompt: first frames, if it was trained with given ones, and camera paths."""
    weights = generator.task.config.given.weights
    frames = any(weights[name] > 0 for name in _BEGINNINGS)
    return ("prompt", *(("frames",) if frames else ()), *(("camera",) if generator.task.config.dit.camera else ()))


def make_videos(
    generator: VideoGenerator,
    cases: Sequence[Case],
    seed: int,
    settings: tuple[SamplerConfig, GuidanceConfig],
    batch: int = BATCH,
) -> list[Float[Tensor, "3 F H W"]]:
    """A video for each case; a model that takes camera paths is told where the camera is, wherever it stands too."""
    asks = asks_of(generator)
    requests = [
        Request(
            case.prompt,
            case.shape,
            seed + position,
            given=(Given(case.given),) if "frames" in asks and case.given.shape[1] else (),
            camera=case.camera if "camera" in asks else None,
        )
        for position, case in enumerate(cases)
    ]
    made: list[Tensor] = []
    for first in tqdm(range(0, len(requests), batch), desc="world benchmark", unit="batch"):
        made += [clip.pixels for clip in generator.sample(requests[first : first + batch], settings)]
    return made


@torch.no_grad()
def reconstruct(generator: VideoGenerator, cases: Sequence[Case], batch: int = BATCH) -> list[Float[Tensor, "3 F H W"]]:
    """The real videos through the run's VAE: as good as anything that it makes can be."""
    vae, parts = generator.task.vae, []
    for first in range(0, len(cases), batch):
        pixels = torch.stack([case.pixels for case in cases[first : first + batch]]).to(vae.latent_mean.device)
        parts += list(vae.to_pixels(vae.to_latents(pixels)).cpu())
    return parts


def result_of(
    suite: Suite,
    cases: Sequence[Case],
    made: Sequence[Float[Tensor, "3 F H W"]],
    again: Sequence[Float[Tensor, "3 F H W"]] | None,
    asks: Sequence[Ask],
) -> dict[str, Any]:
    """Scores of videos with all that bounds them; see `run_benchmark`.

    Args:
        suite: of the cases.
        cases: the questions.
        made: the answers.
        again: reconstructions of the real videos, if there are any.
        asks: what the model takes.
    """
    exchanged = [cases[i] for i in shuffled(cases)]
    rows = {
        "score": _rows(made, cases),
        "ceiling": _rows([case.pixels for case in cases], cases),
        "floor": _rows(made, exchanged),
    } | ({} if again is None else {"ceiling_vae": _rows(again, cases)})
    abilities: dict[str, Any] = {name: _ability(name, rows) for name in ABILITIES if f"world/{name}" in rows["score"]}
    return {
        "benchmark": "world",
        "suite": suite,
        "suite_sha256": FINGERPRINTS[suite],
        "cases_sha256": fingerprint(cases),
        "num": len(cases),
        "shape": str(cases[0].shape),
        "asks": list(asks),
        "abilities": abilities,
        "mean": {of: float(np.mean([each[of] for each in abilities.values()])) for of in rows},
        "not_asked": _not_asked(suite, abilities, asks),
        "videos": [
            {"index": case.index, "kind": case.kind, "prompt": case.prompt, "scores": _of_video(rows["score"], i)}
            for i, case in enumerate(cases)
        ],
        "sheet": {"captions": [case.prompt for case in cases], "columns": _columns(cases, made)},
    }


def record(result: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON takes of a result: all but the videos."""
    return {name: value for name, value in result.items() if name != "sheet"}


def line(result: Mapping[str, Any]) -> str:
    """A result in one line: `world[single, 24 videos]: text 0.83 (floor 0.12, ceiling 0.99) · …`."""
    parts = []
    for name, each in result["abilities"].items():
        floor = "" if name in UNPROMPTED else f"floor {each['floor']:.2f}, "
        parts.append(f"{SHORT[name]} {each['score']:.2f} ({floor}ceiling {each['ceiling']:.2f})")
    return f"world[{result['suite']}, {result['num']} videos]: {' · '.join(parts)}"


def _rows(videos: Sequence[Float[Tensor, "3 F H W"]], cases: Sequence[Case]) -> dict[str, Float[np.ndarray, " n"]]:
    bench = WorldBench()
    bench.update(videos, cases, range(len(cases)))
    # Of this process alone: the benchmark runs on one of several, and the others would be waited for in vain.
    return {name: column.double().numpy() for name, column in bench.table().items() if name != "position"}


def _ability(name: Ability, rows: Mapping[str, Mapping[str, Float[np.ndarray, " n"]]]) -> dict[str, Any]:
    key = f"world/{name}"
    known = rows["score"][key][np.isfinite(rows["score"][key])]
    interval = interval_of_mean(known)
    parts = {part: f"{key}/{part}" for part in CRITERIA[name]}
    criteria = {
        part: {of: float(np.nanmean(table[path])) for of, table in rows.items() if path in table}
        | {"num": int(np.isfinite(rows["score"][path]).sum())}
        for part, path in parts.items()
        if path in rows["score"]
    }
    scores = {of: float(np.nanmean(table[key])) for of, table in rows.items()}
    interval = interval_of_mean(known) or Interval(0.0, 1.0, "all that is possible: a single video")
    ends = {"low": interval.low, "high": interval.high, "interval": interval.method}
    return scores | ends | {"num": len(known), "criteria": criteria}


def _of_video(table: Mapping[str, Float[np.ndarray, " n"]], index: int) -> dict[str, float]:
    found = {name.removeprefix("world/"): float(column[index]) for name, column in table.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _not_asked(suite: Suite, abilities: Mapping[str, object], asks: Sequence[Ask]) -> dict[str, str]:
    words: dict[Ask, str] = {"prompt": "a prompt", "frames": "first frames", "camera": "a camera path"}
    reasons: dict[str, str] = {}
    for name in ABILITIES:
        if name in abilities:
            continue
        needs = sorted(asks_for(suite, name))
        missing = [words[need] for need in needs if need not in asks]
        if missing:
            reasons[name] = f"the model does not take {' or '.join(missing)}"
        else:
            reasons[name] = "too few videos to reach such a case" if needs else f"suite {suite!r} has no such case"
    return reasons


def _columns(cases: Sequence[Case], made: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    return {"real": [case.pixels for case in cases], "made": list(made)}
