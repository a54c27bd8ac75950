"""Things that texts name, against the facts that the texts were made of."""

from collections import Counter
from random import Random

import pytest
import torch
from room_floors import floors

from genworld.data.scene_turns_rooms import exchange_of, known_at
from genworld.ops.lifted import LiftedScene
from genworld.ops.scene_codec import SceneCodec
from genworld.types import PointSet
from genworld.world.rooms import sample_floor
from genworld.world.rooms.language import Facts, questions, references
from genworld.world.rooms.language.captions import NUMBERS, caption, describe
from genworld.world.rooms.language.facts import plural
from genworld.world.rooms.language.mentions import Mention, every_mention, mentions
from genworld.world.rooms.language.plans import plans
from genworld.world.rooms.language.questions import MOST
from genworld.world.rooms.language.referring import Phrase, phrases


def test_captions_and_descriptions_name_their_things() -> None:
    for floor in floors():
        facts = Facts(floor)
        counts: Counter[str] = Counter()
        for mention in mentions(caption(facts, "terse")):
            word = mention.text.split()[0]
            many = int(word) if word.isdecimal() else NUMBERS.index(word) if mention.many else 1
            counts[mention.phrase.removeprefix("the ")] += many
        assert counts == facts.kinds
        for index, thing in enumerate(facts.things):
            first = mentions(describe(facts, index))[0]
            assert first.phrase == f"the {thing.size} {thing.colour} {thing.kind}"


def test_plans_name_what_they_handle() -> None:
    for floor in floors():
        facts = Facts(floor)
        for plan in plans(facts, 8):
            for step in plan.steps:
                named = {mention.phrase for mention in mentions(step.text)}
                for thing in step.things:
                    assert named & {str(phrase) for phrase in phrases(facts, thing)}, step.text


def test_referring_expressions_are_whole() -> None:
    for floor in floors():
        for reference in references(Facts(floor), Random(0)):
            assert mentions(f"Walk to {reference.text}.")[0].phrase == reference.text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("red", []),
        ("Yes, two.", []),
        ("sofa", [("sofa", "the sofa")]),
        ("There is no chair, but a lamp.", [("a lamp", "the lamp")]),
        ("An orange wooden box.", [("An orange wooden box", "the orange box")]),
        ("The box on the desk.", [("The box on the desk", "the box on the desk"), ("the desk", "the desk")]),
        ("A box on the desk.", [("A box", "the box"), ("the desk", "the desk")]),
        ("Put the box on the desk.", [("the box", "the box"), ("the desk", "the desk")]),
        ("A chair, a chair.", [("A chair", "the chair")]),
        ("A boxer in the bedroom.", []),
    ],
)
def test_mentions(text: str, named: list[tuple[str, str]]) -> None:
    assert [(mention.text, mention.phrase) for mention in mentions(text)] == named


def test_things_are_mentioned_as_often_as_they_are_named() -> None:
    text = "A chair on the floor, a chair, and the sofa next to the bed."
    named = every_mention(text)
    assert [text[mention.start : mention.noun] for mention in named] == ["A chair", "a chair", "the sofa", "the bed"]
    assert text[: named[2].end].endswith("the bed")
    assert mentions(text) == [named[0], *named[2:]]


def test_several_are_told_apart() -> None:
    assert mentions("Two red shelves.") == [Mention("Two red shelves", Phrase("shelf", "red"), many=True)]


@pytest.mark.parametrize(
    ("prompt", "kinds", "ends"),
    [
        ("What colour is the {0}?", 1, ("is the {0}",)),
        ("Is the {0} next to the {1}?", 2, ("Is the {0}", "to the {1}")),
        ("Is there any of that?", 1, ("of that?",)),
    ],
)
def test_where_a_prompt_tells_which_thing_is_meant(prompt: str, kinds: int, ends: tuple[str, ...]) -> None:
    facts = Facts(sample_floor(8))
    single = [i for i, thing in enumerate(facts.things) if facts.coloured[thing.colour, thing.kind] == 1][:kinds]
    names = [f"{facts.things[i].colour} {facts.things[i].kind}" for i in single]
    text = prompt.format(*names)
    found = known_at(facts, text, single)
    assert [x.thing for x in found] == single
    for about, end in zip(found, ends, strict=True):
        assert text[: about.known_at].endswith(end.format(*names))


def test_a_relation_is_read_to_its_end_and_a_choice_to_its_one() -> None:
    facts = Facts(sample_floor(8))
    for index in range(len(facts)):
        for phrase in phrases(facts, index):
            text = f"Where is {phrase}? Answer with a box."
            about, *others = known_at(facts, text, [index])
            assert text[: about.known_at] == f"Where is {phrase}"
            assert len(others) == (phrase.anchor is not None)
    index = next(i for i, thing in enumerate(facts.things) if facts.kinds[thing.kind] > 1)
    thing = facts.things[index]
    text = f"Which {thing.kind} is larger, the {thing.colour} one or the grey one?"
    (about,) = known_at(facts, text, [index])
    assert text[: about.known_at].endswith(f"the {thing.colour} one")


def test_what_is_counted_shares_what_is_looked_at() -> None:
    facts = Facts(sample_floor(8))
    kind, count = max(facts.kinds.items(), key=lambda item: item[1] * (item[1] <= MOST))
    things = [i for i, thing in enumerate(facts.things) if thing.kind == kind]
    text = f"How many {plural(kind)} are there?"
    for counted, share in ((True, 1 / (MOST + 1)), (False, 1 / count)):
        about = known_at(facts, text, things, counted=counted)
        assert [x.thing for x in about] == things
        assert {x.share for x in about} == {share}
        assert {text[: x.known_at] for x in about} == {f"How many {plural(kind)}"}


LATE = {
    "next to": 1,
    "same room": 1,
    "same colour": 1,
    "in a room": 1,
    "nearer": 0,
    "further": 0,
    "larger": 0,
    "smaller": 0,
}
"""Forms whose answer is looked at last, and whether that is asked of a word, and not of the mark at the end."""


def test_what_is_looked_at_last_tells_the_answer() -> None:
    told = Counter[str]()
    for seed in range(24):
        floor = sample_floor(seed)
        facts, codec = Facts(floor), SceneCodec.from_bounds((-1, -1, -1), (30, 30, 3), cells=64)
        nothing = torch.zeros(1, 3)
        scene = LiftedScene(floor.name, PointSet(nothing, nothing, nothing, nothing.long()), codec)
        for question in questions(facts, 8, seed):
            made = exchange_of(question, facts, scene)
            late = [about for about in made.about if about.late]
            if question.template not in LATE:
                assert not late
                continue
            told[question.template] += len(late)
            seen = [about for about in late if about.share > 0]
            if question.template == "same colour":
                assert all(made.prompt[: x.known_at].endswith(facts.things[question.things[1]].kind) for x in late)
            else:
                assert all(x.known_at == len(made.prompt) - LATE[question.template] for x in late)
            if made.answer in ("yes", "no"):
                assert bool(seen) == (made.answer == "yes")
                assert sum(x.share for x in seen) == (0.5 if seen else 0)
            elif question.type == "count":
                assert len(seen) == int(made.answer)
            else:
                assert [facts.things[x.thing].colour for x in late] == [made.answer]
    assert all(told[template] > 5 for template in LATE), told


def test_who_is_nearer_is_judged_from_what_is_named() -> None:
    facts, nothing = Facts(sample_floor(8)), torch.zeros(1, 3)
    codec = SceneCodec.from_bounds((-1, -1, -1), (30, 30, 3), cells=64)
    scene = LiftedScene("floor", PointSet(nothing, nothing, nothing, nothing.long()), codec)
    asked = [q for q in questions(facts, 60, 0) if q.template in ("nearer", "further")]
    assert asked
    for question in asked:
        made = exchange_of(question, facts, scene)
        assert question.things[2] in [x.thing for x in made.about if x.known_at == len(made.prompt) and not x.late]
