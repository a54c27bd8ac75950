"""Language about scenes written by a model, kept as it comes: asked once, checked, split by scene.

A folder holds `settings.json`, `scenes.jsonl` (what is known of each scene) and `replies.jsonl` (one line a finished
job, as it was answered). All else follows from these and is written anew at the end of each run: `records.jsonl`,
`rejected.jsonl`, `train.json`, `val.json`, `test.json` (3D-LLM's form) and `report.json`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from genworld.data.generated import KINDS, SPLITS, Checker, Generated, Kind, SceneBrief, entries, split_of
from genworld.pipelines.chat import ChatBackend, ChatError, Reply
from genworld.pipelines.chat_template import about_floor, can_write
from genworld.pipelines.command import provenance
from genworld.pipelines.lines import append_line, mend_lines, read_lines, to_lines, write_whole
from genworld.pipelines.scene_data_ways import Ask, Job, Place, Prompts, bundles, records_of
from genworld.types import SceneSource
from genworld.world.rooms.floor import sample_floor

logger = logging.getLogger(__name__)

Way = Literal["boxes", "chat", "revise"]
WAYS: tuple[Way, ...] = ("boxes", "chat", "revise")
_BUNDLE = 8  # questions that are revised together
_MOST_FAILURES = 10  # in a row, before the server is given up


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """What to have written.

    Attributes:
        way: from boxes, by chat about views, or by revising other data.
        kinds: of records; the chat makes captions only.
        samples: requests of each kind about each scene, each a little more daring.
        count: records a request.
        rounds: questions of the chat.
        views: that its viewer sees.
        temperature: of the first sample.
        prompts: folder of prompts.
    """

    way: Way
    kinds: tuple[Kind, ...] = KINDS
    samples: int = 1
    count: int = 4
    rounds: int = 3
    views: int = 4
    temperature: float = 0.7
    prompts: Path = field(default_factory=lambda: Prompts().folder)

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"way: expected one of {', '.join(WAYS)}, got {self.way!r}")
        if not self.kinds or any(kind not in KINDS for kind in self.kinds):
            raise ValueError(f"kinds: expected some of {', '.join(KINDS)}, got {', '.join(self.kinds) or 'none'}")
        if min(self.samples, self.count, self.rounds, self.views) < 1:
            raise ValueError("samples, count, rounds and views must be at least 1")


@dataclass(frozen=True)
class Floors:
    """Floors of the world by their seeds."""

    seeds: range

    @property
    def names(self) -> Sequence[str]:
        """As `Floor.name` says."""
        return [f"rooms-{seed}" for seed in self.seeds]

    def place(self, name: str) -> Place:
        """The floor of a name."""
        floor = sample_floor(int(name.removeprefix("rooms-")))
        scene = floor.scene()
        return Place(SceneBrief.of(scene, about_floor(floor)), scene, floor)


@dataclass(frozen=True)
class Scenes:
    """Scenes of a reader."""

    source: SceneSource

    @property
    def names(self) -> Sequence[str]:
        """As the reader says."""
        return self.source.names

    def place(self, name: str) -> Place:
        """Read a scene.

        Raises:
            ValueError: it cannot be read.
        """
        scene = self.source.read(name)
        return Place(SceneBrief.of(scene), scene)


@dataclass(frozen=True)
class Written:
    """Records of another folder, to be revised."""

    folder: Path

    @property
    def names(self) -> Sequence[str]:
        """Scenes that have records."""
        return list(dict.fromkeys(each.scene for each in self.records()))

    def records(self) -> list[Generated]:
        """Accepted records.

        Raises:
            ValueError: the folder holds none.
        """
        found = [Generated.from_json(line) for line in read_lines(self.folder / "records.jsonl")]
        if not found:
            raise ValueError(f"{self.folder}: no records to revise: expected a folder that this tool wrote")
        return found

    def place(self, name: str) -> Place:
        """What is known of a scene."""
        return Place(SceneBrief.from_json(self._briefs[name]))

    @cached_property
    def _briefs(self) -> dict[str, dict[str, Any]]:
        return {line["name"]: line for line in read_lines(self.folder / "scenes.jsonl")}


def generate(
    settings: GenerateSettings,
    places: Floors | Scenes | Written,
    writer: ChatBackend,
    folder: Path,
    viewer: ChatBackend | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Have the records written that are missing in `folder`, and write what follows from all of them.

    Args:
        settings: what.
        places: about which scenes.
        writer: writes, asks and summarises.
        folder: begun by an earlier run, or new.
        viewer: sees; the writer by default.
        progress: whether to show a bar.

    Returns:
        The report.

    Raises:
        ValueError: the folder was begun with other settings, the server refuses, or it fails ten times in a row.
    """
    prompts = Prompts(settings.prompts)
    _check_way(settings, places, writer)
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(folder, settings, writer, viewer or writer)
    run = _Run(settings, places, Ask(prompts, writer, viewer or writer, **_amounts(settings)), folder)
    run.go(progress)
    return finish(folder, run.failed, run.skipped, run.ask.tokens)


def finish(
    folder: Path, failed: Counter[str] | None = None, skipped: Counter[str] | None = None, tokens: int = 0
) -> dict[str, Any]:
    """Check all replies of a folder and write the records, the splits and the report; asks nobody."""
    briefs = {line["name"]: SceneBrief.from_json(line) for line in read_lines(folder / "scenes.jsonl")}
    checker, accepted, rejected = Checker(briefs.values()), [], []
    # In the order of their ids, so that which of two equal records is kept does not depend on who answered first.
    replies = sorted(read_lines(folder / "replies.jsonl"), key=lambda line: line["job"])
    for line in replies:
        reply = Reply(line["text"], line["cut_off"])
        records, bad = records_of(line["job"], line["scene"], line["kind"], reply)
        rejected += [{"job": line["job"], "text": text, "reason": reason} for text, reason in bad]
        for record in records:
            try:
                accepted.append(checker.check(record))
            except ValueError as error:
                rejected.append({"job": line["job"], "record": record.to_json(), "reason": str(error)})
    splits, repeated = _splits(accepted, briefs)
    report = {
        "scenes": dict(Counter(split_of(name) for name in briefs)),
        "objects_left_out": dict(sum((Counter(brief.left_out) for brief in briefs.values()), Counter())),
        "scenes_skipped": dict(skipped or {}),
        "jobs_done": len(replies),
        "jobs_failed_in_this_run": dict(failed or {}),
        "records": dict(Counter(record.kind for record in accepted)),
        "entries": {name: len(items) for name, items in splits.items()},
        "entries_repeated": repeated,
        "rejected": dict(Counter(each["reason"] for each in rejected).most_common()),
        "tokens_in_this_run": tokens,
        **provenance(),
    }
    write_whole(folder / "records.jsonl", to_lines(record.to_json() for record in accepted))
    write_whole(folder / "rejected.jsonl", to_lines(rejected))
    for name, items in splits.items():
        write_whole(folder / f"{name}.json", json.dumps(items, indent=1) + "\n")
    write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _splits(records: Iterable[Generated], briefs: dict[str, SceneBrief]) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Entries by split, and how many were left out because another dialogue begins in the same way."""
    splits: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    before: set[tuple[str, ...]] = set()
    repeated = 0
    for record in records:
        for entry in entries(record, briefs[record.scene]):
            key = (entry["scene_id"], entry["question"], *entry["answers"])
            if key in before:
                repeated += 1
                continue
            before.add(key)
            splits[split_of(record.scene)].append(entry)
    return splits, repeated


class _Run:
    """Jobs that are missing, asked for several at once; replies are written as they come, by one thread."""

    def __init__(self, settings: GenerateSettings, places: Floors | Scenes | Written, ask: Ask, folder: Path) -> None:
        self.settings, self.places, self.ask, self.folder = settings, places, ask, folder
        self.failed: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._in_a_row = 0
        self._known = {line["name"] for line in mend_lines(folder / "scenes.jsonl")}
        self._done = {line["job"] for line in mend_lines(folder / "replies.jsonl")}

    def go(self, progress: bool) -> None:
        jobs = [job for job in self._jobs() if job.id not in self._done]
        by_scene: dict[str, list[Job]] = {}
        for job in jobs:
            by_scene.setdefault(job.scene, []).append(job)
        workers = max(self.ask.writer.concurrency, 1)
        waiting: dict[Future[Reply], Job] = {}
        bar = tqdm(total=len(jobs), desc=f"asking {self.ask.writer.name}", unit="job", disable=not progress)
        pool = ThreadPoolExecutor(workers)
        try:
            for name, some in by_scene.items():
                place = self._place(name)
                if place is None:
                    bar.update(len(some))
                    continue
                for job in some:
                    waiting[pool.submit(self._way(), job, place)] = job
                    if len(waiting) >= 2 * workers:
                        self._collect(waiting, bar)
            while waiting:
                self._collect(waiting, bar)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            bar.close()

    def _way(self) -> Callable[[Job, Place], Reply]:
        return {"boxes": self.ask.boxes, "chat": self.ask.chat, "revise": self.ask.revise}[self.settings.way]

    def _jobs(self) -> Iterable[Job]:
        if isinstance(self.places, Written):
            for sources in bundles(self.places.records(), _BUNDLE):
                for kind in self.settings.kinds:
                    if kind != sources[0].kind:
                        first = sources[0]
                        yield Job(f"{first.id}>{kind}", first.scene, kind, 0, sources)
            return
        kinds: tuple[Kind, ...] = ("caption",) if self.settings.way == "chat" else self.settings.kinds
        for name in self.places.names:
            for kind in kinds:
                for sample in range(self.settings.samples):
                    yield Job(f"{name}/{self.settings.way}/{kind}/{sample}", name, kind, sample)

    def _place(self, name: str) -> Place | None:
        try:
            place = self.places.place(name)
        except ValueError as error:
            self.skipped[f"it cannot be read: {error}"] += 1
            return None
        if self.settings.way == "chat" and (place.scene is None or not place.scene.num_views):
            self.skipped["it has no views"] += 1
            return None
        knows_only_objects = self.settings.way != "chat" or self.ask.writer.name == "template"
        if knows_only_objects and not place.brief.objects:
            self.skipped["it has no objects"] += 1
            return None
        if name not in self._known:
            self._known.add(name)
            append_line(self.folder / "scenes.jsonl", place.brief.to_json())
        return place

    def _collect(self, waiting: dict[Future[Reply], Job], bar: tqdm) -> None:
        finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            job = waiting.pop(future)
            bar.update()
            try:
                reply = future.result()
            except ChatError as error:
                self._fail(job, str(error))
                continue
            self._in_a_row = 0
            line = {"job": job.id, "scene": job.scene, "kind": job.kind, "text": reply.text, "cut_off": reply.cut_off}
            append_line(self.folder / "replies.jsonl", line | {"model": self.ask.writer.name})

    def _fail(self, job: Job, reason: str) -> None:
        self.failed[reason] += 1
        self._in_a_row += 1
        logger.warning("%s: %s", job.id, reason)
        if self._in_a_row >= _MOST_FAILURES:
            raise ValueError(
                f"{self.ask.writer.name} failed {_MOST_FAILURES} times in a row ({reason}); what was answered is in "
                f"{self.folder}: start again to go on"
            )


def _check_way(settings: GenerateSettings, places: Floors | Scenes | Written, writer: ChatBackend) -> None:
    if (settings.way == "revise") != isinstance(places, Written):
        raise ValueError("way 'revise' needs a folder of records (--source); the others need scenes or floors")
    if writer.name != "template" or settings.way == "chat":
        return
    for kind in settings.kinds:
        if not can_write(kind, floors=isinstance(places, Floors)):
            raise ValueError(f"templates have no {kind}s but of floors of the world: leave {kind} out of --kinds")


def _amounts(settings: GenerateSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("count", "rounds", "views", "temperature")}


def _check_settings(folder: Path, settings: GenerateSettings, writer: ChatBackend, viewer: ChatBackend) -> None:
    words = b"".join(path.read_bytes() for path in sorted(settings.prompts.glob("*")) if path.is_file())
    now = {
        "way": settings.way,
        **_amounts(settings),
        "writer": writer.name,
        "viewer": viewer.name,
        "prompts": hashlib.blake2b(words, digest_size=8).hexdigest(),
    }
    path = folder / "settings.json"
    if not path.is_file():
        write_whole(path, json.dumps(now, indent=2) + "\n")
        return
    before = json.loads(path.read_text())
    other = [name for name in now if before.get(name) != now[name]]
    if other:
        raise ValueError(
            f"{folder} was begun with {', '.join(f'{name} {before.get(name)!r}' for name in other)}, now "
            f"{', '.join(repr(now[name]) for name in other)}: give the same, or another folder"
        )
