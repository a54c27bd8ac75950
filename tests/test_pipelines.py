"""Precomputed latents train like pixels, the judge judges, and results say where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genworld.experiment import load_experiment, train
from genworld.pipelines.command import provenance, run_command
from genworld.pipelines.judge import judge, summarise
from genworld.pipelines.precompute import precompute
from genworld.types import ClipShape
from genworld.world import WorldConfig, sample_clip

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "configs" / "smoke" / "text_to_video.yaml"
SHORT = [
    "train.threads=1",
    "train.steps=3",
    "train.save_every=0",
    "train.validate_every=0",
    "data.validation=0",
    "data.packing.random_start=false",
    "data.packing.shapes=[{size: [32, 32], frames: 5, fps: 8}]",
]


def losses(run: Path) -> list[float]:
    rows = [line.split(",") for line in (run / "log" / "losses.csv").read_text().splitlines()]
    return [float(value) for _, name, value in rows[1:] if name == "train/loss"]


def test_training_on_shards_equals_training_on_pixels(tmp_path: Path) -> None:
    settings = [*SHORT, "train.log_every=1"]
    train(load_experiment(SMOKE, [*settings, f"run={tmp_path / 'pixels'}"]))
    vae = f"task.vae={{kind: run, path: {tmp_path / 'pixels' / 'vae'}}}"
    experiment = load_experiment(SMOKE, [*settings, vae])
    assert precompute(experiment, tmp_path / "latents") == 32
    assert precompute(experiment, tmp_path / "latents") == 0  # all done
    data = f"data={{kind: shards, path: {tmp_path / 'latents'}, packing: {{tokens_per_pack: 64, packs_per_step: 2}}}}"
    plain = [item for item in settings if not item.startswith("data.")]
    train(load_experiment(SMOKE, [*plain, vae, data, f"run={tmp_path / 'shards'}"]))
    assert len(losses(tmp_path / "pixels")) == 3
    assert losses(tmp_path / "shards") == pytest.approx(losses(tmp_path / "pixels"), rel=1e-4)


def test_precompute_wants_latents() -> None:
    with pytest.raises(ValueError, match="only 'text_to_video' can be precomputed"):
        precompute(load_experiment(ROOT / "configs" / "smoke" / "vae.yaml"), Path("unused"))


def test_the_judge_tells_right_from_wrong() -> None:
    config = WorldConfig(
        max_objects=1, sizes=("large",), cameras=("stand",), occluders=0.0, caption_styles=("sentence",)
    )
    clips = [sample_clip(seed, config, ClipShape(17, 64, 64, 8.0)).clip for seed in range(8)]
    texts, pixels = [clip.text for clip in clips], [clip.pixels for clip in clips]
    right = summarise(judge(texts, pixels))
    assert right["colour"] == 1.0
    assert right["motion"] >= 0.85
    wrong = summarise(judge(texts, [torch.flip(x, [0]) for x in pixels]))  # red for blue
    assert wrong["colour"] <= 0.5
    assert summarise(judge(texts, [torch.zeros_like(x) for x in pixels])) == {"colour": 0, "motion": 0, "all": 0}


def test_provenance_names_what_is_needed_to_repeat() -> None:
    assert {"command", "genworld", "commit", "torch", "machine", "date"} <= provenance().keys()


def test_only_the_users_mistakes_are_one_line(capsys: pytest.CaptureFixture) -> None:
    def user() -> int:
        raise ValueError("expected\n  this")

    def ours() -> int:
        raise KeyError("bug")

    assert run_command(user) == 2
    assert capsys.readouterr().err == "error: expected this\n"
    with pytest.raises(KeyError):
        run_command(ours)
