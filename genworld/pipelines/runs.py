"""Runs of `train.py` opened for use: of the right task, on the device that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, overload

import torch

from genworld.experiment import CONFIG_FILE, AnyTask, Experiment, load_experiment, load_run
from genworld.train.checkpoint import find_checkpoint

TaskT = TypeVar("TaskT", bound=AnyTask)
OtherT = TypeVar("OtherT", bound=AnyTask)


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device that is named, or else CUDA where there is one, or the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


@overload
def open_run(
    run: str | Path, wanted: type[TaskT], need: str, device: str | torch.device | None = None
) -> tuple[Experiment, TaskT]: ...


@overload
def open_run(
    run: str | Path, wanted: tuple[type[TaskT], type[OtherT]], need: str, device: str | torch.device | None = None
) -> tuple[Experiment, TaskT | OtherT]: ...


def open_run(
    run: str | Path,
    wanted: type[TaskT] | tuple[type[TaskT], type[OtherT]],
    need: str,
    device: str | torch.device | None = None,
) -> tuple[Experiment, TaskT | OtherT]:
    """The experiment of a run, and its task in evaluation mode with the averaged weights of the newest checkpoint.

    Args:
        run: the folder that `train.py` wrote.
        wanted: what its task must be, a class, or one of two.
        need: ends the sentence that refuses another task, such as "embedding needs 'align'".
        device: see `pick_device`.

    Raises:
        ValueError: the folder holds no finished checkpoint, or its task is another.
    """
    experiment, task = load_run(Path(run), pick_device(device))
    if not isinstance(task, wanted):
        raise ValueError(f"{run} holds a run of task {experiment.task.kind!r}; {need}")
    return experiment, task


def otherwise(experiment: Experiment, run: str | Path, overrides: Sequence[str]) -> Experiment:
    """The experiment of a run that talks about scenes, with other data, or other ways from scenes to points.

    Args:
        experiment: as it was trained.
        run: its folder.
        overrides: such as `task.points.lifter={kind: fusion}`.

    Raises:
        ValueError: what was learned would be otherwise.
    """
    if not overrides:
        return experiment
    other = load_experiment(find_checkpoint(Path(run)) / CONFIG_FILE, overrides)
    for key in ("model", "stage"):
        if getattr(other.task, key) != getattr(experiment.task, key):
            raise ValueError(f"task.{key} is what was trained: only task.points, data and seed can be otherwise")
    return other
