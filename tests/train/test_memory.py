"""Freed memory stays with a training process."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import resource, torch
from genworld.train.runtime import keep_freed_memory
if {kept}:
    keep_freed_memory()
def take():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):  # of 24 MB, larger than what is kept without being told, and two at a time
        one, other = torch.ones(6 << 20), torch.ones(6 << 20)
        del one, other
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
take()
print(take())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="told to glibc only")
def test_tensors_take_the_pages_of_freed_ones() -> None:
    fetched, kept = (
        int(subprocess.run([sys.executable, "-c", MEASURE.format(kept=kept)], capture_output=True, check=True).stdout)
        for kept in (False, True)
    )
    assert kept < 50
    assert kept <= fetched
