"""The task as the trainer calls it, and what is done at intervals with averaged weights: validation and previews."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from genworld.ops.random import seed_of
from genworld.tasks.base import Task
from genworld.train import dtensor, runtime
from genworld.train.ema import EMA
from genworld.train.state import OWN_UNITS, mean_by_name
from genworld.types import Pack

logger = logging.getLogger(__name__)


class TaskLosses(nn.Module):
    """The task as DDP and FSDP2 want it: one module whose forward returns tensors in plain containers.

    The sums are `loss`, the task's logs, and as `NAME#units` the units of those that have their own. The global random
    generators are seeded first, from what is computed and not from what was before, so that even a task with dropout is
    resumed exactly.
    """

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.task = task

    def forward(self, pack: Pack[Any], seed: int, step: int) -> dict[str, Tensor]:
        """`Task.forward`; in evaluation mode the seeds do not depend on the step."""
        positions = [sample.position for sample in pack.samples[:1]]
        runtime.seed_everything(seed, "forward", step if self.training else 0, *positions)
        output = self.task(pack, seed, step)
        assert "loss" not in output.logs, "the name 'loss' is taken"
        logs = {name: value.detach() for name, value in output.logs.items()}
        units = {f"{name}{OWN_UNITS}": output.loss.new_tensor(count) for name, count in output.units.items()}
        return {"loss": output.loss, **logs, **units}


class Evaluator:
    """Validates and previews a task with averaged weights, in evaluation mode, with the same randomness every time.

    Args:
        accelerator: as prepared `model`.
        model: a `TaskLosses`, wrapped for the processes there are.
        task: the task inside it.
        ema: the averages.
        packs: what to validate and preview with; the same on every rank.
        seed: the run's.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        task: Task[Any],
        ema: EMA,
        packs: Sequence[Pack[Any]],
        seed: int,
    ) -> None:
        self.accelerator, self.model, self.task = accelerator, model, task
        self.ema, self.packs, self.seed = ema, packs, seed

    def validate(self, step: int) -> dict[str, float]:
        """Mean losses per unit over all packs of all ranks; empty when there are no packs."""
        rank, size, last = self.accelerator.process_index, self.accelerator.num_processes, len(self.packs) - 1
        seed = seed_of(self.seed, "validation")
        sums: dict[str, float] = {}
        units = 0
        with self._averaged():
            for begin in range(0, len(self.packs), size):
                # A rank that has none left goes along all the same: with FSDP2 a forward pass takes everyone.
                pack = self.packs[min(begin + rank, last)]
                losses = self.model(pack.to(self.accelerator.device), seed, step)
                if begin + rank <= last:
                    units += self.task.units(pack)
                    for name, value in losses.items():
                        sums[name] = sums.get(name, 0.0) + value.item()
        (total,) = runtime.reduce_sum(self.accelerator, [float(units)])
        return mean_by_name(runtime.gather(self.accelerator, sums), total)

    def preview(self, step: int, folder: Path) -> None:
        """Let the task draw into `folder`: the main process; the others go along only where weights are sharded."""
        main = self.accelerator.is_main_process
        if main or dtensor.is_sharded(self.model):
            seed = seed_of(self.seed, "preview")
            runtime.seed_everything(seed)
            with TemporaryDirectory() as scratch, self._averaged(), dtensor.gathered(self.model):
                target = folder if main else Path(scratch)
                target.mkdir(parents=True, exist_ok=True)
                with self.accelerator.autocast():
                    packs = [pack.to(self.accelerator.device) for pack in self.packs]
                    files = self.task.preview(packs, target, seed)
            if main:
                logger.info("step %d previews: %s", step, ", ".join(map(str, files)) or "none")
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Averaged weights, evaluation mode and no gradients for the length of a `with` block."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        dtensor.reshard(self.model)
        with self.ema.swapped(), torch.no_grad():
            yield
            dtensor.reshard(self.model)
        for module, mode in modes.items():
            module.training = mode
