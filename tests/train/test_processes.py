"""Several processes on the CPU; each test starts real ones."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_training import SEED, VALIDATION, FakeLoader, FakeTask
from safetensors.torch import load_file

from genworld.train.checkpoint import latest_checkpoint
from genworld.train.log import read_losses
from genworld.train.trainer import TrainConfig, Trainer

PROGRAM = Path(__file__).parent / "fake_training.py"
ROOT = Path(__file__).parents[2]


def start(run, size, *options, **train):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(PROGRAM), str(run), "--train", json.dumps({"steps": 8, **train}), *options]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    world = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
    }
    ranks = [{"RANK": str(r), "LOCAL_RANK": str(r), **world} if size > 1 else {} for r in range(size)]
    return [
        subprocess.Popen(command, env={**common, **rank}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in ranks
    ]


def launch(run, size, *options, code=0, **train):
    processes = start(run, size, *options, **train)
    try:
        outputs = [process.communicate(timeout=90)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [code] * size, "\n".join(outputs)


def values(run):
    rows = read_losses(run / "log/losses.csv")
    return [value for _, name, value in rows if "loss" in name or "norm" in name or "critic" in name]


def assert_same_weights(one, other):
    for name in ("weights/net", "ema/net", "optimizer"):
        ours, theirs = (load_file(latest_checkpoint(run) / f"{name}.safetensors") for run in (one, other))
        assert ours.keys() == theirs.keys()
        for key, tensor in ours.items():
            assert (tensor - theirs[key]).abs().max() < 1e-6, key


def test_two_processes_equal_one_with_twice_the_accumulation(tmp_path):
    launch(tmp_path / "two", 2, validate_every=4)
    config = TrainConfig(steps=8, validate_every=4, log_every=1, device="cpu", precision="fp32", threads=1)
    Trainer(FakeTask(), config, FakeLoader(2), tmp_path / "one", SEED, VALIDATION).fit()
    assert values(tmp_path / "two") == pytest.approx(values(tmp_path / "one"), rel=1e-6, abs=1e-7)
    assert_same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_elastic_and_sharded_resume_from_one_another(tmp_path):
    """One process, then two, then two with sharded weights (and accumulation), then one again."""
    common = {"save_every": 2, "validate_every": 2}
    packs = ("--packs-per-step", "4")
    launch(tmp_path / "one", 1, *packs, **common)
    launch(tmp_path / "mix", 1, *packs, "--signal-at", "2", code=143, **common)
    launch(tmp_path / "mix", 2, *packs, "--signal-at", "4", "--resume", code=143, **common)
    launch(tmp_path / "mix", 2, *packs, "--signal-at", "6", "--resume", "--shard", code=143, **common)
    launch(tmp_path / "mix", 1, *packs, "--resume", **common)
    assert values(tmp_path / "mix") == pytest.approx(values(tmp_path / "one"), rel=1e-6, abs=1e-6)
    assert_same_weights(tmp_path / "one", tmp_path / "mix")


@pytest.mark.slow
def test_a_bad_sample_on_one_rank_skips_the_step_on_all(tmp_path):
    launch(tmp_path / "two", 2, "--bad-steps", "[1, 5]")
    launch(tmp_path / "one", 1, "--bad-steps", "[1, 5]")
    assert json.loads((tmp_path / "two/result2.json").read_text())["skipped"] == 2
    positions = json.loads((tmp_path / "two/log/skipped/step_00000001.json").read_text())["positions"]
    assert [part["rank"] for part in positions] == [0, 1]
    assert_same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_kill_minus_nine_at_any_time(tmp_path):
    launch(tmp_path / "whole", 1, steps=60, save_every=1)
    run = tmp_path / "killed"
    for attempt in range(4):
        before = set(run.glob("checkpoints/step_*"))
        (process,) = start(run, 1, *(["--resume"] if before else []), steps=60, save_every=1)
        while process.poll() is None and not set(run.glob("checkpoints/step_*")) - before:
            time.sleep(0.001)
        time.sleep(0.02 + 0.007 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    launch(run, 1, "--resume", steps=60, save_every=1)
    assert_same_weights(tmp_path / "whole", run)
    assert values(tmp_path / "whole") == values(run)
