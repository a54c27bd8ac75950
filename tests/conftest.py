"""One thread per test process: the default run uses as many processes as there are cores."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _trainers_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer takes all cores that its own processes leave, and two test processes would wait for each other's."""
    from genworld.train import runtime

    take = runtime.set_threads
    monkeypatch.setattr(runtime, "set_threads", lambda threads, processes: take(threads or 1, processes))
