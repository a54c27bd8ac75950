import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from genworld.train import checkpoint
from genworld.train.checkpoint import (
    CheckpointError,
    Contents,
    find_checkpoint,
    find_problems,
    init_networks,
    latest_checkpoint,
    load_network,
    read_assets,
    read_state,
    save_checkpoint,
)


def contents(step):
    tensors = {"weight": torch.full((3, 2), float(step)), "bias": torch.zeros(3)}
    return Contents(
        state={"step": step},
        assets={"words.txt": f"wörter {step}\n"},
        experiment="a: 1\n",
        tensors={"weights/net": lambda: tensors, "ema/net": lambda: tensors, "optimizer": lambda: tensors},
    )


def save(run, step, keep=2):
    return save_checkpoint(run, step, contents(step), keep=keep)


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_checkpoint_comes_back_and_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3):
        path = save(tmp_path, step)
    assert latest_checkpoint(tmp_path) == path
    assert names(tmp_path) == ["step_00000002", "step_00000003"]
    assert read_state(path) == {"step": 3}
    assert read_assets(path) == {"words.txt": "wörter 3\n"}
    net = nn.Linear(2, 3)
    load_network(path, "net", net)
    assert torch.equal(net.weight, torch.full((3, 2), 3.0))


def test_a_crash_at_any_write_leaves_what_was_complete(tmp_path, monkeypatch):
    """Die at the n-th system call that makes something durable, for every n, without a chance to clean up."""
    deaths = 0
    for n in range(1000):
        run = tmp_path / str(n)
        save(run, 1)
        save(run, 2)
        calls = iter(range(n))

        def dying(function, calls=calls):
            def call(*args, **kwargs):
                if next(calls, None) is None:
                    raise KeyboardInterrupt
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", dying(os.fsync))
            patch.setattr(checkpoint, "save_file", dying(checkpoint.save_file))
            for name in ("rename", "replace", "write_text", "unlink"):
                patch.setattr(Path, name, dying(getattr(Path, name)))
            try:
                save(run, 3)
            except KeyboardInterrupt:
                deaths += 1
            else:
                break
        step = read_state(latest_checkpoint(run))["step"]
        assert step in (2, 3)
        save(run, 4)  # and the next save clears up
        assert names(run)[-1] == "step_00000004"
        assert not [name for name in names(run) if name.startswith(".")]
    assert deaths > 15
    assert names(run) == ["step_00000002", "step_00000003"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest"])
@pytest.mark.parametrize("file", ["optimizer.safetensors", "ema/net.safetensors", "state.json"])
def test_damage_is_found_and_the_previous_checkpoint_used(tmp_path, damage, file, caplog):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    target = path / ("manifest.json" if damage == "manifest" else file)
    data = bytearray(target.read_bytes())
    if damage == "flip":
        data[-2] ^= 1
    target.write_bytes(data[: len(data) // 2] if damage in ("truncate", "manifest") else data)
    if damage == "remove":
        target.unlink()
    assert latest_checkpoint(tmp_path).name == "step_00000001"
    assert target.name in caplog.text
    assert find_problems(path)


def test_a_full_disk_leaves_the_old_one_valid(tmp_path, monkeypatch):
    old = save(tmp_path, 1)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left"):
            save(tmp_path, 2)
    assert latest_checkpoint(tmp_path) == old
    assert names(tmp_path) == ["step_00000001"]


def test_what_does_not_fit_is_reported_together(tmp_path):
    path = save(tmp_path, 1)
    wrong = nn.ModuleDict({"a": nn.Linear(2, 3)})
    wrong.register_parameter("weight", nn.Parameter(torch.zeros(2, 2)))
    with pytest.raises(
        ValueError, match=r"missing a\.bias.*missing a\.weight.*unexpected bias.*weight has shape \(3, 2\)"
    ):
        load_network(path, "net", wrong)
    with pytest.raises(ValueError, match=r"no network 'vae'; it holds \['net'\]"):
        load_network(path, "vae", wrong)
    (path / "ema/net.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        load_network(path, "net", nn.Linear(2, 3))


def test_networks_start_from_another_run_and_additions_from_zero(tmp_path):
    path = save(tmp_path, 1)
    assert find_checkpoint(tmp_path) == find_checkpoint(path) == path
    net = nn.Linear(2, 3)
    net.camera = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(net.camera.weight)
    assert init_networks(path, {"net": net}) == ["net.camera.weight"]
    assert torch.equal(net.weight, torch.ones(3, 2))
    assert not net.camera.weight.any()


def test_a_start_that_does_not_fit_is_reported_together_and_loads_nothing(tmp_path):
    path = save(tmp_path, 1)
    net = nn.Linear(2, 4, bias=False)
    net.camera = nn.Linear(4, 3, bias=False)
    net.register_buffer("mean", torch.zeros(2))  # measured, so zero is not as good as nothing
    before = net.weight.clone()
    expected = (
        r"missing net\.camera\.weight; missing net\.mean; missing network critic; net: unexpected bias; "
        r"net: weight has shape \(3, 2\), expected \(4, 2\)$"
    )
    with pytest.raises(ValueError, match=expected):
        init_networks(path, {"net": net, "critic": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="unexpected network net"):
        init_networks(path, {})
    assert torch.equal(net.weight, before)
    (path / "ema/net.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"is damaged: ema/net\.safetensors has 1 bytes"):
        find_checkpoint(path)


def test_a_run_without_weights_says_what_to_do(tmp_path):
    for run in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"train it first with `python train\.py"):
            latest_checkpoint(run)
