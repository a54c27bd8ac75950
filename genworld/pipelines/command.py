"""What all command lines share: one-line errors, logging, and where a result came from."""

from __future__ import annotations

import datetime
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError

USER_ERROR = 2
"""Exit code for what the user can mend."""


def run_command(main: Callable[[], int]) -> int:
    """Run a command line; a `ValueError` or a file that cannot be used becomes one line on stderr and exit code 2.

    Anything else is our own fault and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return main()
    except (ValueError, OSError, SafetensorError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return USER_ERROR
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def provenance() -> dict[str, str]:
    """The command, version, commit, machine and date, to be written beside every result."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "genworld": version("genworld"),
        "commit": _commit(),
        "torch": torch.__version__,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def machine() -> str:
    """The GPU, or the processor and its cores, and how many threads are used."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}"


def _commit() -> str:
    """The commit of the source tree, "+" when it has changes; "unknown" where there is no git."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
