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
from genworld.pipelines.tally import SHOWN, gather
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.given import Given
from genworld.tasks.text_to_video import Request
from genworld.train.runtime import World

BATCH = 8
ALONE = World(0, 1, torch.device("cpu"))
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
    world: World = ALONE,
) -> dict[str, Any]:
    """Make a video for each of the first `num` cases that a model can be asked, and score them.

    First frames and camera paths go to models that take them, at the shape that the run samples by default. Videos are
    made and judged batch by batch, and shared among the processes, each of which has to call this and gets the same.

    Args:
        generator: the run.
        suite: see `cases`.
        num: videos.
        seed: of the first video's noise; the next ones have the next seeds.
        settings: sampler and guidance; the run's own by default.
        batch: videos made at a time.
        world: which process this is.

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
    court = Court(suite, cases(suite, num, generator.trained, asks), asks, world.device)
    settings = settings or generator.settings(None, None)
    mine = range(num)[world.rank :: world.size]
    for first in tqdm(range(0, len(mine), batch), "world benchmark", unit="batch", disable=world.rank > 0):
        positions = mine[first : first + batch]
        part = [court.cases[i].afresh() for i in positions]
        made = make_videos(generator, part, [seed + i for i in positions], settings)
        court.judge(positions, part, made, reconstruct(generator, part))
    return court.result() | {"seed": seed}


def asks_of(generator: VideoGenerator) -> tuple[Ask, ...]:
    """What a model takes beside a prompt: first frames, if it was trained with given ones, and camera paths."""
    weights = generator.task.config.given.weights
    frames = any(weights[name] > 0 for name in _BEGINNINGS)
    return ("prompt", *(("frames",) if frames else ()), *(("camera",) if generator.task.config.dit.camera else ()))


def make_videos(
    generator: VideoGenerator,
    cases: Sequence[Case],
    seeds: Sequence[int],
    settings: tuple[SamplerConfig, GuidanceConfig],
) -> list[Float[Tensor, "3 F H W"]]:
    """A video for each case; a model that takes camera paths is told where the camera is, wherever it stands too."""
    asks = asks_of(generator)
    requests = [
        Request(
            case.prompt,
            case.shape,
            seed,
            given=(Given(case.given),) if "frames" in asks and case.given.shape[1] else (),
            camera=case.camera if "camera" in asks else None,
        )
        for case, seed in zip(cases, seeds, strict=True)
    ]
    return [clip.pixels for clip in generator.sample(requests, settings)]


@torch.no_grad()
def reconstruct(generator: VideoGenerator, cases: Sequence[Case]) -> list[Float[Tensor, "3 F H W"]]:
    """The real videos through the run's VAE: as good as anything that it makes can be."""
    vae = generator.task.vae
    pixels = torch.stack([case.pixels for case in cases]).to(vae.latent_mean.device)
    return list(vae.to_pixels(vae.to_latents(pixels)).cpu())


class Court:
    """Scores of videos with all that bounds them; videos pass, and only the first few are kept, for the sheet.

    Attributes:
        cases: the questions.
    """

    def __init__(
        self, suite: Suite, cases: Sequence[Case], asks: Sequence[Ask], device: torch.device | str = "cpu"
    ) -> None:
        self.suite, self.cases, self.asks = suite, cases, asks
        self._exchanged = shuffled(cases)
        self._benches = {name: WorldBench().to(device) for name in ("score", "ceiling", "floor", "ceiling_vae")}
        self._shown: dict[int, dict[str, Tensor]] = {}

    def judge(
        self,
        positions: Sequence[int],
        cases: Sequence[Case],
        made: Sequence[Float[Tensor, "3 F H W"]],
        again: Sequence[Float[Tensor, "3 F H W"]] | None = None,
    ) -> None:
        """Score a few videos.

        Args:
            positions: of their cases.
            cases: these; whatever they compute goes when they go.
            made: the answers.
            again: reconstructions of the real videos, if there are any.
        """
        real, others = [case.pixels for case in cases], [self.cases[self._exchanged[i]].afresh() for i in positions]
        self._benches["score"].update(made, cases, positions)
        self._benches["ceiling"].update(real, cases, positions)
        self._benches["floor"].update(made, others, positions)
        if again is not None:
            self._benches["ceiling_vae"].update(again, cases, positions)
        for position, truth, answer in zip(positions, real, made, strict=True):
            if position < SHOWN:
                self._shown[position] = {"real": truth, "made": answer}

    def result(self) -> dict[str, Any]:
        """All that has been found; see `run_benchmark`. Every process has to call it."""
        rows = {name: _rows(bench) for name, bench in self._benches.items()}
        rows = {name: table for name, table in rows.items() if table}
        shown = dict(sorted(item for part in gather(self._shown) for item in part.items()))
        abilities: dict[str, Any] = {
            name: _ability(name, rows) for name in ABILITIES if f"world/{name}" in rows["score"]
        }
        return {
            "benchmark": "world",
            "suite": self.suite,
            "suite_sha256": FINGERPRINTS[self.suite],
            "cases_sha256": fingerprint(self.cases),
            "num": len(self.cases),
            "shape": str(self.cases[0].shape),
            "asks": list(self.asks),
            "abilities": abilities,
            "mean": {of: float(np.mean([each[of] for each in abilities.values()])) for of in rows},
            "not_asked": _not_asked(self.suite, abilities, self.asks),
            "videos": [
                {"index": each.index, "kind": each.kind, "prompt": each.prompt, "scores": _of_video(rows["score"], i)}
                for i, each in enumerate(case.afresh() for case in self.cases)
            ],
            "sheet": {
                "captions": [self.cases[i].afresh().prompt for i in shown],
                "columns": {name: [videos[name] for videos in shown.values()] for name in ("real", "made")},
            },
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


def _rows(bench: WorldBench) -> dict[str, Float[np.ndarray, " n"]]:
    """Of all processes; nothing where none has judged a video."""
    if not any(gather(len(bench.rows) > 0)):
        return {}
    return {name: column.double().cpu().numpy() for name, column in bench.per_video().items() if name != "position"}


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
