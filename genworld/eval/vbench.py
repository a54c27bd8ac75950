"""VBench (Huang et al. 2024): which videos it wants, and its Quality, Semantic and Total from its result files.

VBench itself pins old libraries and cannot be installed beside genworld: videos go there, results come back. Ranges and
weights are those of its repository (`scripts/constant.py`), the prompt suites those of `prompts/prompts_per_dimension`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PER_PROMPT, PER_FLICKERING_PROMPT = 5, 25
"""Videos of each prompt; temporal flickering wants more, since it leaves out those that move."""
FLICKERING = "temporal_flickering"
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4, 1
_MOST_BYTES = 255  # of a file's name, on all common systems
_FORBIDDEN = set("/\0")


@dataclass(frozen=True)
class Dimension:
    """One of the sixteen.

    Attributes:
        low: raw value that counts as 0.
        high: raw value that counts as 1.
        quality: whether it belongs to Quality; else to Semantic.
        weight: within the two.
        suite: file of its prompts, without .txt.
    """

    low: float
    high: float
    quality: bool
    weight: float
    suite: str


DIMENSIONS: Mapping[str, Dimension] = {
    "subject_consistency": Dimension(0.1462, 1.0, True, 1.0, "subject_consistency"),
    "background_consistency": Dimension(0.2615, 1.0, True, 1.0, "scene"),
    "temporal_flickering": Dimension(0.6293, 1.0, True, 1.0, "temporal_flickering"),
    "motion_smoothness": Dimension(0.706, 0.9975, True, 1.0, "subject_consistency"),
    "dynamic_degree": Dimension(0.0, 1.0, True, 0.5, "subject_consistency"),
    "aesthetic_quality": Dimension(0.0, 1.0, True, 1.0, "overall_consistency"),
    "imaging_quality": Dimension(0.0, 1.0, True, 1.0, "overall_consistency"),
    "object_class": Dimension(0.0, 1.0, False, 1.0, "object_class"),
    "multiple_objects": Dimension(0.0, 1.0, False, 1.0, "multiple_objects"),
    "human_action": Dimension(0.0, 1.0, False, 1.0, "human_action"),
    "color": Dimension(0.0, 1.0, False, 1.0, "color"),
    "spatial_relationship": Dimension(0.0, 1.0, False, 1.0, "spatial_relationship"),
    "scene": Dimension(0.0, 0.8222, False, 1.0, "scene"),
    "appearance_style": Dimension(0.0009, 0.2855, False, 1.0, "appearance_style"),
    "temporal_style": Dimension(0.0, 0.364, False, 1.0, "temporal_style"),
    "overall_consistency": Dimension(0.0, 0.364, False, 1.0, "overall_consistency"),
}


# ---- videos ----


@dataclass(frozen=True)
class Wanted:
    """A video that VBench wants: `name` is its file, exactly."""

    prompt: str
    index: int

    @property
    def name(self) -> str:
        """`PROMPT-INDEX.mp4`."""
        return f"{self.prompt}-{self.index}.mp4"


def read_prompts(path: Path) -> dict[str, int]:
    """How many videos each prompt needs, in order.

    Args:
        path: a text file, one prompt a line (of `temporal_flickering.txt` each needs 25 videos); a folder of such files
            as VBench has them; or its `VBench_full_info.json`.

    Raises:
        ValueError: there are no prompts, or a line is one that no file can be named after.
    """
    if path.is_dir():
        files = [
            file for file in sorted(path.glob("*.txt")) if file.stem in {each.suite for each in DIMENSIONS.values()}
        ]
        if not files:
            raise ValueError(f"{path}: expected prompt files such as {FLICKERING}.txt in this folder, found none")
        suites = [(file.stem, _lines(file)) for file in files]
    elif path.suffix == ".json":
        suites = _full_info(path)
    else:
        suites = [(path.stem, _lines(path))]
    counts: dict[str, int] = {}
    for suite, prompts in suites:
        num = PER_FLICKERING_PROMPT if suite == FLICKERING else PER_PROMPT
        for prompt in prompts:
            check_name(Wanted(prompt, num - 1), f"{path} ({suite})")
            counts[prompt] = max(counts.get(prompt, 0), num)
    if not counts:
        raise ValueError(f"{path}: no prompts in it")
    return counts


def videos_of(counts: Mapping[str, int]) -> list[Wanted]:
    """Every video of the prompts."""
    return [Wanted(prompt, index) for prompt, num in counts.items() for index in range(num)]


def check_name(wanted: Wanted, where: str) -> None:
    """Refuse a prompt that no file can be named after: VBench finds videos by that name alone, so none may be changed.

    Raises:
        ValueError: it is empty, has a character that no file name can have, or is too long.
    """
    name, prompt = wanted.name, wanted.prompt
    bad = sorted(_FORBIDDEN & set(prompt)) + [each for each in prompt if ord(each) < 32]
    if not prompt.strip() or bad:
        what = f"holds {bad[0]!r}" if bad else "is empty"
        raise ValueError(f"{where}: the prompt {prompt!r} {what}, so that no file can be named after it")
    if len(name.encode()) > _MOST_BYTES:
        raise ValueError(
            f"{where}: the prompt {prompt[:40]!r}… makes a file name of {len(name.encode())} bytes, and systems take "
            f"{_MOST_BYTES}: VBench finds videos by their whole prompt, so it must be shorter"
        )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file of prompts; VBench has them in prompts/prompts_per_dimension")
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


def _full_info(path: Path) -> list[tuple[str, list[str]]]:
    rows = _json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "prompt_en" in row for row in rows):
        raise ValueError(f"{path}: expected VBench_full_info.json, a list of entries with prompt_en and dimension")
    return [
        (FLICKERING if FLICKERING in row.get("dimension", ()) else "", [str(row["prompt_en"]).strip()]) for row in rows
    ]


# ---- scores ----


@dataclass(frozen=True)
class VBenchScores:
    """What VBench's table shows, each in [0, 1]; its tables print them times 100."""

    raw: dict[str, float]
    normalised: dict[str, float]
    quality: float
    semantic: float
    total: float


def read_results(paths: Sequence[Path]) -> dict[str, float]:
    """The raw value of every dimension in `*_eval_results.json` files, or in folders of them.

    Raises:
        ValueError: a file is not such a one, a dimension is unknown or has two different values, or a value is none.
    """
    files = [
        file for path in paths for file in (sorted(path.glob("**/*_eval_results.json")) if path.is_dir() else [path])
    ]
    if not files:
        raise ValueError(f"no *_eval_results.json in {', '.join(map(str, paths))}")
    found: dict[str, tuple[float, Path]] = {}
    for file in files:
        for key, value in _results(file).items():
            name = key.replace(" ", "_")
            if name not in DIMENSIONS:
                raise ValueError(f"{file}: {key!r} is no dimension of VBench: expected {', '.join(DIMENSIONS)}")
            number = _number(value, f"{file}: {key}")
            if name in found and found[name][0] != number:
                raise ValueError(f"{name} is {found[name][0]} in {found[name][1]} and {number} in {file}: keep one run")
            found[name] = (number, file)
    return {name: number for name, (number, _) in found.items()}


def vbench_scores(raw: Mapping[str, float]) -> VBenchScores:
    """Quality, Semantic and Total: `(x - low) / (high - low)`, weighted means of these, and (4 Quality + Semantic) / 5.

    Raises:
        ValueError: a dimension is missing (VBench's own script would count it as 0) or unknown, or a value is not one
            that VBench can give.
    """
    if missing := [name for name in DIMENSIONS if name not in raw]:
        raise ValueError(
            f"the scores need all 16 dimensions; missing are {', '.join(missing)}: run VBench on them (its own script "
            "would count them as 0)"
        )
    if unknown := sorted(set(raw) - set(DIMENSIONS)):
        raise ValueError(f"unknown dimensions {', '.join(unknown)}: expected {', '.join(DIMENSIONS)}")
    for name, value in raw.items():
        _check_range(name, value)
    normalised = {name: (raw[name] - each.low) / (each.high - each.low) for name, each in DIMENSIONS.items()}

    def mean(quality: bool) -> float:
        chosen = {name: each.weight for name, each in DIMENSIONS.items() if each.quality == quality}
        return sum(weight * normalised[name] for name, weight in chosen.items()) / sum(chosen.values())

    quality, semantic = mean(True), mean(False)
    total = (QUALITY_WEIGHT * quality + SEMANTIC_WEIGHT * semantic) / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    return VBenchScores(dict(raw), normalised, quality, semantic, total)


def _check_range(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= 1):
        hint = ": some versions of VBench give it in 0 … 100: divide it by 100" if 1 < value <= 100 else ""
        raise ValueError(f"{name} is {value}, expected was a number in [0, 1]{hint}")


def _results(file: Path) -> dict[str, Any]:
    record = _json(file)
    if not isinstance(record, dict):
        raise ValueError(f"{file}: expected a *_eval_results.json of VBench, an object by dimension")
    return record


def _number(value: Any, where: str) -> float:
    """VBench writes `[mean, [one entry for each video]]`."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, bool) or not isinstance(first, int | float):
        raise ValueError(f"{where}: expected [mean, results of each video], got {str(value)[:60]}")
    return float(first)


def _json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
