"""The training loop: packs in, checkpoints out. Knows `Task`, and no concrete one."""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor

from genworld.tasks.base import Task
from genworld.train import checkpoint, dtensor, optim, runtime
from genworld.train.ema import EMA
from genworld.train.evaluate import Evaluator, TaskLosses
from genworld.train.log import RunLog
from genworld.train.optim import OptimConfig, ScheduleConfig
from genworld.train.state import DivergedError, Loader, Step, TrainResult, TrainState, check_run, mean_by_name
from genworld.types import Pack

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how often, how exactly. Intervals are in optimiser steps; 0 means never (`save_every`: at the end).

    Attributes:
        steps: optimiser steps of the whole run.
        max_seconds: the run also ends after this time, and its schedule follows whichever of both is further. Exact
            resuming is promised for runs without it.
        save_every, validate_every, preview_every, log_every: intervals.
        keep: whole checkpoints to keep; two at least, so that one may turn out damaged.
        precision: `auto` is bf16 where the hardware multiplies it.
        device: `cpu` forbids the use of an accelerator.
        threads: CPU threads of each process; by default an equal share of the cores.
        deterministic: refuse operations that are not repeatable on a GPU (on a CPU all are).
        gradient_clip: largest gradient norm, of each network on its own: a discriminator does not slow its generator.
        ema_decay: of the averaged weights that are validated, previewed and sampled.
        max_skipped: after so many steps in a row without a finite loss and gradient the run is given up.
        compile: call the task's `compile_blocks`.
    """

    steps: int
    max_seconds: float | None = None
    save_every: int = 1000
    validate_every: int = 0
    preview_every: int = 0
    log_every: int = 10
    keep: int = 2
    precision: runtime.Precision = "auto"
    device: runtime.Device = "auto"
    threads: int | None = None
    deterministic: bool = False
    gradient_clip: float | None = 1.0
    ema_decay: float = 0.999
    max_skipped: int = 10
    compile: bool = False
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        for name in ("save_every", "validate_every", "preview_every", "log_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (never) or a number of steps, got {getattr(self, name)}")
        for name in ("max_seconds", "threads", "gradient_clip"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, or null for none, got {value}")
        if self.keep < 2:
            raise ValueError(f"keep must be at least 2, so that one checkpoint may be damaged; got {self.keep}")


class Trainer:
    """Trains a task.

    The loss of a step is the sum over all its packs on all ranks, divided by the number of units in them. So it does
    not matter how many processes share a step: two processes, or one with twice the accumulation, give the same.

    A signal (SIGTERM, SIGINT, SIGUSR1) on any rank ends the run after the step at hand, with a checkpoint.

    Args:
        task: what to train, built alike on every rank. When not resuming, `prepare` is called before `fit`.
        config: how.
        loader: this rank's packs.
        run: the run's folder; shared by all machines.
        seed: of all randomness in training.
        validation: packs, the same on every rank, whose loss is measured with the averaged weights.
        experiment_text: the resolved config, saved with the run and each checkpoint.
    """

    def __init__(
        self,
        task: Task[Any],
        config: TrainConfig,
        loader: Loader,
        run: Path,
        seed: int,
        validation: Sequence[Pack[Any]] = (),
        experiment_text: str = "",
    ) -> None:
        self.task, self.config, self.loader = task, config, loader
        self.run, self.validation, self.experiment_text = run, validation, experiment_text
        if (config.validate_every or config.preview_every) and not validation:
            raise ValueError(
                "train.validate_every or train.preview_every is set, but no clips are held out: set data.validation, "
                "or both to 0"
            )
        self.state = TrainState(seed)
        self.networks = task.networks()
        self._zero_time = 0.0
        self._is_resumed = False
        self.accelerator = runtime.build_accelerator(config.precision, config.device, task.leaves_out_parameters)

    def fit(self, resume: bool = False) -> TrainResult:
        """Train to the end, or until a signal.

        Args:
            resume: continue from the newest whole checkpoint of the run; else the run must not have any.

        Raises:
            ValueError: the run cannot be begun or resumed, a checkpoint could not be written, or training diverged.
        """
        start = runtime.on_main(self.accelerator, partial(self._find_start, resume))
        self._build(start)
        with runtime.StopSignal() as stop, self._open_log() as log:
            return self._loop(stop, log)

    # Before the first step

    def _find_start(self, resume: bool) -> Path | None:
        check_run(self.run, resume)
        self.run.mkdir(parents=True, exist_ok=True)
        return checkpoint.latest_checkpoint(self.run) if resume else None

    def _build(self, start: Path | None) -> None:
        """Everything that has to be made in this order: assets, wrapping, averages, then the weights of `start`."""
        config, accelerator = self.config, self.accelerator
        runtime.keep_freed_memory()
        threads = runtime.set_threads(config.threads, runtime.count_local_processes(accelerator))
        runtime.set_deterministic(config.deterministic)
        if start:
            self.task.load_assets(checkpoint.read_assets(start))
        optim.freeze(self.networks, config.optim)
        covered = {id(parameter) for parameter in optim.named_parameters(self.networks).values()}
        strays = [n for n, p in self.task.named_parameters() if p.requires_grad and id(p) not in covered]
        assert not strays, f"trained, but in none of the task's networks and so never saved: {strays}"
        if config.compile:
            self._compile_task()
        if accelerator.distributed_type == DistributedType.FSDP:
            self.task.to(memory_format=torch.contiguous_format)  # FSDP2 shards no channels-last weights
        optimizer = optim.build_optimizer(self.networks, config.optim)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)  # accelerate knows no newer name
            self.model, wrapped = accelerator.prepare(TaskLosses(self.task), optimizer)
        self.optimizer = wrapped.optimizer
        self.ema = EMA(self.networks, config.ema_decay)
        self.evaluator = Evaluator(accelerator, self.model, self.task, self.ema, self.validation, self.state.seed)
        if start:
            self._restore(start)
        if accelerator.is_main_process:
            # Not before a resumed run has taken its weights: a wrong config must not replace the right one.
            checkpoint.write_text(self.run / "experiment.yaml", self.experiment_text)
            count = sum(parameter.numel() for group in self.optimizer.param_groups for parameter in group["params"])
            logger.info(
                "training %s parameters on %d x %s in %s, %d CPU threads each, from step %d",
                f"{count:,}",
                accelerator.num_processes,
                accelerator.device,
                "bf16" if accelerator.mixed_precision == "bf16" else "fp32",
                threads,
                self.state.step,
            )

    def _compile_task(self) -> None:
        hook = getattr(self.task, "compile_blocks", None)
        if hook is None:
            raise ValueError(f"{type(self.task).__name__} cannot be compiled: set train.compile to false")
        hook()

    def _restore(self, start: Path) -> None:
        saved = checkpoint.read_state(start)
        if saved["seed"] != self.state.seed:
            raise ValueError(f"{self.run} was begun with seed {saved['seed']}, not {self.state.seed}: they must agree")
        for name, network in self.networks.items():
            checkpoint.load_tensors(start / "weights" / f"{name}.safetensors", network.state_dict())
            checkpoint.load_tensors(start / "ema" / f"{name}.safetensors", self.ema.state(name))
        tensors = checkpoint.read_tensors(start / "optimizer.safetensors")
        optim.restore_optimizer(self.optimizer, self.networks, tensors)
        self.state = TrainState(**{key: saved[key] for key in asdict(self.state)})
        self._is_resumed = True
        if self.accelerator.is_main_process:
            checkpoint.set_aside_after(self.run, self.state.step)
            logger.info("continuing from %s", start)
            if saved["precision"] != self.accelerator.mixed_precision:
                logger.warning("the run was begun in precision %s: results will differ slightly", saved["precision"])

    def _open_log(self) -> RunLog:
        return RunLog(self.run, self.state.step, self.config.steps, enabled=self.accelerator.is_main_process)

    # The loop

    def _loop(self, stop: runtime.StopSignal, log: RunLog) -> TrainResult:
        self._zero_time = time.monotonic() - self.state.elapsed
        batches = self.loader.steps(self.state.step)
        saved = self.state.step if self._is_resumed else None
        loss, is_stopped = math.nan, False
        while self.state.step < self.config.steps:
            began = time.monotonic()
            packs = next(batches)
            units, is_stopped = self._agree(packs, stop)
            if is_stopped or self._progress >= 1:
                break
            record = self._advance(packs, units)
            loss = record.loss
            self._log(log, record, time.monotonic() - began)
            if self._is_due(self.config.save_every):
                saved = self._save()
            self._evaluate(log, self._is_due)
        if saved != self.state.step:
            self._save()
        if not is_stopped:
            self._evaluate(log, bool)
        log.picture()
        return TrainResult(
            status="stopped" if is_stopped else "finished",
            step=self.state.step,
            seconds=self._elapsed,
            skipped=self.state.skipped,
            loss=loss,
            checkpoint=checkpoint.checkpoint_path(self.run, self.state.step),
            signal=stop.received,
        )

    def _agree(self, packs: Sequence[Pack[Any]], stop: runtime.StopSignal) -> tuple[float, bool]:
        """Units of the step over all ranks, and whether any rank was told to stop; sets all clocks by the main one."""
        units = float(sum(map(self.task.units, packs)))
        elapsed = self._elapsed if self.accelerator.is_main_process else 0.0
        units, stopped, self.state.elapsed = runtime.reduce_sum(
            self.accelerator, [units, float(stop.received is not None), elapsed]
        )
        assert units > 0, "a step without a single unit of loss"
        return units, stopped > 0

    def _advance(self, packs: Sequence[Pack[Any]], units: float) -> Step:
        """One optimiser step, counted whether it is taken or skipped."""
        factor = self.config.schedule.factor(self.state.step, self._progress)
        step = self._gradients(packs, units, self.config.optim.learning_rate * factor)
        if step.is_finite:
            self._clip(step.norms)
            optim.set_learning_rate(self.optimizer, step.learning_rate)
            self.optimizer.step()
            self.ema.update(self.state.step - self.state.skipped)
            self.state.skipped_in_row = 0
        else:
            self._skip(packs, step)
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.state.skipped_in_row >= self.config.max_skipped:
            raise DivergedError(
                f"{self.state.skipped_in_row} steps in a row had no finite loss and gradient; which samples they saw "
                f"is in {self.run / 'log' / 'skipped'}. Lower the learning rate or look at those samples; --resume "
                "continues from the last checkpoint"
            )
        return step

    def _gradients(self, packs: Sequence[Pack[Any]], units: float, learning_rate: float) -> Step:
        """Forward and backward through all packs of a step."""
        scale = self.accelerator.num_processes / units  # DDP and FSDP2 average over ranks
        sums: dict[str, Tensor] = {}
        for index, pack in enumerate(packs):
            is_last = index == len(packs) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                losses = self.model(pack.to(self.accelerator.device), self.state.seed, self.state.step)
                self.accelerator.backward(losses["loss"] * scale)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach().double()
        norms = torch.stack(
            [
                dtensor.total_norm([p.grad for p in network.parameters() if p.grad is not None]).to(sums["loss"].device)
                for network in self.networks.values()
            ]
        )
        (loss,) = runtime.reduce_sum(self.accelerator, [sums.pop("loss").item()])
        return Step(
            loss=loss / units,
            norms=dict(zip(self.networks, norms.tolist(), strict=True)),
            sums=sums,
            units=units,
            learning_rate=learning_rate,
        )

    def _clip(self, norms: Mapping[str, float]) -> None:
        limit = self.config.gradient_clip
        for name, network in self.networks.items():
            if limit is not None and norms[name] > limit:
                gradients = [dtensor.local(p.grad) for p in network.parameters() if p.grad is not None]
                torch._foreach_mul_(gradients, limit / norms[name])

    def _skip(self, packs: Sequence[Pack[Any]], step: Step) -> None:
        """Count a step that is not taken, and write down what it saw, on all ranks."""
        self.state.skipped += 1
        self.state.skipped_in_row += 1
        positions = [[sample.position for sample in pack] for pack in packs]
        everyone = runtime.gather(self.accelerator, {"rank": self.accelerator.process_index, "packs": positions})
        if not self.accelerator.is_main_process:
            return
        record = {
            "step": self.state.step,
            "loss": repr(step.loss),
            "gradient_norms": {name: repr(norm) for name, norm in step.norms.items()},
            "learning_rate": step.learning_rate,
            "skipped_in_row": self.state.skipped_in_row,
            "positions": everyone,
        }
        file = self.run / "log" / "skipped" / f"step_{self.state.step:08d}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(file, json.dumps(record, indent=2) + "\n")
        logger.warning("step %d skipped: loss %s, gradient norms %s; see %s", *list(record.values())[:3], file)

    # At intervals

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._zero_time

    @property
    def _progress(self) -> float:
        """How much of the run is done, by steps or by time, whichever is more."""
        by_time = self.state.elapsed / self.config.max_seconds if self.config.max_seconds else 0.0
        return max(self.state.step / self.config.steps, by_time)

    def _is_due(self, every: int) -> bool:
        """Whether an interval ends here; the run's end has its own turn."""
        return every > 0 and self.state.step % every == 0 and self.state.step < self.config.steps

    def _evaluate(self, log: RunLog, is_due: Callable[[int], bool]) -> None:
        """Validate and preview, each if its interval `is_due`; a finished run that is resumed has validated already."""
        step, config = self.state.step, self.config
        if is_due(config.validate_every) and not runtime.on_main(
            self.accelerator, partial(log.holds, step, "validation/loss")
        ):
            log.values(step, {f"validation/{name}": value for name, value in self.evaluator.validate(step).items()})
            log.picture()
        if is_due(config.preview_every):
            self.evaluator.preview(step, self.run / "previews" / f"step_{step:08d}")

    def _log(self, log: RunLog, step: Step, seconds: float) -> None:
        number, rate = self.state.step, step.units / seconds
        log.progress(number, self._progress, f"loss {step.loss:.4g}, lr {step.learning_rate:.2g}, {rate:,.0f} units/s")
        if number == 1 or (self.config.log_every and number % self.config.log_every == 0):
            sums = runtime.gather(self.accelerator, {name: value.item() for name, value in step.sums.items()})
            values = {"loss": step.loss, **mean_by_name(sums, step.units)}
            log.values(number, {f"train/{name}": value for name, value in values.items()})
            log.values(number, {f"gradient_norm/{name}": norm for name, norm in step.norms.items()})
            log.values(number, {"learning_rate": step.learning_rate, "skipped": float(self.state.skipped)})
            log.speeds(number, {"units_per_second": rate, "seconds_per_step": seconds})

    def _save(self) -> int:
        """Write a checkpoint of the present; returns its step."""
        state, main = self.state, self.accelerator.is_main_process
        contents = checkpoint.Contents(
            state={
                **asdict(state),
                "elapsed": self._elapsed,
                "precision": self.accelerator.mixed_precision,
                "num_processes": self.accelerator.num_processes,
            },
            assets=self.task.assets(),
            experiment=self.experiment_text,
            tensors={
                **{f"weights/{name}": partial(_whole, network.state_dict()) for name, network in self.networks.items()},
                **{f"ema/{name}": partial(_whole, self.ema.state(name)) for name in self.networks},
                "optimizer": partial(optim.optimizer_tensors, self.optimizer, self.networks),
            },
        )
        failure = None
        try:
            checkpoint.save_checkpoint(self.run, state.step, contents, keep=self.config.keep, write=main)
        except checkpoint.CheckpointError as error:
            failure = str(error)
        if failure := runtime.on_main(self.accelerator, lambda: failure):
            raise checkpoint.CheckpointError(failure)
        return state.step


def _whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: dtensor.full(value) for key, value in state.items()}
