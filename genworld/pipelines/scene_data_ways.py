"""3D-LLM's three ways to have language about scenes written: boxes, chat and revision (Hong et al. 2023, section 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from string import Template
from threading import Lock
from typing import Any

from genworld.data.generated import Generated, Kind, SceneBrief, items_of, parse_item
from genworld.data.scene_files import listing, read_json
from genworld.pipelines.chat import ChatBackend, ChatError, Message, Picture, Reply, Request, Subject
from genworld.types import Scene, Skipped
from genworld.world.rooms.floor import Floor

PROMPTS = Path(__file__).parents[1] / "assets" / "prompts"


@dataclass(frozen=True)
class Place:
    """A scene in use: its objects, views where they are needed, and the floor where it is one of the world's."""

    brief: SceneBrief
    scene: Scene | None = None
    floor: Floor | None = None


@dataclass(frozen=True)
class Job:
    """What is asked for at once; its id says all that distinguishes it."""

    id: str
    scene: str
    kind: Kind
    sample: int = 0
    sources: tuple[Generated, ...] = ()


@dataclass(frozen=True)
class Prompts:
    """The words that are sent, from a folder of files named as those in `genworld/assets/prompts`."""

    folder: Path = PROMPTS

    def fill(self, name: str, **values: Any) -> str:
        """A file with its `$names` filled in.

        Raises:
            ValueError: there is no such file, or it has other names.
        """
        path = self.folder / f"{name}.txt"
        if not path.is_file():
            raise ValueError(f"{path}: no such prompt; copy genworld/assets/prompts and change the copy")
        try:
            return Template(path.read_text(encoding="utf-8")).substitute(values).strip()
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: {error}: it may use {', '.join(f'${name}' for name in values)}") from None

    @cached_property
    def demonstration(self) -> Mapping[str, Any]:
        """A scene's objects, and items of each kind about them."""
        return read_json(self.folder / "demonstrations.json")

    def demonstrate(self, kind: Kind) -> tuple[str, str]:
        """The demonstration's scene and a good reply about it."""
        brief = SceneBrief.from_json({"name": "", "left_out": {}, "objects": self.demonstration["objects"]})
        return str(brief), json.dumps(self.demonstration[kind])


@dataclass
class Ask:
    """How backends are asked; counts the tokens. Safe to use from several threads."""

    prompts: Prompts
    writer: ChatBackend
    viewer: ChatBackend
    count: int = 4
    rounds: int = 3
    views: int = 4
    temperature: float = 0.7
    tokens: int = field(default=0, init=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def boxes(self, job: Job, place: Place) -> Reply:
        """Objects, a demonstration, an instruction: records of one kind."""
        task = self.prompts.fill(f"boxes_{job.kind}", count=self.count)
        shown, answer = self.prompts.demonstrate(job.kind)
        messages = (
            Message("system", self.prompts.fill("boxes_system")),
            Message("user", f"{shown}\n\n{task}"),
            Message("assistant", answer),
            Message("user", f"{place.brief}\n\n{task}"),
        )
        subject = Subject("records", job.kind, place.brief, place.floor, job.sample, self.count)
        return self._records(Request(messages, subject, self._temperature(job)))

    def revise(self, job: Job, place: Place) -> Reply:
        """Records of one kind into those of another."""
        task = self.prompts.fill(f"boxes_{job.kind}", count=self.count)
        texts = "\n\n".join("\n".join(f"{turn.role}: {turn.text}" for turn in each.turns) for each in job.sources)
        words = self.prompts.fill("revise", source=job.sources[0].kind, task=task, texts=texts)
        messages = (
            Message("system", self.prompts.fill("boxes_system")),
            Message("user", f"{place.brief}\n\n{words}"),
        )
        subject = Subject("records", job.kind, place.brief, None, job.sample, self.count, sources=job.sources)
        return self._records(Request(messages, subject, self._temperature(job)))

    def chat(self, job: Job, place: Place) -> Reply:
        """A questioner and a viewer in rounds, then a summary (ChatCaptioner); all views are shown at once."""
        scene = place.scene
        if scene is None or not scene.num_views:
            raise ValueError(f"scene {job.scene} has no views to look at")
        number, lost = min(self.views, scene.num_views), list[Skipped]()
        spread = [round(i * (scene.num_views - 1) / max(number - 1, 1)) for i in range(number)]
        seen = dict(scene.readable(lost, spread))
        if not seen:
            raise ChatError(f"scene {job.scene}: none of the views to look at can be read:{listing(lost)}")
        views, pictures = tuple(seen), tuple(map(Picture, seen.values()))
        said: list[tuple[str, str]] = []

        def subject(step: Any) -> Subject:
            return Subject(step, "caption", place.brief, place.floor, job.sample, 1, views, tuple(said))

        for _ in range(self.rounds):
            turns = [m for q, a in said for m in (Message("assistant", q), Message("user", a))]
            asked = (Message("system", self.prompts.fill("chat_questioner")), Message("user", "Begin."), *turns)
            question = self._ask(self.writer, Request(asked, subject("question"), self._temperature(job))).text.strip()
            look = (Message("system", self.prompts.fill("chat_viewer")), Message("user", question, pictures))
            answer = self._ask(self.viewer, Request(look, subject("answer"), 0.0)).text.strip()
            said.append((question, answer))
        told = "\n".join(f"Q: {question}\nA: {answer}" for question, answer in said)
        words = self.prompts.fill("chat_summary", said=told, objects=str(place.brief) or "none")
        return self._records(Request((Message("user", words),), subject("summary"), 0.0))

    def _records(self, request: Request) -> Reply:
        """The reply; asked once more where nothing in it can be used."""
        reply = self._ask(self.writer, request)
        if items_of(reply.text, reply.cut_off)[0]:
            return reply
        return self._ask(self.writer, request)

    def _ask(self, backend: ChatBackend, request: Request) -> Reply:
        reply = backend.reply(request)
        with self._lock:
            self.tokens += reply.tokens
        return reply

    def _temperature(self, job: Job) -> float:
        return min(self.temperature + 0.1 * job.sample, 1.2)  # as 3D-LLM does, for variety


def records_of(job_id: str, scene: str, kind: Kind, reply: Reply) -> tuple[list[Generated], list[tuple[str, str]]]:
    """The records of a reply, and what of it is none: what it was, and why."""
    items, faults = items_of(reply.text, reply.cut_off)
    records, bad = [], [(reply.text[-80:], fault) for fault in faults]
    for number, item in enumerate(items):
        try:
            records.append(parse_item(item, kind, f"{job_id}/{number}", scene))
        except ValueError as error:
            bad.append((json.dumps(item)[:80], str(error)))
    return records, bad


def bundles(records: Sequence[Generated], size: int) -> list[tuple[Generated, ...]]:
    """Records of one kind and scene to be revised together: questions several at once, the rest one by one."""
    groups: dict[tuple[str, str], list[Generated]] = {}
    for record in records:
        groups.setdefault((record.scene, record.kind), []).append(record)
    found: list[tuple[Generated, ...]] = []
    for (_, kind), group in groups.items():
        step = size if kind == "qa" else 1
        found += [tuple(group[i : i + step]) for i in range(0, len(group), step)]
    return found
