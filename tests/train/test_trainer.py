import json
import logging
import signal
from pathlib import Path

import pytest
import torch
from fake_training import SEED, VALIDATION, FakeLoader, FakeTask

from genworld.ops.random import seed_of
from genworld.train.checkpoint import CheckpointError, latest_checkpoint, load_network, read_state
from genworld.train.ema import EMA
from genworld.train.log import read_losses
from genworld.train.optim import OptimConfig, ParameterRule, ScheduleConfig
from genworld.train.state import DivergedError, changed_keys
from genworld.train.trainer import TrainConfig, Trainer

FILES = ("optimizer", "weights/net", "weights/critic", "ema/net", "ema/critic")


def config(**changes):
    defaults = {
        "steps": 20,
        "save_every": 5,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "optim": OptimConfig(learning_rate=1e-2),
        "schedule": ScheduleConfig(kind="cosine", warmup_steps=4),
    }
    return TrainConfig(**{**defaults, **changes})


def trainer(run, settings=None, loader=None, task=None, validation=()):
    return Trainer(task or FakeTask(), settings or config(), loader or FakeLoader(2), run, SEED, validation, "a: 1\n")


def same_files(one: Path, other: Path):
    return [
        name
        for name in FILES
        if (one / f"{name}.safetensors").read_bytes() != (other / f"{name}.safetensors").read_bytes()
    ]


def test_stop_and_resume_equals_never_stopping_bit_for_bit(tmp_path):
    whole = trainer(tmp_path / "whole").fit()
    assert whole.status == "finished"
    assert whole.exit_code == 0

    task = FakeTask()
    task.vocabulary = "words"
    stopped = trainer(tmp_path / "parts", loader=FakeLoader(2, signal_at=8), task=task).fit()
    assert (stopped.status, stopped.exit_code, stopped.step) == ("stopped", 143, 8)
    elapsed = read_state(stopped.checkpoint)["elapsed"]
    task = FakeTask()
    resumed = trainer(tmp_path / "parts", task=task).fit(resume=True)
    assert task.vocabulary == "words"
    assert resumed.step == 20
    assert resumed.seconds > elapsed > 0
    assert same_files(whole.checkpoint, resumed.checkpoint) == []
    assert (tmp_path / "whole/log/losses.csv").read_bytes() == (tmp_path / "parts/log/losses.csv").read_bytes()
    assert (tmp_path / "parts/log/losses.png").stat().st_size > 1000


def test_rows_logged_after_the_resumed_checkpoint_are_taken_back(tmp_path):
    whole = trainer(tmp_path / "whole").fit()
    killed = trainer(tmp_path / "parts")
    killed._save = lambda: (
        (_ for _ in ()).throw(KeyboardInterrupt) if killed.state.step == 15 else Trainer._save(killed)
    )
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    resumed = trainer(tmp_path / "parts").fit(resume=True)
    assert same_files(whole.checkpoint, resumed.checkpoint) == []
    assert (tmp_path / "whole/log/losses.csv").read_bytes() == (tmp_path / "parts/log/losses.csv").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_signals_save_and_say_so(tmp_path, number):
    before = signal.getsignal(number)
    result = trainer(tmp_path / "run", loader=FakeLoader(2, signal_at=2, number=number)).fit()
    assert result.exit_code == 128 + number
    assert latest_checkpoint(tmp_path / "run") == result.checkpoint
    assert signal.getsignal(number) is before


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, caplog):
    whole = trainer(tmp_path / "run").fit()
    kept = {name: (whole.checkpoint / f"{name}.safetensors").read_bytes() for name in FILES}
    file = whole.checkpoint / "weights/net.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        resumed = trainer(tmp_path / "run").fit(resume=True)
    assert "weights/net.safetensors was altered" in caplog.text
    assert {name: (resumed.checkpoint / f"{name}.safetensors").read_bytes() for name in FILES} == kept
    names = sorted(path.name for path in resumed.checkpoint.parent.iterdir())
    assert names == ["damaged_step_00000020", "step_00000015", "step_00000020"]


def test_a_non_finite_step_never_reaches_the_optimiser(tmp_path):
    result = trainer(tmp_path / "run", config(steps=4), task=FakeTask(bad_steps=(2,))).fit()
    assert result.skipped == 1
    clean = trainer(tmp_path / "clean", config(steps=2, schedule=ScheduleConfig()), task=FakeTask()).fit()
    bad = trainer(tmp_path / "bad", config(steps=3, schedule=ScheduleConfig()), task=FakeTask(bad_steps=(2,))).fit()
    assert same_files(clean.checkpoint, bad.checkpoint) == []
    record = json.loads((tmp_path / "run/log/skipped/step_00000002.json").read_text())
    assert record["loss"] == "nan"
    assert record["positions"][0]["packs"][0] == [16, 17, 18]


def test_diverging_is_given_up(tmp_path):
    run = trainer(tmp_path, config(max_skipped=3), task=FakeTask(bad_steps=range(6, 20)))
    with pytest.raises(DivergedError, match="3 steps in a row"):
        run.fit()
    assert latest_checkpoint(tmp_path).name == "step_00000005"


def test_a_run_is_never_overwritten_nor_resumed_from_nothing(tmp_path):
    with pytest.raises(ValueError, match="without --resume"):
        trainer(tmp_path).fit(resume=True)
    trainer(tmp_path, config(steps=1)).fit()
    with pytest.raises(ValueError, match="--resume"):
        trainer(tmp_path).fit()
    other_seed = Trainer(FakeTask(), config(), FakeLoader(2), tmp_path, SEED + 1)
    with pytest.raises(ValueError, match="seed"):
        other_seed.fit(resume=True)


def test_validation_and_previews_use_averages_and_disturb_nothing(tmp_path):
    plain = trainer(tmp_path / "plain", config(steps=6)).fit()
    settings = config(steps=6, validate_every=2, preview_every=3)
    watched = trainer(tmp_path / "watched", settings, validation=VALIDATION).fit()
    assert same_files(plain.checkpoint, watched.checkpoint) == []
    rows = read_losses(tmp_path / "watched/log/losses.csv")
    assert [step for step, name, _ in rows if name == "validation/loss"] == [2, 4, 6]

    task = FakeTask().eval()
    load_network(watched.checkpoint, "net", task.net)
    load_network(watched.checkpoint, "critic", task.critic)
    drawn = json.loads((tmp_path / "watched/previews/step_00000006/mean.txt").read_text())
    assert drawn == task.net.out.bias.tolist()
    validated = {name: value for step, name, value in rows if step == 6}["validation/loss"]
    with torch.no_grad():
        total = sum(task(pack, seed_of(SEED, "validation"), 6).loss.item() for pack in VALIDATION)
    assert validated == pytest.approx(total / sum(map(task.units, VALIDATION)), rel=1e-6)


def test_a_finished_run_that_is_resumed_validates_no_second_time(tmp_path):
    settings = config(steps=3, validate_every=2)
    trainer(tmp_path, settings, validation=VALIDATION).fit()
    table = (tmp_path / "log/losses.csv").read_bytes()
    result = trainer(tmp_path, settings, validation=VALIDATION).fit(resume=True)
    assert (result.status, result.step) == ("finished", 3)
    assert (tmp_path / "log/losses.csv").read_bytes() == table
    assert b"3,validation/loss" in table
    kept = [line for line in table.splitlines(keepends=True) if not line.startswith(b"3,validation")]
    (tmp_path / "log/losses.csv").write_bytes(b"".join(kept))  # as if it had died before
    trainer(tmp_path, settings, validation=VALIDATION).fit(resume=True)
    assert sorted((tmp_path / "log/losses.csv").read_bytes().splitlines()) == sorted(table.splitlines())


def test_averages_reach_a_weight_that_stops_changing():
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    ema = EMA({"net": net}, decay=0.9)
    with torch.no_grad():
        net.weight.fill_(1.0)
    gaps = []
    for count in range(100, 200):
        ema.update(count)
        gaps.append(1 - ema.state("net")["weight"].item())
    assert gaps[9] == pytest.approx(0.9**10, rel=1e-3)
    assert gaps[-1] < 1e-4


def test_changed_keys_name_what_differs():
    old = {"name": "a", "train": {"max_seconds": 2400, "optim": {"betas": [0.9, 0.99]}}, "gone": 1}
    new = {"name": "a", "train": {"max_seconds": 6600, "optim": {"betas": [0.9, 0.95]}}, "init": None}
    assert changed_keys(old, new) == [
        "train.max_seconds: 2400 -> 6600",
        "train.optim.betas: [0.9, 0.99] -> [0.9, 0.95]",
        "gone: 1 -> None",
    ]
    assert changed_keys(new, new) == []


def test_time_ends_a_run_and_its_schedule(tmp_path):
    result = trainer(tmp_path, config(steps=10**6, max_seconds=0.4, save_every=0)).fit()
    assert result.status == "finished"
    rates = [value for _, name, value in read_losses(tmp_path / "log/losses.csv") if name == "learning_rate"]
    assert rates[-1] < 0.3 * max(rates)
    assert read_state(result.checkpoint)["elapsed"] >= 0.4


def test_frozen_parameters_stay_and_settings_that_cannot_be_honoured_raise(tmp_path):
    rules = (ParameterRule(match="net.conv.*", frozen=True),)
    result = trainer(tmp_path / "a", config(steps=3, optim=OptimConfig(rules=rules))).fit()
    task = FakeTask()
    start = task.net.conv.weight.clone()
    load_network(result.checkpoint, "net", task.net, ema=False)
    assert torch.equal(task.net.conv.weight, start)
    with pytest.raises(CheckpointError, match="unexpected"):
        load_network(result.checkpoint, "net", torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="cannot be compiled"):
        trainer(tmp_path / "b", config(compile=True)).fit()
    with pytest.raises(ValueError, match="validate_every"):
        trainer(tmp_path / "c", config(validate_every=1))
    with pytest.raises(ValueError, match="keep"):
        config(keep=1)


def test_bfloat16_trains_after_float32_in_one_process(tmp_path):
    result = trainer(tmp_path, config(steps=2, precision="bf16")).fit()
    assert read_state(result.checkpoint)["precision"] == "bf16"
