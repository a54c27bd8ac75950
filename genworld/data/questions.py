"""Questions about scenes, as the field's annotation files hold them, in one small record.

Each reader gives a `QuestionSet`: what can be used, and what cannot, with reasons. Where a file names no ids, a
question is known by its place in the file, which filtering does not move.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from genworld.data.records import read_records
from genworld.data.scene_files import listing, read_json
from genworld.types import Skipped

logger = logging.getLogger(__name__)

MV_TYPES = ("concept", "counting", "relation", "comparison")
"""What 3DMV-VQA's `type` 0 to 3 means."""

_MARKER = re.compile(r"(?:###\s*(?=human|assistant)|\b(?=Human|Robot|Agent))([A-Za-z]+(?: ?[12AB])?)\s*:")
_ASKS = ("human", "agent1", "agenta")
_UNANSWERED = frozenset(["", "agent", "agent 1", "agent 2", "robot"])


class Turn(NamedTuple):
    """Something said before."""

    role: Literal["human", "assistant"]
    text: str


@dataclass(frozen=True)
class Situation:
    """Where somebody stands who asks.

    Attributes:
        text: in words.
        alternatives: the same in other words.
        position: metres from the middle of the scene's bounding box, scene axes (SQA3D, as LEO draws it).
        rotation: unit quaternion x, y, z, w.
    """

    text: str
    alternatives: tuple[str, ...] = ()
    position: tuple[float, float, float] | None = None
    rotation: tuple[float, float, float, float] | None = None

    @property
    def heading(self) -> float | None:
        """Radians about z, from x towards y, of the turned x axis."""
        if self.rotation is None:
            return None
        x, y, z, w = self.rotation
        return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


@dataclass(frozen=True)
class Question:
    """One question, description or request about one scene.

    Attributes:
        id: unique in its set.
        scene: name of the scene.
        text: what is asked; of grounding sets, the description of the object.
        answers: any of which is right; none where they are kept secret, and in grounding sets.
        type: of the question, as its benchmark divides them; "" where it does not.
        situation: where the asker stands, if that is said apart.
        object_ids: instances that the question is about, or that are to be found.
        object_names: of these.
        history: what was said before, for dialogue.
    """

    id: str
    scene: str
    text: str
    answers: tuple[str, ...] = ()
    type: str = ""
    situation: Situation | None = None
    object_ids: tuple[int, ...] = ()
    object_names: tuple[str, ...] = ()
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a file, and the entries that are none."""

    questions: tuple[Question, ...]
    skipped: tuple[Skipped, ...] = ()

    def reasons(self) -> Counter[str]:
        """How many entries were left out for each reason."""
        return Counter(item.reason for item in self.skipped)


def read_scanqa(path: Path) -> QuestionSet:
    """ScanQA's `ScanQA_v1.0_*.json` (Azuma et al. 2022); the test files have no answers.

    Raises:
        ValueError: the file is no such list, or not one entry can be used. So for all readers here.
    """

    def parse(number: int, item: Mapping[str, Any]) -> Question:
        question = _question(number, item)
        return replace(question, type=scanqa_type(question.text))

    return _collect(path, _entries(path), parse)


def read_sqa3d(path: Path, annotations: Path | None) -> QuestionSet:
    """SQA3D's `v1_balanced_questions_*` and, for answers and poses, `v1_balanced_sqa_annotations_*` (Ma et al. 2023).

    The type is the question's first word, as in LEO: what, is, how, can, which or other.
    """
    known = {}
    if annotations is not None:
        known = {str(item.get("question_id")): item for item in _entries(annotations, "annotations")}

    def parse(number: int, item: Mapping[str, Any]) -> Question:
        if annotations is not None and str(item.get("question_id")) not in known:
            raise ValueError("no annotation has its id")
        entry = known.get(str(item.get("question_id")), {})
        answers = entry.get("answers")
        if isinstance(answers, list):
            answers = [each.get("answer") if isinstance(each, dict) else each for each in answers]
        question = _question(number, {**item, **({} if answers is None else {"answers": answers})})
        return replace(question, type=sqa3d_type(question.text), situation=_situation(item, entry))

    return _collect(path, _entries(path, "questions"), parse)


def read_scanrefer(path: Path) -> QuestionSet:
    """ScanRefer's `ScanRefer_filtered_*.json` (Chen et al. 2020), of which Scan2Cap's captions are made."""

    def parse(number: int, item: Mapping[str, Any]) -> Question:
        scene, target = _text(item, "scene_id", "scene"), _integer(item.get("object_id"))
        name = str(item.get("object_name", ""))
        text = _text(item, "description", "description")
        return Question(f"{scene}|{target}|{item.get('ann_id', number)}", scene, text, (), "", None, (target,), (name,))

    return _collect(path, _entries(path), parse)


def read_nr3d(path: Path, only_named: bool = True) -> QuestionSet:
    """Nr3D's and Sr3D's CSV (Achlioptas et al. 2020); easy with one other object of the class in the scene, else hard.

    Args:
        path: the table.
        only_named: leave out utterances that do not name the object's class, as ReferIt3D does.
    """

    def parse(number: int, item: Mapping[str, Any]) -> Question:
        scene, target, text = _text(item, "scan_id", "scene"), _integer(item.get("target_id")), ""
        text = _text(item, "utterance", "utterance")
        if only_named and str(item.get("mentions_target_class", "true")).lower() != "true":
            raise ValueError("it does not name the object's class")
        name = str(item.get("instance_type", ""))
        found = re.match(rf"{re.escape(scene)}-{re.escape(name)}-(\d+)-", str(item.get("stimulus_id", "")))
        kind = "" if found is None else "easy" if int(found[1]) <= 2 else "hard"
        return Question(str(item.get("assignmentid", number)), scene, text, (), kind, None, (target,), (name,))

    return _collect(path, [record for _, record in read_records(path)], parse)


def read_multi3drefer(path: Path) -> QuestionSet:
    """Multi3DRefer's JSON (Zhang et al. 2023): none, one or several objects for a description; `eval_type` as type."""

    def parse(number: int, item: Mapping[str, Any]) -> Question:
        scene, text = _text(item, "scene_id", "scene"), _text(item, "description", "description")
        ids = item.get("object_ids")
        if not isinstance(ids, list):
            raise ValueError("object_ids is not a list")
        targets = tuple(_integer(each) for each in ids)
        name = f"{scene}|{'-'.join(map(str, targets))}|{item.get('ann_id', number)}"
        kind, names = str(item.get("eval_type", "")), (str(item.get("object_name", "")),)
        return Question(name, scene, text, (), kind, None, targets, names)

    return _collect(path, _entries(path), parse)


def read_3dmv_vqa(path: Path) -> QuestionSet:
    """3DMV-VQA (Hong et al. 2023) as 3D-LLM uses it (`type` 0 to 3) or as 3D-CLR released it (`template`, `answer`)."""

    def parse(number: int, item: Mapping[str, Any]) -> Question:
        answers = item.get("answers", item.get("answer"))
        question = _question(number, {**item, **({} if answers is None else {"answers": answers})})
        kind = item.get("type", item.get("template", ""))
        if isinstance(kind, int) and not 0 <= kind < len(MV_TYPES):
            raise ValueError(f"type {kind} is none of 0 to {len(MV_TYPES) - 1}")
        return replace(question, type=MV_TYPES[kind] if isinstance(kind, int) else str(kind))

    return _collect(path, _entries(path), parse)


def read_3dllm(path: Path, scenes: Mapping[str, str] | None = None) -> QuestionSet:
    """3D-LLM's own files (Hong et al. 2023), and LL3DA's cleaned ones: questions, dialogue, plans, descriptions.

    What was said before becomes `history`, without its markers ("Human:", "Agent 1:", "### human:" and the like). Left
    out, with reasons, is what LL3DA leaves out: answers that go on asking or say nothing, and repetitions.

    Args:
        path: the list.
        scenes: names of scenes by their numbers (see `read_scene_map`); scenes that it lacks are left out.
    """
    before: set[tuple[str, ...]] = set()
    named = None if scenes is None else {*scenes, *scenes.values()}

    def parse(number: int, item: Mapping[str, Any]) -> Question:
        if named is not None and str(item.get("scene_id")) not in named:
            raise ValueError("its scene is not in the map")
        question = _question(number, item)
        turns = split_turns(question.text)
        if not turns or turns[-1].role != "human":
            raise ValueError("the last turn is not the human's")
        answers = tuple(map(_answer, question.answers))
        scene = (scenes or {}).get(question.scene, question.scene)
        key = (scene, *(turn.text for turn in turns), *answers)
        if key in before:
            raise ValueError("the same question and answer occur before")
        before.add(key)
        return replace(question, scene=scene, text=turns[-1].text, history=turns[:-1], answers=answers)

    return _collect(path, _entries(path), parse)


def read_scene_map(path: Path) -> dict[str, str]:
    """3D-LLM's `final_scene_map_dict_scan_v2.json`: names of scenes by their numbers.

    Raises:
        ValueError: it is something else.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ValueError(f'{path}: expected an object such as {{"1008": "scene0335_00"}}')
    return found


def split_turns(text: str) -> tuple[Turn, ...]:
    """The turns of a dialogue with markers; what precedes the first is the human's, and empty turns are dropped."""
    parts = _MARKER.split(text)
    pairs = [("human", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    said: list[Turn] = []
    for marker, words in pairs:
        role: Literal["human", "assistant"] = "human" if _plain(marker) in _ASKS else "assistant"
        if words.strip():
            said.append(Turn(role, " ".join(words.split())))
    return tuple(said)


def sqa3d_type(text: str) -> str:
    """By how the question begins (LEO): what, is, how, can, which, other."""
    start = text.lstrip().lower()
    return next((kind for kind in ("what", "is", "how", "can", "which") if start.startswith(kind)), "other")


def scanqa_type(text: str) -> str:
    """By words that it contains (ScanQA's scorer): place, number, color, object nature, object, other."""
    kinds = {
        "place": ("Where",),
        "number": ("How many",),
        "color": ("What color", "What is the color"),
        "object nature": ("What shape", "What type", "What kind"),
        "object": ("What is",),
    }
    return next((kind for kind, starts in kinds.items() if any(start in text for start in starts)), "other")


def _collect(
    path: Path, items: Iterable[Mapping[str, Any]], parse: Callable[[int, Mapping[str, Any]], Question]
) -> QuestionSet:
    questions: dict[str, Question] = {}
    skipped = []
    for number, item in enumerate(items):
        try:
            if not isinstance(item, dict):
                raise ValueError("it is not an object")
            question = parse(number, item)
            if question.id in questions:
                raise ValueError("its id occurs before")
        except ValueError as error:
            skipped.append(Skipped(f"{path}, item {number}", str(error)))
        else:
            questions[question.id] = question
    if not questions:
        raise ValueError(f"{path}: not one of {len(skipped)} entries can be used:{listing(skipped)}")
    if skipped:
        logger.warning(
            "%s: %d of %d entries left out:%s", path, len(skipped), len(skipped) + len(questions), listing(skipped)
        )
    return QuestionSet(tuple(questions.values()), tuple(skipped))


def _entries(path: Path, key: str | None = None) -> list[Any]:
    found = read_json(path)
    if key is not None and isinstance(found, dict):
        found = found.get(key)
    if not isinstance(found, list):
        raise ValueError(f"{path}: expected a list of objects{f' under {key!r}' if key else ''}, got {found!r:.60}")
    return found


def _question(number: int, item: Mapping[str, Any]) -> Question:
    ids, names = item.get("object_ids", []), item.get("object_names", [])
    if not isinstance(ids, list) or not isinstance(names, list):
        raise ValueError("object_ids or object_names is not a list")
    return Question(
        id=str(item.get("question_id", number)),
        scene=_text(item, "scene_id", "scene"),
        text=_text(item, "question", "question"),
        answers=tuple(_answers(item)),
        object_ids=tuple(_integer(each) for each in ids),
        object_names=tuple(map(str, names)),
    )


def _answers(item: Mapping[str, Any]) -> Iterator[str]:
    if "answers" not in item:
        return
    found = item["answers"]
    found = found if isinstance(found, list) else [found]
    if not found or not all(isinstance(each, str | int) for each in found):
        raise ValueError("its answers are not a list of texts")
    if not all(str(each).strip() for each in found):
        raise ValueError("an answer is empty")
    yield from map(str, found)


def _situation(item: Mapping[str, Any], entry: Mapping[str, Any]) -> Situation | None:
    text, others = item.get("situation"), item.get("alternative_situation", [])
    if not isinstance(text, str) or not text.strip():
        raise ValueError("it has no situation")
    place, turn = entry.get("position"), entry.get("rotation")
    try:
        position = None if place is None else (float(place["x"]), float(place["y"]), float(place["z"]))
        rotation = None if turn is None else tuple(float(turn[f"_{axis}"]) for axis in "xyzw")
    except (KeyError, TypeError, ValueError):
        raise ValueError("its position or rotation is not of numbers") from None
    if not all(map(math.isfinite, (*(position or ()), *(rotation or ())))):
        raise ValueError("its position or rotation is not finite")
    assert rotation is None or len(rotation) == 4
    return Situation(text, tuple(map(str, others)), position, rotation)


def _answer(text: str) -> str:
    if any(_plain(marker) in _ASKS for marker in _MARKER.findall(text)):
        raise ValueError("its answer goes on with a question")
    words = " ".join(_MARKER.sub(" ", text).split())
    if words.lower() in _UNANSWERED:
        raise ValueError("its answer says nothing")
    return words


def _plain(marker: str) -> str:
    return marker.lower().replace(" ", "")


def _text(item: Mapping[str, Any], key: str, what: str) -> str:
    found = item.get(key)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)  # 3D-LLM's scenes have numbers
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"it has no {what}")
    return found.strip()


def _integer(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError("an object's id is not a number") from None
