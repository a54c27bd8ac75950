"""Figures over questions with intervals over scenes: questions about a room share its luck, so rooms are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from genworld.eval.bootstrap import Interval, interval_of_mean, paired_interval
from genworld.eval.meteor import Meteor
from genworld.eval.text_scores import (
    References,
    Scored,
    bleu_counts,
    bleu_intervals,
    bleu_of_counts,
    cider_d,
    rouge_l,
)

PERCENT = 100.0


@dataclass(frozen=True)
class Figure:
    """A number of a report: its value, over how many questions, and its 95 % interval, where there is one."""

    value: float
    num: int
    interval: Interval | None = None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.1f}"
        return f"{self.value:.1f} [{self.interval.low:.1f}, {self.interval.high:.1f}]"


def number_scenes(names: Sequence[str]) -> Int[np.ndarray, " n"]:
    """A number for each name, the same for the same."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def percent(values: Float[np.ndarray, " n"], scenes: Int[np.ndarray, " n"], seed: int = 0) -> Figure:
    """The mean in percent, with an interval over scenes.

    Where all values are alike a resampled mean cannot differ, and where there is one scene there is nothing to
    resample: then the interval is over questions, Wilson's where values are 0 or 1.

    Args:
        values: of each question, 0 to 1 (CIDEr-D more).
        scenes: which scene each question is about.
        seed: of the resampling.
    """
    means, counts = _scene_means(values, scenes)
    if len(means) > 1 and np.ptp(values) > 0:
        interval = interval_of_mean(means, counts, seed)
        what = f"bootstrap over {len(means)} scenes"
    else:
        interval = interval_of_mean(values, seed=seed)
        what = "" if interval is None else interval.method.replace("videos", "questions")
    scaled = None if interval is None else replace(interval.scaled(PERCENT), method=what)
    return Figure(PERCENT * float(values.mean()), len(values), scaled)


def percent_gained(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], scenes: Int[np.ndarray, " n"]
) -> Figure:
    """The mean of `first` - `second`, question by question, in percent, with an interval over scenes.

    With one scene the questions are resampled.
    """
    (one, counts), (two, _) = _scene_means(first, scenes), _scene_means(second, scenes)
    value = PERCENT * float((first - second).mean())
    if len(one) > 1:
        interval, what = paired_interval(one, two, counts), f"{len(one)} scenes"
    elif len(first) > 1:
        interval, what = paired_interval(first, second), f"{len(first)} questions"
    else:
        return Figure(value, len(first))
    return Figure(value, len(first), replace(interval.scaled(PERCENT), method=f"bootstrap over {what}, paired"))


def text_figures(
    predictions: Sequence[str],
    references: References,
    places: Int[np.ndarray, " n"],
    meteor: Meteor | None,
    seed: int = 0,
) -> tuple[dict[str, Float[np.ndarray, " n"]], dict[str, Figure]]:
    """Scores of tokenised texts: ROUGE-L and CIDEr-D of each text; and figures of those that are no means, and METEOR.

    Args:
        predictions: one text for each question.
        references: of each.
        places: which scene each question is about.
        meteor: which version, or None for none.
        seed: of the resampling.
    """
    items = {"rouge_l": rouge_l(predictions, references).items, "cider_d": cider_d(predictions, references).items}
    figures = _bleu_figures(bleu_counts(predictions, references), places, seed)
    if meteor is not None:
        figures[meteor.name] = _corpus_figure(meteor(predictions, references), places, seed)
    return items, figures


def _bleu_figures(counts: Float[np.ndarray, "n 10"], places: Int[np.ndarray, " n"], seed: int) -> dict[str, Figure]:
    intervals = bleu_intervals(counts, places, "scenes", seed)
    if intervals is None:
        intervals = bleu_intervals(counts, np.arange(len(counts)), "questions", seed)
    values = bleu_of_counts(counts.sum(axis=0))
    return {
        f"bleu_{n + 1}": Figure(
            PERCENT * float(value), len(counts), None if intervals is None else intervals[n].scaled(PERCENT)
        )
        for n, value in enumerate(values)
    }


def _corpus_figure(scored: Scored, places: Int[np.ndarray, " n"], seed: int) -> Figure:
    """The corpus' own value, which of the Java program is not the mean, with the interval of the mean."""
    figure = percent(scored.items, places, seed)
    if figure.interval is None:
        return replace(figure, value=PERCENT * scored.value)
    shift = PERCENT * scored.value - figure.value
    moved = replace(figure.interval, low=figure.interval.low + shift, high=figure.interval.high + shift)
    return replace(figure, value=PERCENT * scored.value, interval=moved)


def _scene_means(
    values: Float[np.ndarray, " n"], scenes: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Mean and number of each scene's values."""
    _, index, counts = np.unique(scenes, return_inverse=True, return_counts=True)
    return np.bincount(index, weights=values) / counts, counts.astype(np.float64)
