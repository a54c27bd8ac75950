"""Every config decodes and dry-runs; the smoke configs train, resume and sample; bad input is a one-line error."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_weights import save_weights

from genworld.experiment import build_task, load_experiment, load_run, token_grid, train
from genworld.pipelines.describe import describe
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.text_to_video import TextToVideo
from genworld.train.checkpoint import latest_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SMOKE = ROOT / "configs" / "smoke" / "text_to_video.yaml"
FOLDER = ["train.py", "--config", str(ROOT / "configs" / "video" / "folder.yaml")]
ONE_THREAD = "train.threads=1"  # the tests share the cores already


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smoke config, four steps long."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    result = train(load_experiment(SMOKE, [f"run={folder}", "train.steps=4", "train.save_every=2", ONE_THREAD]))
    assert result.status == "finished"
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks where configs have public ones."""
    return save_weights(tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_every_config_decodes_and_dry_runs(
    path: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "weights").symlink_to(weights)
    monkeypatch.chdir(tmp_path)  # where no run has left a VAE
    experiment = load_experiment(path)
    text = describe(experiment)
    assert experiment.name in text
    assert "parameters" in text
    assert "TFLOP" in text


def test_vae_smoke_config_trains(tmp_path: Path) -> None:
    path = ROOT / "configs" / "smoke" / "vae.yaml"
    result = train(load_experiment(path, [f"run={tmp_path}", "train.steps=2", "train.save_every=0", ONE_THREAD]))
    assert result.status == "finished"
    assert (tmp_path / "losses.csv").is_file() or list(tmp_path.rglob("losses.csv"))


def test_a_run_is_complete(run: Path) -> None:
    experiment, task = load_run(run)
    assert isinstance(task, TextToVideo)
    assert experiment.folder == run
    assert {path.name for path in latest_checkpoint(run).iterdir()} >= {"weights", "ema", "manifest.json"}


def test_the_kept_vae_is_the_one_trained_on(run: Path) -> None:
    """The linear VAE was fitted to data when training began: the run must bring it along."""
    _, task = load_run(run)
    assert isinstance(task, TextToVideo)
    fresh = build_task(load_experiment(SMOKE, [f"run={run}"]))  # a new run does not take what an old one left
    assert isinstance(fresh, TextToVideo)
    pixels = torch.zeros(1, 3, 1, 32, 32)
    assert not torch.equal(task.vae.to_latents(pixels), fresh.vae.to_latents(pixels))


def test_one_prompt_and_seed_do_not_depend_on_the_batch(run: Path) -> None:
    generator = VideoGenerator.from_run(run, "cpu")
    together = generator(["a red ball", "a blue cube slides to the left"], num=2, seed=5)
    alone = generator("a blue cube slides to the left", seed=6)
    assert len(together) == 4
    torch.testing.assert_close(together[3].pixels, alone[0].pixels, atol=1e-4, rtol=0)
    assert not torch.allclose(together[2].pixels, together[3].pixels)


def test_sampling_takes_any_shape(run: Path) -> None:
    generator = VideoGenerator.from_run(run, "cpu")
    (clip,) = generator("a red ball", frames=1, size=(48, 32))
    assert clip.pixels.shape == (3, 1, 48, 32)
    (clip,) = generator("a red ball", frames=13, size=(32, 64), fps=4)
    assert clip.pixels.shape == (3, 13, 32, 64)
    assert clip.fps == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (0, 64)}, "at least 1 frame, 1x1 pixels"),
        ({"frames": 0}, "at least 1 frame"),
        ({"prompt": "word " * 200}, "max_tokens"),
    ],
)
def test_bad_requests(run: Path, arguments: dict, message: str) -> None:
    generator = VideoGenerator.from_run(run, "cpu")
    with pytest.raises(ValueError, match=message):
        generator(**{"prompt": "a red ball", **arguments})


def test_resume_is_exact(tmp_path: Path) -> None:
    """Six steps are three, a new process's worth of building, and three more, bit for bit."""
    settings = ["train.save_every=3", "train.validate_every=0", ONE_THREAD]
    train(load_experiment(SMOKE, [f"run={tmp_path / 'a'}", "train.steps=6", *settings]))
    train(load_experiment(SMOKE, [f"run={tmp_path / 'b'}", "train.steps=3", "train.schedule.kind=constant", *settings]))
    train(load_experiment(SMOKE, [f"run={tmp_path / 'c'}", "train.steps=6", *settings, "train.schedule.kind=constant"]))
    train(
        load_experiment(SMOKE, [f"run={tmp_path / 'b'}", "train.steps=6", *settings, "train.schedule.kind=constant"]),
        resume=True,
    )
    _, whole = load_run(tmp_path / "c")
    _, halves = load_run(tmp_path / "b")
    for (name, a), (_, b) in zip(whole.state_dict().items(), halves.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_a_resumed_run_says_what_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = [f"run={tmp_path}", "train.save_every=0", "train.validate_every=0", ONE_THREAD]
    train(load_experiment(SMOKE, [*settings, "train.steps=1"]))
    with caplog.at_level(logging.INFO):
        train(load_experiment(SMOKE, [*settings, "train.steps=2", "train.keep=3"]), resume=True)
    changes = [record.getMessage() for record in caplog.records if record.getMessage().startswith("changed: ")]
    assert changes == ["changed: train.steps: 1 -> 2", "changed: train.keep: 2 -> 3"]


def other_run(path: Path, run: Path, *settings: str) -> list[str]:
    """Overrides for a run that starts from another one, on clips with other words."""
    vae = f"task.vae={{kind: run, path: {run / 'vae'}}}"
    words = ["data.offset=1000", "data.world.shapes=[torus]", "train.validate_every=0", "train.save_every=0"]
    return [f"run={path}", f"init={run}", vae, *words, ONE_THREAD, *settings]


def test_a_run_starts_from_another(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its weights, its VAE and its tokenizer, although the captions are others."""
    still = ["train.steps=1", "train.optim.learning_rate=0.0"]
    with caplog.at_level(logging.INFO):
        train(load_experiment(SMOKE, other_run(tmp_path / "a", run, *still)))
    assert f"starting from {run}; new: nothing" in caplog.text
    (_, before), (experiment, after) = load_run(run), load_run(tmp_path / "a")
    assert experiment.init == run
    assert after.assets() == before.assets()
    for (name, a), (_, b) in zip(before.state_dict().items(), after.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=name)


def test_what_cannot_start_a_run(run: Path, tmp_path: Path) -> None:
    cases = [
        (SMOKE, ["task.dit.width=32"], r"does not fit the new run: dit: .* has shape"),
        (SMOKE, ["task.dit.depth=3"], r"missing dit\.blocks\.2\."),
        (SMOKE, ["task.dit.depth=1"], r"dit: unexpected blocks\.1\."),
        (SMOKE, [f"init={tmp_path}"], "has no weights: train it first"),
    ]
    for path, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            train(load_experiment(path, other_run(tmp_path / "none", run, *settings)))
    with pytest.raises(ValueError, match="the latents of another VAE"):
        train(load_experiment(SMOKE, [f"run={tmp_path / 'none'}", f"init={run}", ONE_THREAD]))
    vae = ROOT / "configs" / "smoke" / "vae.yaml"
    with pytest.raises(ValueError, match="is a run of 'text_to_video', which cannot start one of 'autoencode'"):
        train(load_experiment(vae, [f"run={tmp_path / 'none'}", f"init={run}", ONE_THREAD]))


def test_a_run_keeps_a_foreign_vae(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    statistics = {"latents_mean": [0.5, -1, 0, 2], "latents_std": [1, 2, 3, 4]}
    wan = diffusers.AutoencoderKLWan(base_dim=4, z_dim=4, num_res_blocks=1, **statistics)
    wan.save_pretrained(tmp_path / "wan")
    shapes = "data.packing.shapes=[{size: [32, 32]}]"
    vae = f"task.vae={{kind: diffusers, path: {tmp_path / 'wan'}}}"
    settings = [f"run={tmp_path / 'run'}", vae, shapes, "train.steps=1", "train.validate_every=0", ONE_THREAD]
    train(load_experiment(SMOKE, settings))
    pixels = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    _, before = load_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "wan")
    _, after = load_run(tmp_path / "run")
    assert isinstance(before, TextToVideo)
    assert isinstance(after, TextToVideo)
    with torch.no_grad():
        assert torch.equal(before.vae.to_latents(pixels), after.vae.to_latents(pixels))


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    """A step is the same packs, whether two processes share them or one accumulates over them."""
    settings = ["train.steps=4", "train.log_every=1", "train.device=cpu", ONE_THREAD]
    words = ["train.py", "--config", str(SMOKE), *settings]
    assert command(*words, f"run={tmp_path / 'one'}").returncode == 0
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert command(*launch, *words, f"run={tmp_path / 'two'}").returncode == 0
    rows = [[row.split(",") for row in (tmp_path / n / "log/losses.csv").read_text().split()] for n in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) > 8
    for one, two in zip(*rows, strict=True):
        assert one[:2] == two[:2]
        if one[1].endswith("loss"):
            assert float(one[2]) == pytest.approx(float(two[2]), rel=1e-5)


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.py", "--config", str(SMOKE), "train.stepz=3"], "train.stepz: TrainConfig has no such field"),
        (["train.py", "--config", "configs/none.yaml"], "no such config file"),
        (["sample.py", "--run", "runs/none", "--prompt", "x"], "is not a run"),
        ([*FOLDER, "data.manifest=none.csv"], "none.csv"),
        ([*FOLDER, "data.manifest={empty}"], "empty.csv"),
        ([*FOLDER, "data.manifest={missing}"], "none of its 1 clips can be used"),
        ([*FOLDER, "data.manifest={broken}"], "broken.mp4"),
    ],
)
def test_commands_fail_with_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("path,text\n")
    (tmp_path / "missing.csv").write_text("path,text\nnowhere.mp4,a cat\n")
    (tmp_path / "broken.csv").write_text("path,text\nbroken.mp4,a cat\n")
    (tmp_path / "broken.mp4").write_bytes(b"this is no video" * 100)
    files = {name: str(tmp_path / f"{name}.csv") for name in ("empty", "missing", "broken")}
    result = command(*(word.format(**files) if word.startswith("data.manifest") else word for word in words))
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) == 1


def test_sample_command_writes_videos_and_records(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = command("sample.py", "--run", str(run), "--prompt", "a red ball", "--num", "2", "--out", str(out))
    assert result.returncode == 0, result.stderr
    videos, records = sorted(out.glob("*.mp4")), sorted(out.glob("*.json"))
    assert len(videos) == len(records) == 2
    record = json.loads(records[1].read_text())
    assert (record["prompt"], record["seed"], record["shape"]["fps"]) == ("a red ball", 1, 8.0)


def test_run_without_weights(run: Path, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text((run / "experiment.yaml").read_text())
    with pytest.raises(ValueError, match="has no weights: train it first"):
        load_run(tmp_path)


def test_token_grid_needs_no_weights() -> None:
    grid = token_grid(load_experiment(SMOKE))
    assert (grid.time_stride, grid.space_stride, grid.patch) == (4, 8, 2)
