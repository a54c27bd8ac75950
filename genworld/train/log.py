"""What a person sees of a run: a progress bar, TensorBoard, a table of losses and a picture of it."""

from __future__ import annotations

import csv
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)

# Without a terminal a bar would fill the log file: a line now and then instead.
_SECONDS_BETWEEN_LINES = 10.0


class RunLog:
    """Writes `run/log/` on the main process; on the others every method does nothing.

    `losses.csv` has one row (step, name, value) per logged number and holds nothing but what the run computed, so that
    an interrupted and resumed run leaves the very same file. Speeds go to TensorBoard only.

    Args:
        run: the run's folder.
        step: finished steps; whatever was logged after them (and lost in a crash) is taken back.
        num_steps: steps of the whole run.
        enabled: whether this process writes.
    """

    def __init__(self, run: Path, step: int, num_steps: int, enabled: bool) -> None:
        self.enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._folder = run / "log"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._table = LossTable(self._folder / "losses.csv", step)
        self._board = SummaryWriter(str(self._folder), purge_step=step + 1)
        self._num_steps = num_steps
        self._started: tuple[float, float] | None = None
        self._last_line = 0.0
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=1.0,
            disable=not self._is_terminal,
            bar_format="{desc} {percentage:3.0f}%|{bar}|{postfix}",
            dynamic_ncols=True,
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.enabled:
            self._bar.close()
            self._board.close()
            self._table.close()

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers that belong to the run: losses, norms, learning rate."""
        if self.enabled:
            self._table.add(step, values)
            self.speeds(step, values)

    def holds(self, step: int, name: str) -> bool:
        """Whether the table has this number already; False where this process does not write."""
        return self.enabled and (step, name) in self._table

    def speeds(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers that belong to the machine: for TensorBoard only."""
        if self.enabled:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def progress(self, step: int, done: float, text: str) -> None:
        """Show how far the run is: `done` of 1, and what is worth knowing now."""
        if not self.enabled:
            return
        now = time.monotonic()
        if self._started is None:
            self._started = (now, done)
        text = f"{text}, {self._time_left(now, done)} left"
        description = f"step {step}/{self._num_steps}"
        if self._is_terminal:
            self._bar.n = min(done, 1.0)
            self._bar.set_description_str(description, refresh=False)
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.refresh() if now - self._last_line > 0.2 else None
        if now - self._last_line > (0.2 if self._is_terminal else _SECONDS_BETWEEN_LINES):
            self._last_line = now
            if not self._is_terminal:
                logger.info("%s: %s", description, text)

    def picture(self) -> Path | None:
        """Draw the losses so far into `run/log/losses.png`."""
        if not self.enabled:
            return None
        return draw_losses(self._table.path, self._folder / "losses.png")

    def _time_left(self, now: float, done: float) -> str:
        assert self._started is not None
        since, begun = self._started
        if done <= begun:
            return "?"
        seconds = round((now - since) * (1 - min(done, 1.0)) / (done - begun))
        return tqdm.format_interval(seconds)


class LossTable:
    """An append-only CSV of (step, name, value); values are written so that reading gives the same bits."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = [row for row in read_losses(path) if row[0] <= step] if path.exists() else []
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            csv.writer(file).writerows([("step", "name", "value"), *rows])
        partial.replace(path)
        self._held = {(number, name) for number, name, _ in rows}
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row per value."""
        self._writer.writerows((step, name, value) for name, value in values.items())
        self._file.flush()
        self._held |= {(step, name) for name in values}

    def __contains__(self, row: tuple[int, str]) -> bool:
        return row in self._held

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_losses(path: Path) -> list[tuple[int, str, float]]:
    """The rows of a `losses.csv`. A last row that a crash cut short is left out."""
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(whole.splitlines()))[1:]
    return [(int(step), name, float(value)) for step, name, value in rows]


def draw_losses(table: Path, picture: Path) -> Path:
    """Draw `losses.csv`: a panel for the loss, and one for each other named loss, training and validation together.

    Names of several parts, as `validation/a/b` and `validation/a/c`, share a panel `a`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, list[tuple[int, float]]]] = {"loss": {}}
    for step, name, value in read_losses(table):
        split, _, term = name.partition("/")
        if split in ("train", "validation"):
            panel, _, part = term.rpartition("/")
            line = f"{split} {part}" if panel else split
            panels.setdefault(panel or part, {}).setdefault(line, []).append((step, value))
    figure = Figure(figsize=(5.5 * min(len(panels), 3), 3.6 * -(-len(panels) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(-(-len(panels) // 3), min(len(panels), 3), squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (term, lines) in zip(grid.flat, panels.items(), strict=False):
        for line, points in lines.items():
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, label=line, linewidth=1, marker="." if len(points) < 30 else None)
        axes.set_title(term, fontsize="medium")
        axes.set_xlabel("step")
        if axes.lines:
            axes.legend(fontsize="small")
            if all((line.get_ydata() > 0).all() for line in axes.lines):
                axes.set_yscale("log")
    figure.savefig(picture, dpi=110)
    return picture
