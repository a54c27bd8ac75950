"""The videos that VBench wants, by its names and numbers, each with a seed of its own that is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from genworld.config import encode
from genworld.data.writer import write_video
from genworld.eval.vbench import videos_of
from genworld.flow.guidance import GuidanceConfig
from genworld.flow.samplers import SamplerConfig
from genworld.ops.random import seed_of
from genworld.pipelines.command import provenance
from genworld.pipelines.evaluation import run_record
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.text_to_video import Request

SEEDS_FILE = "seeds.json"


def export(
    generator: VideoGenerator,
    run: Path,
    counts: Mapping[str, int],
    folder: Path,
    settings: tuple[SamplerConfig, GuidanceConfig],
    seed: int = 0,
    batch: int = 8,
) -> tuple[int, int]:
    """Write PROMPT-INDEX.mp4 for each, and `SEEDS_FILE`; what is there is kept.

    Args:
        generator: the run.
        run: its folder, for the record.
        counts: videos of each prompt, see `read_prompts`.
        folder: of the videos.
        settings: of sampling.
        seed: from which the seed of each video is drawn.
        batch: videos at a time.

    Returns:
        How many were there, and how many were made.

    Raises:
        ValueError: the folder holds videos that were made otherwise.
    """
    wanted, shape = videos_of(counts), generator.trained
    seeds = {each.name: seed_of(seed, "vbench", each.prompt, each.index) for each in wanted}
    made_by = {**run_record(run), "seed": seed, "shape": list(shape), "settings": encode(list(settings))}
    _claim(folder, made_by, seeds)
    missing = [each for each in wanted if not (folder / each.name).is_file()]
    for first in tqdm(range(0, len(missing), batch), desc="sampling", unit="batch"):
        part = missing[first : first + batch]
        clips = generator.sample([Request(each.prompt, shape, seeds[each.name]) for each in part], settings)
        for each, clip in zip(part, clips, strict=True):
            write_video(folder / each.name, clip.pixels, clip.fps)
    return len(wanted) - len(missing), len(missing)


def _claim(folder: Path, made_by: dict[str, Any], seeds: dict[str, int]) -> None:
    """Write down how the videos of a folder are made, before the first; refuse a folder of others."""
    file = folder / SEEDS_FILE
    if file.is_file():
        old = json.loads(file.read_text("utf-8"))
        changed = [key for key, value in made_by.items() if old["made_by"].get(key) != json.loads(json.dumps(value))]
        if changed:
            raise ValueError(f"{folder} holds videos made with another {', '.join(changed)}: name another --out")
        seeds = old["seeds"] | seeds
    elif folder.is_dir() and any(folder.glob("*.mp4")):
        raise ValueError(
            f"{folder} holds videos but no {SEEDS_FILE}, so nothing says how they were made: name another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    record = {"made_by": made_by, "seeds": seeds, "provenance": provenance()}
    partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(file)
