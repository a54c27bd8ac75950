"""Numbers of an evaluation with all that it takes to read them, and what metrics are fed with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from genworld.eval.bootstrap import Interval, interval_of_mean
from genworld.eval.reconstruction import PerVideo
from genworld.models.vae_base import Gaussian

REAL, MADE = "real", "made"


@dataclass(frozen=True)
class Batch:
    """Some videos of one shape, on their way through the metrics.

    Attributes:
        positions: in their set.
        texts: their prompts; empty strings where there are none.
        fps: their rate.
        others: prompts of other videos, if there are any.
        real: pixels of real clips.
        made: pixels of videos made from their captions, or of those that were given.
        again: reconstructions of the real clips.
        posterior: latents of the real clips.
        still: whether the camera of each stands still; None where nobody knows.
    """

    positions: Sequence[int]
    texts: Sequence[str]
    fps: float
    others: Sequence[str] | None = None
    real: Float[Tensor, "B 3 F H W"] | None = None
    made: Float[Tensor, "B 3 F H W"] | None = None
    again: Float[Tensor, "B 3 F H W"] | None = None
    posterior: Gaussian | None = None
    still: Sequence[bool] | None = None


@dataclass(frozen=True)
class Entry:
    """A number with all that it takes to read it.

    Attributes:
        value: the number.
        num: videos that it is of.
        convention: how it is computed, in words: numbers of other words are not compared with it.
        better: "higher" or "lower"; "" where neither is.
        unit: of the number.
        interval: what chance leaves open.
        beside: what it should be read against, by name: ceilings, floors, baselines.
        column: where the values of each video are, as `table/column`; empty for what is no mean over videos.
        scale: what the mean of that column is multiplied by.
        weights: column of weights, where the mean has any.
        left_out: the number without each of the groups of videos, for what is no mean.
        details: whatever else belongs to it.
        warnings: why it may not mean what it seems to.
    """

    value: float
    num: int
    convention: str
    better: str = ""
    unit: str = ""
    interval: Interval | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    column: str = ""
    scale: float = 1.0
    weights: str = ""
    left_out: Sequence[float] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def record(self) -> dict[str, Any]:
        """As JSON takes it."""
        interval = None if self.interval is None else vars(self.interval)
        fields = {**vars(self), "interval": interval}
        return {name: value for name, value in fields.items() if name in ("value", "num") or value not in ("", (), {})}


class Measure:
    """One or several numbers that are computed together.

    Attributes:
        needs: fields of a `Batch` that it cannot do without.
        notes: what is to be said of it, once `entries` was called.
    """

    needs: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def metrics(self) -> Iterable[nn.Module]:
        """What has to be moved to a device."""
        raise NotImplementedError

    def update(self, batch: Batch) -> None:
        """Take a batch in, if it has what is needed."""
        raise NotImplementedError

    def entries(self) -> dict[str, Entry]:
        """The numbers by name. Every process has to call it, and gets the same."""
        raise NotImplementedError

    def tables(self) -> dict[str, dict[str, Float[Tensor, " n"]]]:
        """Values of each video. Every process has to call it, and gets the same."""
        return {}


def mean_entry(  # noqa: PLR0913 - every argument but the first two is told by name
    table: Mapping[str, Float[Tensor, " n"]],
    column: str,
    *,
    convention: str,
    name: str,
    better: str = "higher",
    unit: str = "",
    scale: float = 1.0,
    weights: str = "",
    beside: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
) -> Entry:
    """The mean of a column over the videos that have a value in it."""
    known = ~table[column].isnan()
    values = table[column][known].cpu().numpy()
    shares = table[weights][known].cpu().numpy() if weights else None
    found = interval_of_mean(values, shares)
    return Entry(
        scale * float(np.average(values, weights=shares)),
        len(values),
        convention,
        better,
        unit,
        None if found is None else found.scaled(scale),
        dict(beside or {}),
        f"{name}/{column}",
        scale,
        f"{name}/{weights}" if weights else "",
        warnings=tuple(warnings),
    )


def column_mean(table: Mapping[str, Float[Tensor, " n"]], column: str, scale: float = 1.0) -> float | None:
    """The mean of a column, if the table has it."""
    return scale * float(table[column].nanmean()) if column in table else None


def known(beside: Mapping[str, float | None]) -> dict[str, float]:
    """Those that are known."""
    return {name: value for name, value in beside.items() if value is not None}


def table_or_nothing(metric: PerVideo) -> dict[str, Tensor]:
    """The values of each video, of every process; empty if none has seen any."""
    with metric.sync_context(dist_sync_fn=metric.dist_sync_fn):
        num = sum(map(len, metric.rows)) if isinstance(metric.rows, list) else len(metric.rows)
        return metric.table() if num else {}
