"""Processes, devices, precision, seeds and signals: what the machine offers, settled once and logged once."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
)

from genworld.ops.random import Key, seed_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
Precision = Literal["auto", "bf16", "fp32"]
Device = Literal["auto", "cpu"]

# One rank writes checkpoints and previews while the others wait.
_TIMEOUT = timedelta(minutes=30)

_MALLOC_TRIM_THRESHOLD, _MALLOC_MMAP_THRESHOLD = -1, -3
"""Names of glibc's options, from its malloc.h."""
_FETCHED_FROM, _KEPT_MOST = 1 << 26, 1 << 30
"""Bytes from which a tensor is fetched from the system whatever is free, and bytes that are kept free at most."""


@dataclass(frozen=True)
class World:
    """Which process this is, of how many, and on which device."""

    rank: int
    size: int
    device: torch.device


def find_world(device: Device = "auto") -> World:
    """Join the processes that `accelerate launch` or `torchrun` started; a lone process is a world of one."""
    if "MASTER_ADDR" in os.environ and not {"RANK", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"} & set(os.environ):
        logger.warning(
            "accelerate launch was asked for several processes, but on a CPU it starts only one: use `accelerate "
            "launch --multi_gpu --num_processes N` or `torchrun --nproc_per_node N`. One process gives the same "
            "results, only later"
        )
    state = PartialState(cpu=_is_cpu(device), timeout=_TIMEOUT)
    return World(state.process_index, state.num_processes, state.device)


def _is_cpu(device: Device) -> bool:
    # Said outright, because accelerate would otherwise not connect the processes of a machine without accelerators.
    return device == "cpu" or not torch.accelerator.is_available()


def resolve_precision(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """What `auto` means on `device`: bf16 where the hardware multiplies it, else fp32.

    Decided by what the hardware can do and not by a stopwatch, so that a resumed run decides the same.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16")) else "fp32"
    return "fp32"


def build_accelerator(
    precision: Precision = "auto", device: Device = "auto", leaves_out_parameters: bool = False
) -> Accelerator:
    """An accelerator for the processes, FSDP2 and so on that `accelerate launch` was configured with.

    Precision is ours to say, because it belongs to the experiment and not to the machine.
    """
    resolved = resolve_precision(precision, find_world(device).device)
    mixed = "bf16" if resolved == "bf16" else "no"
    if is_initialized() and AcceleratorState().mixed_precision != mixed:
        # accelerate keeps one precision per process; a VAE and a transformer trained in turn may want two.
        AcceleratorState._reset_state()  # noqa: SLF001
    return Accelerator(
        cpu=_is_cpu(device),
        mixed_precision=mixed,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_TIMEOUT),
            # Buffers do not enter the loss, so sending them at every forward pass would be a waste.
            DistributedDataParallelKwargs(
                find_unused_parameters=leaves_out_parameters, broadcast_buffers=False, gradient_as_bucket_view=True
            ),
        ],
    )


def set_threads(threads: int | None, local_processes: int) -> int:
    """Use `threads` CPU threads in this process, or by default an equal share of the cores it may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = threads or max(1, cores // local_processes)
    torch.set_num_threads(chosen)
    return chosen


def keep_freed_memory() -> None:
    """Let this process keep memory that it freed, for its next tensors, where the C library can be told so (glibc).

    Else every larger tensor of a step on a CPU is fetched from the system anew, page by page.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if change is not None:
        change(_MALLOC_MMAP_THRESHOLD, _FETCHED_FROM)
        change(_MALLOC_TRIM_THRESHOLD, _KEPT_MOST)


def set_deterministic(deterministic: bool) -> None:
    """Whether to refuse operations that may give other bits when repeated (on a GPU; costs speed)."""
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False


def seed_everything(*keys: Key) -> None:
    """Seed the global generators of Python, numpy and torch from `keys`, for code that draws from them (dropout)."""
    seed = seed_of(*keys)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def reduce_sum(accelerator: Accelerator, values: list[float]) -> list[float]:
    """Add up `values` over all ranks, in float64."""
    if accelerator.num_processes == 1:
        return values
    return accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum").tolist()


def gather(accelerator: Accelerator, value: T) -> list[T]:
    """The `value` of every rank, on every rank."""
    return gather_object([value]) if accelerator.num_processes > 1 else [value]


def count_local_processes(accelerator: Accelerator) -> int:
    """How many of the processes share this machine."""
    here = socket.gethostname()
    return gather(accelerator, here).count(here)


def on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """The result of `action`, called on the main process only; what it returns or raises comes to every rank."""
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = action()
        except ValueError as error:
            outcome[1] = error
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def leave_world() -> None:
    """Close the connections between processes, at the very end of a program.

    Left to the interpreter's exit, gloo's threads now and then abort a process that has done all its work.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class StopSignal:
    """Catches SIGTERM, SIGINT and SIGUSR1 for the length of a `with` block; only remembers that one came.

    Saving inside a handler could interrupt a save. A third SIGINT raises KeyboardInterrupt, for the impatient.
    """

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._interrupts = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in self.signals}
        else:
            logger.warning("not in the main thread: signals will not stop this run")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 2:
            raise KeyboardInterrupt
