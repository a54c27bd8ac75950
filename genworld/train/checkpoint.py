"""Checkpoints: complete and verified, or not there.

    run/checkpoints/step_00000010/
        weights/<network>.safetensors    ema/<network>.safetensors    optimizer.safetensors
        state.json    experiment.yaml    assets/<file>
        manifest.json                    size and sha256 of every file above

All is written into a hidden folder and synced to the disk, the manifest last; only then does the folder get its name,
and only then is an older one removed. A crash at any instant leaves what was complete before. Nothing is pickled.
Random states are not stored because there are none: all randomness is a function of (seed, step, position).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from genworld.train.dtensor import assign

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint could not be written, or does not fit what it is loaded into."""


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        state: plain numbers and strings: step, elapsed seconds, seed, ...
        assets: the task's text files by name.
        experiment: the resolved config as YAML.
        tensors: by file (without suffix), a function that gathers its tensors on the CPU. Functions, so that only one
            file's tensors are in memory at a time; all ranks call them in the same order.
    """

    state: Mapping[str, Any]
    assets: Mapping[str, str]
    experiment: str
    tensors: Mapping[str, Callable[[], dict[str, Tensor]]]


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimiser steps lives."""
    return run / FOLDER / f"step_{step:08d}"


def save_checkpoint(run: Path, step: int, contents: Contents, *, keep: int, write: bool = True) -> Path:
    """Write one checkpoint, then remove all but the newest `keep`.

    Every rank calls this, because gathering sharded tensors takes all of them; the one with `write` writes.

    Raises:
        CheckpointError: writing failed (a full disk, say). What was complete before is untouched.
    """
    final = checkpoint_path(run, step)
    partial = final.parent / f".{final.name}.partial"
    failure = _attempt(lambda: _begin(partial, contents)) if write else None
    for name, gather in contents.tensors.items():
        tensors = gather()
        if write and failure is None:
            failure = _attempt(lambda name=name, tensors=tensors: _write_tensors(partial / name, tensors))  # type: ignore[misc]
    if write and failure is None:
        failure = _attempt(lambda: _publish(partial, final))
    if failure is not None:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"could not write the checkpoint {final}: {failure}. Earlier checkpoints are untouched: make room, then "
            "continue with --resume"
        )
    if write:
        _prune(final.parent, keep)
    return final


def find_problems(checkpoint: Path) -> list[str]:
    """What is wrong with a checkpoint, by hashing every file; empty when it is whole."""
    try:
        manifest = _read_manifest(checkpoint)
    except CheckpointError as error:
        return [str(error)]
    checks = (_file_problem(checkpoint, name, expected) for name, expected in manifest.items())
    return [problem for problem in checks if problem]


def has_checkpoint(run: Path) -> bool:
    """Whether `run` holds anything that was once a checkpoint, whole or not."""
    return bool(_steps(run / FOLDER))


def latest_checkpoint(run: Path) -> Path:
    """The newest whole checkpoint of a run. Damaged ones are passed over, with a warning that says what is wrong.

    Raises:
        ValueError: there is none.
    """
    candidates = sorted(_steps(run / FOLDER), reverse=True)
    damaged = []
    for checkpoint in candidates:
        problems = find_problems(checkpoint)
        if not problems:
            return checkpoint
        damaged.append(f"{checkpoint.name}: {'; '.join(problems)}")
        logger.warning("checkpoint %s is damaged and passed over: %s", checkpoint, "; ".join(problems))
    if damaged:
        raise ValueError(f"{run} has no whole checkpoint ({' | '.join(damaged)}); train it anew in another run=...")
    what = "has no weights" if run.is_dir() else "is not a folder"
    raise ValueError(f"{run} {what}: train it first with `python train.py --config ... run={run}`")


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that `path` is, or the newest whole one of the run that it is.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    if not (path / MANIFEST).is_file():
        return latest_checkpoint(path)
    if problems := find_problems(path):
        raise CheckpointError(f"{path} is damaged: {'; '.join(problems)}; name another checkpoint, or its run")
    return path


def set_aside_after(run: Path, step: int) -> None:
    """Rename checkpoints newer than `step`, which a resumed run found damaged, so that they count no more."""
    for path in _steps(run / FOLDER):
        if path > checkpoint_path(run, step):
            shutil.rmtree(aside := path.with_name(f"damaged_{path.name}"), ignore_errors=True)
            path.rename(aside)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The plain state of a checkpoint: step, elapsed seconds, seed, counts of skipped steps."""
    return json.loads((checkpoint / "state.json").read_text("utf-8"))


def read_assets(checkpoint: Path) -> dict[str, str]:
    """The task's text files by name, for `Task.load_assets`."""
    return {path.name: path.read_text("utf-8") for path in sorted((checkpoint / "assets").glob("*"))}


def load_network(checkpoint: Path, name: str, module: nn.Module, *, ema: bool = True) -> None:
    """Fill `module` with the weights of network `name`, averaged ones (`ema`) or as trained.

    Args:
        checkpoint: one whole checkpoint's folder, as `latest_checkpoint` gives it; it is not hashed again.
        name: the network's name in `Task.networks`.
        module: a module with exactly the same parameters and buffers; on any device, sharded or not.
        ema: whether to take the averaged weights.

    Raises:
        ValueError: there is no such network, or names and shapes differ; all that differs is reported together.
    """
    file = checkpoint / ("ema" if ema else "weights") / f"{name}.safetensors"
    if not file.is_file():
        held = sorted(path.stem for path in file.parent.glob("*.safetensors"))
        raise CheckpointError(f"{checkpoint} has no network {name!r}; it holds {held}")
    load_tensors(file, module.state_dict())


def init_networks(checkpoint: Path, networks: Mapping[str, nn.Module]) -> list[str]:
    """Start `networks` from the averaged weights of another run's checkpoint.

    A network may have parameters that the checkpoint does not know if they start at zero: additions that change
    nothing until they have learned something.

    Args:
        checkpoint: one whole checkpoint's folder, as `find_checkpoint` gives it.
        networks: by the names they have in the checkpoint.

    Returns:
        The additions, as `network.parameter`; they are left at zero.

    Raises:
        ValueError: anything else is missing, unexpected or of another shape; all is reported together, and nothing is
            loaded then.
    """
    files = {path.stem: path for path in sorted((checkpoint / "ema").glob("*.safetensors"))}
    problems = [f"missing network {name}" for name in networks.keys() - files.keys()]
    problems += [f"unexpected network {name}" for name in files.keys() - networks.keys()]
    wanted: dict[str, dict[str, Tensor]] = {}
    additions: list[str] = []
    for name in networks.keys() & files.keys():
        targets = networks[name].state_dict()
        missing, others = _differences(files[name], targets)
        parameters = networks[name].named_parameters(remove_duplicate=False)
        zero = missing & {key for key, parameter in parameters if not parameter.any()}
        additions += [f"{name}.{key}" for key in zero]
        problems += [f"missing {name}.{key}" for key in missing - zero] + [f"{name}: {other}" for other in others]
        wanted[name] = {key: target for key, target in targets.items() if key not in zero}
    if problems:
        raise CheckpointError(f"{checkpoint} does not fit the new run: {'; '.join(sorted(problems))}")
    for name, targets in wanted.items():
        load_tensors(files[name], targets)
    return sorted(additions)


@torch.no_grad()
def load_tensors(file: Path, targets: Mapping[str, Tensor]) -> None:
    """Copy a safetensors file into `targets`, strictly, one tensor at a time.

    Raises:
        ValueError: names or shapes differ.
    """
    missing, others = _differences(file, targets)
    if problems := [*(f"missing {key}" for key in missing), *others]:
        raise CheckpointError(f"{file} does not fit the network: {'; '.join(sorted(problems))}")
    with safe_open(file, framework="pt") as stored:
        for key, target in targets.items():
            assert not target.is_meta, f"{key} has no memory to load into"
            assign(target, stored.get_tensor(key))


def _differences(file: Path, targets: Mapping[str, Tensor]) -> tuple[set[str], list[str]]:
    """Names that a safetensors file lacks, and what else is wrong with it for `targets`, in words."""
    try:
        with safe_open(file, framework="pt") as stored:
            shapes = {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None
    others = [f"unexpected {key}" for key in shapes.keys() - targets.keys()]
    others += [
        f"{key} has shape {shapes[key]}, expected {tuple(targets[key].shape)}"
        for key in shapes.keys() & targets.keys()
        if shapes[key] != tuple(targets[key].shape)
    ]
    return targets.keys() - shapes.keys(), others


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file, on the CPU."""
    with safe_open(file, framework="pt") as stored:
        return {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is on the disk when this returns, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8")
    _sync(partial)
    partial.replace(path)


def _begin(partial: Path, contents: Contents) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    for folder in ("weights", "ema", "assets"):
        (partial / folder).mkdir(parents=True)
    write_text(partial / "state.json", json.dumps(dict(contents.state), indent=2) + "\n")
    write_text(partial / "experiment.yaml", contents.experiment)
    for name, text in contents.assets.items():
        assert Path(name).name == name, f"an asset needs a plain file name, not {name!r}"
        write_text(partial / "assets" / name, text)


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    file = path.with_name(f"{path.name}.safetensors")
    save_file(tensors, file)
    _sync(file)


def _publish(partial: Path, final: Path) -> None:
    paths = sorted(path for path in partial.rglob("*") if path.is_file())
    files = {path.relative_to(partial).as_posix(): _fingerprint(path) for path in paths}
    write_text(partial / MANIFEST, json.dumps({"files": files}, indent=2) + "\n")
    for folder in (*(path for path in partial.iterdir() if path.is_dir()), partial):
        _sync(folder)
    if final.exists():  # only when the same step is saved again; the new one is complete by now
        shutil.rmtree(final)
    partial.rename(final)
    _sync(final.parent)


def _prune(folder: Path, keep: int) -> None:
    """Remove what is old or half-written. The manifest goes first: a folder without one is no checkpoint."""
    finished = sorted(path for path in _steps(folder) if (path / MANIFEST).is_file())
    unfinished = [path for path in _steps(folder) if path not in finished]
    for path in (*finished[:-keep], *unfinished, *folder.glob(".step_*.partial")):
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)


def _steps(folder: Path) -> list[Path]:
    return [path for path in folder.glob("step_*") if path.name[5:].isdigit()]


def _attempt(action: Callable[[], None]) -> OSError | SafetensorError | None:
    try:
        action()
    except (OSError, SafetensorError) as error:
        return error
    return None


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _read_manifest(checkpoint: Path) -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads((checkpoint / MANIFEST).read_text("utf-8"))["files"])
    except FileNotFoundError:
        raise CheckpointError(f"no {MANIFEST}: it was never finished") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{MANIFEST} is damaged") from None


def _file_problem(checkpoint: Path, name: str, expected: Mapping[str, Any] | None) -> str | None:
    file = checkpoint / name
    if expected is None:
        return f"{name} is not in {MANIFEST}"
    if not file.is_file():
        return f"{name} is missing"
    found = _fingerprint(file)
    if found["bytes"] != expected["bytes"]:
        return f"{name} has {found['bytes']} bytes instead of {expected['bytes']}"
    return f"{name} was altered (its sha256 differs)" if found["sha256"] != expected["sha256"] else None


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
