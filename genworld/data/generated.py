"""Language about scenes that a model was asked for: its records, what is checked of them, and how they are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from genworld.data.questions import Question, QuestionSet, Turn, read_3dllm
from genworld.data.scene_files import read_json
from genworld.types import Scene

Kind = Literal["qa", "caption", "dialogue", "plan"]
KINDS: tuple[Kind, ...] = ("qa", "caption", "dialogue", "plan")
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
CAPTION_REQUEST = "Describe the scene."

_MARGIN = 0.1  # metres that a box may reach beyond the scene's
_NOTHING = re.compile(r"(no|none|not|nothing|zero|0)\b", re.IGNORECASE)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_RESCAN = re.compile(r"(scene\d{4})_\d\d")


@dataclass(frozen=True)
class SceneObject:
    """An object as a writer is told of it: metres, scene axes; `about` are words such as colour and room."""

    id: int
    label: str
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    about: tuple[str, ...] = ()

    def __str__(self) -> str:
        centre = [(a + b) / 2 for a, b in zip(self.lower, self.upper, strict=True)]
        size = [b - a for a, b in zip(self.lower, self.upper, strict=True)]
        words = f" {', '.join(self.about)};" if self.about else ""
        return f"{self.label}({self.id}):{words} centre {_metres(centre)} size {_metres(size)}"


@dataclass(frozen=True)
class SceneBrief:
    """The objects of a scene; `left_out` says how many boxes could not be used or were too many, by reason."""

    name: str
    objects: tuple[SceneObject, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def by_id(self) -> dict[int, SceneObject]:
        """Objects by their ids."""
        return {each.id: each for each in self.objects}

    def __str__(self) -> str:
        return "\n".join(map(str, self.objects))

    @classmethod
    def of(cls, scene: Scene, about: Mapping[int, tuple[str, ...]] | None = None, most: int = 120) -> SceneBrief:
        """The objects of a scene: of more than `most`, the largest."""
        good, broken = [], 0
        for box in scene.boxes:
            if not bool((box.upper >= box.lower).all() and box.lower.isfinite().all() and box.upper.isfinite().all()):
                broken += 1
                continue
            low, high = box.lower.tolist(), box.upper.tolist()
            good.append(SceneObject(box.id, box.label, tuple(low), tuple(high), (about or {}).get(box.id, ())))
        kept = {id(each) for each in sorted(good, key=lambda each: -_volume(each))[:most]}
        counts = {"a box is not finite, or upside down": broken, f"more than {most} objects": len(good) - len(kept)}
        objects = tuple(each for each in good if id(each) in kept)
        return cls(scene.name, objects, {reason: count for reason, count in counts.items() if count})

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "objects": [vars(x) for x in self.objects], "left_out": dict(self.left_out)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SceneBrief:
        """The inverse of `to_json`."""
        objects = [
            SceneObject(x["id"], x["label"], tuple(x["lower"]), tuple(x["upper"]), tuple(x["about"]))
            for x in data["objects"]
        ]
        return cls(data["name"], tuple(objects), data["left_out"])


@dataclass(frozen=True)
class Generated:
    """A question with its answer, a caption, a dialogue or a plan: turns of a human and an assistant.

    Attributes:
        id: unique in its folder.
        scene: name.
        kind: which of the four.
        turns: in turn, the human first; a plan's answer has a numbered step a line.
        objects: ids of what it speaks of.
        boxes: places that it gives, x0 y0 z0 x1 y1 z1 in metres, scene axes.
    """

    id: str
    scene: str
    kind: Kind
    turns: tuple[Turn, ...]
    objects: tuple[int, ...] = ()
    boxes: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return vars(self) | {"turns": [list(turn) for turn in self.turns]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Generated:
        """The inverse of `to_json`."""
        boxes = tuple(tuple(box) for box in data["boxes"])
        turns = tuple(Turn(*turn) for turn in data["turns"])
        return cls(data["id"], data["scene"], data["kind"], turns, tuple(data["objects"]), boxes)


def split_of(scene: str) -> Split:
    """8:1:1 by a hash of the scene's name; rescans of a room of ScanNet stay together."""
    found = _RESCAN.fullmatch(scene)
    number = int.from_bytes(blake2b((found[1] if found else scene).encode(), digest_size=8).digest(), "big") % 10
    return "train" if number < 8 else "val" if number == 8 else "test"


def items_of(text: str, cut_off: bool = False) -> tuple[list[Any], list[str]]:
    """The objects of a reply that is a JSON list, or one object; of a reply that was cut off, those that are whole.

    Returns:
        The items, and what is wrong with the rest.
    """
    start = min((at for mark in "[{" if (at := text.find(mark)) >= 0), default=-1)
    if start < 0:
        return [], ["the reply has no JSON"]
    decoder = json.JSONDecoder()
    try:
        found, _ = decoder.raw_decode(text, start)
        return (found if isinstance(found, list) else [found]), ([] if found else ["the reply has no items"])
    except json.JSONDecodeError:
        pass
    items, at = [], text.find("{", start)
    while at >= 0:
        try:
            item, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            break
        items.append(item)
        at = text.find("{", at)
    return items, ["the reply was cut off" if cut_off else "the reply is no valid JSON"]


def parse_item(item: Any, kind: Kind, id: str, scene: str) -> Generated:
    """A record from an item of a reply.

    Raises:
        ValueError: says in a few words what is missing.
    """
    if not isinstance(item, dict):
        raise ValueError("an item is not an object")
    ids, boxes = item.get("objects", []), item.get("boxes", [])
    if not isinstance(ids, list) or not all(isinstance(each, int) and not isinstance(each, bool) for each in ids):
        raise ValueError("objects are not a list of ids")
    if not isinstance(boxes, list) or not all(map(_is_box, boxes)):
        raise ValueError("a box is not six numbers")
    turns = {"qa": _qa, "caption": _caption, "dialogue": _dialogue, "plan": _plan}[kind](item)
    return Generated(id, scene, kind, turns, tuple(dict.fromkeys(ids)), tuple(map(tuple, boxes)))


def _qa(item: Mapping[str, Any]) -> tuple[Turn, ...]:
    return Turn("human", _said(item, "question")), Turn("assistant", _said(item, "answer"))


def _caption(item: Mapping[str, Any]) -> tuple[Turn, ...]:
    return Turn("human", CAPTION_REQUEST), Turn("assistant", _said(item, "caption"))


def _plan(item: Mapping[str, Any]) -> tuple[Turn, ...]:
    steps = item.get("steps")
    if (
        not isinstance(steps, list)
        or not steps
        or not all(isinstance(x, str) and x.strip(" .0123456789") for x in steps)
    ):
        raise ValueError("a plan has no steps, or an empty one")
    plain = [re.sub(r"^\s*\d+[.)]\s*", "", " ".join(step.split())) for step in steps]
    text = f"{item.get('situation') or ''} {_said(item, 'goal')}".strip()
    return Turn("human", text), Turn("assistant", "\n".join(f"{i}. {step}" for i, step in enumerate(plain, 1)))


def _dialogue(item: Mapping[str, Any]) -> tuple[Turn, ...]:
    said = item.get("turns")
    if not isinstance(said, list) or not said or len(said) % 2 or not all(isinstance(each, dict) for each in said):
        raise ValueError("a dialogue is not pairs of turns")
    for number, each in enumerate(said):
        if each.get("speaker") != ("human", "assistant")[number % 2]:
            raise ValueError("the speakers of a dialogue do not take turns")
    return tuple(Turn(each["speaker"], _said(each, "text")) for each in said)


def _said(item: Mapping[str, Any], key: str) -> str:
    found = item.get(key)
    found = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"there is no {key}")
    return " ".join(found.split())


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 6 and all(isinstance(x, int | float) and abs(x) < 1e6 for x in box)


class Checker:
    """Whether a record can be true: its ids and boxes, the things that it names, and what was said before."""

    def __init__(self, briefs: Iterable[SceneBrief]) -> None:
        self.briefs = {brief.name: brief for brief in briefs}
        labels = sorted({each.label.lower() for b in self.briefs.values() for each in b.objects}, key=len, reverse=True)
        self._words = re.compile(rf"\b({'|'.join(map(re.escape, labels))})(?:s|es)?\b") if labels else None
        self._before: dict[tuple[str, ...], str] = {}

    def check(self, record: Generated) -> Generated:
        """The record, with marks such as chair(3) turned into words.

        Raises:
            ValueError: it is refused; says why, in the same words for all records with that fault.
        """
        brief = self.briefs[record.scene]
        turns, named = [], list(record.objects)
        for turn in record.turns:
            text, ids = _without_marks(turn.text, brief)
            turns.append(Turn(turn.role, text))
            named += ids
        record = replace(record, turns=tuple(turns), objects=tuple(dict.fromkeys(named)))
        if any(each not in brief.by_id for each in record.objects):
            raise ValueError("it names an object that is not there")
        self._check_boxes(record, brief)
        self._check_words(record, brief)
        self._check_repetition(record)
        return record

    def _check_boxes(self, record: Generated, brief: SceneBrief) -> None:
        for box in record.boxes:
            low, high = box[:3], box[3:]
            if any(a > b for a, b in zip(low, high, strict=True)):
                raise ValueError("a box is upside down")
            for axis in range(3):
                least = min((x.lower[axis] for x in brief.objects), default=0.0) - _MARGIN
                most = max((x.upper[axis] for x in brief.objects), default=0.0) + _MARGIN
                if low[axis] < least or high[axis] > most:
                    raise ValueError("a box lies outside the scene")

    def _check_words(self, record: Generated, brief: SceneBrief) -> None:
        if not brief.objects:
            return  # nothing is known of what is there
        answers = [turn.text for turn in record.turns if turn.role == "assistant"]
        there = {each.label.lower() for each in brief.objects}
        for answer in answers:
            if not _NOTHING.match(answer):
                found = self._words.findall(answer.lower()) if self._words else []
                if any(word not in there for word in found):
                    raise ValueError("it speaks of a thing that the scene does not have")
        if not record.objects and not all(map(_NOTHING.match, answers)):
            raise ValueError("it names no object that it rests on")
        asked = record.turns[0].text.lower()
        number = _number(answers[0]) if record.kind == "qa" and asked.startswith("how many") else None
        if number is not None and number != len(record.objects):
            raise ValueError("its count is not that of the objects it names")

    def _check_repetition(self, record: Generated) -> None:
        *asked, answer = (re.sub(r"\W+", " ", turn.text.lower()).strip() for turn in record.turns)
        # Only a question has one answer: there are several ways to describe a place, or to reach a goal.
        key = (record.scene, record.kind, *asked, *([] if record.kind == "qa" else [answer]))
        if key in self._before:
            same = self._before[key] == answer
            raise ValueError("the same was said before" if same else "it contradicts what was said before")
        self._before[key] = answer


def entries(record: Generated, brief: SceneBrief) -> Iterator[dict[str, Any]]:
    """As 3D-LLM keeps it: one entry for each thing that the assistant says, with what was said before."""
    markers = {"human": "Human: ", "assistant": "Robot: "}
    for number in range(1, len(record.turns), 2):
        before = record.turns[:number]
        text = before[0].text if number == 1 else " ".join(markers[turn.role] + turn.text for turn in before)
        yield {
            "question_id": record.id if len(record.turns) == 2 else f"{record.id}/{number // 2}",
            "scene_id": record.scene,
            "question": text,
            "answers": [record.turns[number].text],
            "object_ids": list(record.objects),
            "object_names": [brief.by_id[each].label for each in record.objects],
            "boxes": [list(box) for box in record.boxes],
            "type": record.kind,
        }


def read_generated(path: Path) -> QuestionSet:
    """A split that was written here (`train.json`), with the kinds of its records as types.

    Raises:
        ValueError: it is no such file.
    """
    found = read_3dllm(path)
    items = {str(item.get("question_id", n)): item for n, item in enumerate(read_json(path)) if isinstance(item, dict)}
    return replace(found, questions=tuple(_as_written(each, items[each.id]) for each in found.questions))


def _as_written(question: Question, item: Mapping[str, Any]) -> Question:
    """With its kind; a plan has a step a line, where readers of 3D-LLM's files see one line."""
    kind = str(item.get("type", ""))
    answers = tuple(item["answers"]) if kind == "plan" else question.answers
    return replace(question, type=kind, answers=answers)


def _without_marks(text: str, brief: SceneBrief) -> tuple[str, list[int]]:
    ids = []
    for match in re.finditer(r"\b([A-Za-z][A-Za-z ]*?)\((\d+)\)", text):
        number = int(match[2])
        known = brief.by_id.get(number)
        if known is None:
            raise ValueError("it names an object that is not there")
        if not match[1].lower().endswith(known.label.lower()):
            raise ValueError("it calls an object by another name")
        ids.append(number)
    return re.sub(r"(?<=\w)\(\d+\)", "", text), ids


def _number(text: str) -> int | None:
    word = text.strip(" .").lower()
    return int(word) if word.isdecimal() else _NUMBERS.index(word) if word in _NUMBERS else None


def _volume(each: SceneObject) -> float:
    x, y, z = (b - a for a, b in zip(each.lower, each.upper, strict=True))
    return x * y * z


def _metres(numbers: Sequence[float]) -> str:
    return "[" + ", ".join(f"{x:.2f}" for x in numbers) + "]"
