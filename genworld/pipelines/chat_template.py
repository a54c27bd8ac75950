"""A backend that needs no model: it answers requests in the asked form, from the truth that it is told of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from random import Random
from typing import Any

from genworld.data.generated import Kind, SceneObject
from genworld.pipelines.chat import Reply, Request, Subject
from genworld.world.rooms.floor import SEEN, Floor
from genworld.world.rooms.language import Facts, questions
from genworld.world.rooms.language.captions import CAPTION_STYLES, caption, number
from genworld.world.rooms.language.dialogue import dialogue
from genworld.world.rooms.language.facts import article, listed, plural
from genworld.world.rooms.language.plans import plans
from genworld.world.rooms.language.referring import references

Item = dict[str, Any]


class TemplateChat:
    """Answers by `Request.subject`, and does not read messages: sentences that are true by construction.

    Of the world's floors it has all kinds of records; of other scenes what can be told from boxes (no plans).
    """

    name = "template"
    concurrency = 1

    def reply(self, request: Request) -> Reply:
        """Answer; see `ChatBackend`."""
        subject = request.subject
        if subject.step == "question":
            asked = ("What is there?", "What colours do the things have?", "In which rooms are they?")
            return Reply(asked[len(subject.said) % len(asked)])
        if subject.step == "answer":
            return Reply(_answer(subject, request.messages[-1].text))
        if subject.step == "summary":
            shown = _shown(subject)
            return Reply(json.dumps([{"caption": _there_is(shown), "objects": [x.id for x in shown]}]))
        return Reply(json.dumps(_revised(subject) if subject.sources else _records(subject)))


def can_write(kind: Kind, *, floors: bool) -> bool:
    """Whether templates have records of a kind: plans need a floor of the world."""
    return floors or kind != "plan"


def _records(subject: Subject) -> list[Item]:
    if subject.floor is None:
        return _from_boxes(subject.kind, subject, subject.brief.objects)
    facts = Facts(subject.floor)
    return {"qa": _qa, "caption": _caption, "dialogue": _dialogue, "plan": _plan}[subject.kind](subject, facts)


def _qa(subject: Subject, facts: Facts) -> list[Item]:
    chance = Random(f"{subject.brief.name}/{subject.sample}/qa")
    asked = questions(facts, subject.count, subject.sample)
    found = [
        {
            "question": f"{q.situation.text} {q.text}" if q.situation else q.text,
            "answer": q.answer,
            "objects": list(q.things),
        }
        for q in asked
        # Kinds and rooms have no object to rest on where nothing is there.
        if q.things or q.answer in ("no", "0")
    ]
    found += [_place(facts, each.text, each.thing) for each in references(facts, chance)]
    return chance.sample(found, min(subject.count, len(found)))


def _place(facts: Facts, phrase: str, index: int) -> Item:
    box = facts.floor.boxes[index]
    return {
        "question": f"Where is {phrase}?",
        "answer": f"in the {facts.floor.room_names[facts.things[index].room]}",
        "objects": [index],
        "boxes": [[*box.lower.tolist(), *box.upper.tolist()]],
    }


def _caption(subject: Subject, facts: Facts) -> list[Item]:
    first = subject.sample * subject.count
    styles = [CAPTION_STYLES[i % len(CAPTION_STYLES)] for i in range(first, first + min(subject.count, 3))]
    return [{"caption": caption(facts, style), "objects": list(range(len(facts)))} for style in styles]


def _dialogue(subject: Subject, facts: Facts) -> list[Item]:
    made = [dialogue(facts, subject.sample * subject.count + i) for i in range(subject.count)]
    return [
        {
            "turns": [{"speaker": turn.speaker, "text": turn.text} for turn in turns],
            "objects": sorted({thing for turn in turns for thing in turn.things}),
        }
        for turns in made
    ]


def _plan(subject: Subject, facts: Facts) -> list[Item]:
    return [
        {
            "goal": plan.goal,
            "situation": plan.situation,
            "steps": [step.text for step in plan.steps],
            "objects": sorted({thing for step in plan.steps for thing in step.things}),
        }
        for plan in plans(facts, subject.count, subject.sample)
    ]


def _answer(subject: Subject, question: str) -> str:
    shown = _shown(subject)
    if not shown:
        return "Nothing."
    if "room" in question:
        return " ".join(f"The {x.label} is {x.about[-1]}." for x in shown if x.about) or "Not visible."
    if "colour" in question:
        return " ".join(f"The {x.label} is {x.about[0]}." for x in shown if x.about) or "Not visible."
    return _there_is(shown)


def _shown(subject: Subject) -> list[SceneObject]:
    """What the views show; without a floor, everything."""
    if subject.floor is None or not subject.views:
        return list(subject.brief.objects)
    seen = subject.floor.pixels[list(subject.views)].max(0) >= SEEN
    return [each for each in subject.brief.objects if seen[each.id]]


def _there_is(objects: Iterable[SceneObject]) -> str:
    counts = Counter(each.label for each in objects)
    parts = [article(label) if n == 1 else f"{number(n)} {plural(label)}" for label, n in counts.items()]
    if not parts:
        return "Nothing is there."
    return f"There {'is' if next(iter(counts.values())) == 1 else 'are'} {listed(parts)}."


def _revised(subject: Subject) -> list[Item]:
    """Other data about the things that the sources speak of; a dialogue's and a plan's words are kept."""
    known = subject.brief.by_id
    named = [known[i] for i in dict.fromkeys(i for source in subject.sources for i in source.objects) if i in known]
    if subject.kind == "dialogue" and subject.sources[0].kind == "qa":
        pairs = [turn for source in subject.sources for turn in source.turns]
        turns = [{"speaker": turn.role, "text": turn.text} for turn in pairs]
        return [{"turns": turns, "objects": [each.id for each in named]}]
    return _from_boxes(subject.kind, subject, named)


def _from_boxes(kind: Kind, subject: Subject, objects: Iterable[SceneObject]) -> list[Item]:
    here = list(objects)
    if not here:
        return []
    if kind == "caption":
        return [{"caption": _there_is(here), "objects": [each.id for each in here]}]
    chance = Random(f"{subject.brief.name}/{subject.sample}/{kind}")
    asked = [item for make in (_counts, _colours, _heights) for item in make(here, subject)]
    chosen = chance.sample(asked, min(subject.count if kind == "qa" else 3, len(asked)))
    if kind == "qa":
        return chosen
    turns = [
        {"speaker": speaker, "text": str(item[key])}
        for item in chosen
        for speaker, key in (("human", "question"), ("assistant", "answer"))
    ]
    return [{"turns": turns, "objects": sorted({i for item in chosen for i in item["objects"]})}]


def _alike(subject: Subject, label: str) -> list[SceneObject]:
    return [each for each in subject.brief.objects if each.label == label]


def _counts(here: list[SceneObject], subject: Subject) -> list[Item]:
    found = []
    for label in dict.fromkeys(each.label for each in here):
        ids = [each.id for each in _alike(subject, label)]
        found.append({"question": f"How many {plural(label)} are there?", "answer": str(len(ids)), "objects": ids})
        found.append({"question": f"Is there {article(label)}?", "answer": "yes", "objects": ids})
    return found


def _colours(here: list[SceneObject], subject: Subject) -> list[Item]:
    single = [each for each in here if each.about and len(_alike(subject, each.label)) == 1]
    return [{"question": f"What colour is the {x.label}?", "answer": x.about[0], "objects": [x.id]} for x in single]


def _heights(here: list[SceneObject], subject: Subject) -> list[Item]:
    single = [each for each in here if len(_alike(subject, each.label)) == 1]
    pairs = [(a, b) for a, b in pairwise(single) if abs(_tall(a) - _tall(b)) > 0.1]
    return [
        {
            "question": f"Which is taller, the {a.label} or the {b.label}?",
            "answer": f"the {max(a, b, key=_tall).label}",
            "objects": [a.id, b.id],
        }
        for a, b in pairs
    ]


def _tall(each: SceneObject) -> float:
    return each.upper[2] - each.lower[2]


def about_floor(floor: Floor) -> dict[int, tuple[str, ...]]:
    """Words about the things of a floor, by id: colour, size, material and room."""
    return {
        i: (thing.colour, thing.size, thing.material, f"in the {floor.room_names[thing.room]}")
        for i, thing in enumerate(floor.things)
    }
