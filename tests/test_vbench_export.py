"""The export for VBench: exact names, a seed for each, resumed where it stopped, never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_generator import tiny_generator

from genworld.data.readers import open_reader
from genworld.pipelines import vbench_export
from genworld.pipelines.vbench_export import SEEDS_FILE, export

COUNTS = {"a red ball, “left”": 2, "a blue cube": 1}


def test_names_seeds_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vbench_export, "run_record", lambda run: {"run": str(run)})
    generator = tiny_generator("task.sample={size: [32, 32], frames: 5, sampler: {num_steps: 1}}")
    settings, out = generator.settings(None, None), tmp_path / "videos"
    assert export(generator, Path("run"), COUNTS, out, settings) == (0, 3)
    names = ["a red ball, “left”-0.mp4", "a red ball, “left”-1.mp4", "a blue cube-0.mp4"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, SEEDS_FILE])
    seeds = json.loads((out / SEEDS_FILE).read_text("utf-8"))["seeds"]
    assert list(seeds) == names
    assert len(set(seeds.values())) == 3
    with open_reader(out / names[0]) as reader:
        assert reader.info.num_frames == 5

    kept = (out / names[2]).read_bytes()
    lost = (out / names[1]).read_bytes()
    (out / names[1]).unlink()
    assert export(generator, Path("run"), COUNTS, out, settings) == (2, 1)
    assert (out / names[1]).read_bytes() == lost, "the same seed makes the same video"
    assert (out / names[2]).read_bytes() == kept
    with pytest.raises(ValueError, match="made with another seed"):
        export(generator, Path("run"), COUNTS, out, settings, seed=1)
    (out / SEEDS_FILE).unlink()
    with pytest.raises(ValueError, match="nothing says how they were made"):
        export(generator, Path("run"), COUNTS, out, settings)
