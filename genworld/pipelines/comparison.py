"""Two results side by side: is a difference more than chance, and may the two be compared at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genworld.eval.bootstrap import Interval, jackknife_of_difference, paired_interval, unpaired_interval

FORMAT = 1
"""Of results.json."""
ROUNDING = 1e-5
"""Part of a number that another batch size or machine may change."""


@dataclass(frozen=True)
class Difference:
    """Of one metric between two results; without `interval`, `reason` says why there is none.

    Attributes:
        name: of the metric.
        first: its value in the first.
        second: its value in the second.
        interval: of first - second.
        reason: why they are not compared.
        better: "higher", "lower" or "".
    """

    name: str
    first: float
    second: float
    interval: Interval | None
    reason: str
    better: str

    @property
    def verdict(self) -> str:
        """In words."""
        if self.interval is None:
            return f"not compared: {self.reason}"
        if 0.0 in self.interval or abs(self.first - self.second) <= ROUNDING * max(abs(self.first), abs(self.second)):
            return "within noise"
        if not self.better:
            return "differs"
        return f"{'first' if (self.first > self.second) == (self.better == 'higher') else 'second'} is better"

    def __str__(self) -> str:
        values = f"{self.name:<34} {self.first:>10.4g} {self.second:>10.4g}"
        if self.interval is None:
            return f"{values}   {self.verdict}"
        low, high, method = self.interval.low, self.interval.high, self.interval.method
        return f"{values}   {self.first - self.second:+.4g} [{low:+.4g}, {high:+.4g}]  {self.verdict} ({method})"


def read_record(path: Path) -> dict[str, Any]:
    """A results.json, or the one in a folder.

    Raises:
        ValueError: it is none, or of another version.
    """
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file}: no such results: give results.json of tools/evaluate.py, or its folder")
    try:
        record = json.loads(file.read_text("utf-8"))
    except ValueError:
        raise ValueError(f"{file} is not JSON") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{file} is not a results.json of tools/evaluate.py of format {FORMAT}")
    return record


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Every metric that both have.

    Raises:
        ValueError: they have none in common.
    """
    shared = [name for name in first["metrics"] if name in second["metrics"]]
    if not shared:
        raise ValueError(f"no metric in common: {', '.join(first['metrics'])} against {', '.join(second['metrics'])}")
    return [_difference(name, first, second) for name in shared]


def _difference(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Difference:
    one, two = first["metrics"][name], second["metrics"][name]
    reason, interval = _why_not(name, first, second), None
    if not reason:
        interval = _interval(one, two, first, second)
        reason = "" if interval else "no values of each video and no groups were kept: chance cannot be told"
    return Difference(name, one["value"], two["value"], interval, reason, one.get("better", ""))


def _why_not(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    one, two = first["metrics"][name], second["metrics"][name]
    if one["convention"] != two["convention"]:
        return f"other conventions: {_where_they_part(one['convention'], two['convention'])}"
    if name.startswith("world["):
        return ""  # which cases is in the convention
    for key, words in (("shape", "videos of other shapes"), ("prompts_sha256", "other prompts")):
        if first["clips"][key] != second["clips"][key]:
            return f"{words} ({_short(first['clips'][key])} against {_short(second['clips'][key])})"
    if first["clips"]["kind"] == second["clips"]["kind"] == "held out" and not _same_pixels(first, second):
        return "other held-out clips under the same captions"
    if one.get("left_out") and _real(first) != _real(second):
        return "compared with other real videos"
    return ""


def _same_pixels(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return bool(first["clips"]["pixels_sha256"] == second["clips"]["pixels_sha256"])


def _real(record: Mapping[str, Any]) -> Any:
    return record.get("real_clips", record["clips"])["pixels_sha256"]


def _interval(
    one: Mapping[str, Any], two: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]
) -> Interval | None:
    """Paired where both are of the same videos' prompts and seeds; by groups for what is no mean over videos."""
    paired = first.get("seeds") == second.get("seeds")
    if one.get("left_out") and two.get("left_out"):
        return jackknife_of_difference(one["value"], two["value"], one["left_out"], two["left_out"], paired)
    columns = [_column(entry, record) for entry, record in ((one, first), (two, second))]
    if not all(columns) or one["num"] < 2 or two["num"] < 2:
        return None
    scale = one.get("scale", 1.0)
    shared = sorted(set(columns[0]) & set(columns[1]))
    if paired and shared == sorted(columns[0]) == sorted(columns[1]):
        weights = _column(one, first, "weights")
        shares = [weights[i] for i in shared] if weights else None
        found = paired_interval([columns[0][i] for i in shared], [columns[1][i] for i in shared], shares)
    else:
        found = unpaired_interval(*(np.array(list(column.values())) for column in columns))
    return found.scaled(scale)


def _column(entry: Mapping[str, Any], record: Mapping[str, Any], kind: str = "column") -> dict[int, float]:
    """The values of a metric by position; empty where they were not kept."""
    path = entry.get(kind, "")
    tables = record["per_video"]
    table = next((name for name in sorted(tables, key=len, reverse=True) if path.startswith(f"{name}/")), None)
    if table is None:
        return {}
    values = tables[table].get(path.removeprefix(f"{table}/"), [])
    pairs = zip(tables[table]["position"], values, strict=bool(values))
    return {int(position): value for position, value in pairs if value is not None}


def _where_they_part(one: str, two: str) -> str:
    pairs = [(a, b) for a, b in zip(one.split("; "), two.split("; "), strict=False) if a != b]
    return f"{pairs[0][0]!r} against {pairs[0][1]!r}" if pairs else f"{one!r} against {two!r}"


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value
