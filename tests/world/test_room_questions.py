import re
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from room_floors import SEEDS, floor_of, floors
from slow_facts import COLOUR, KIND, PHRASE, PLURALS, SIMPLE, SlowFacts

from genworld.world.rooms import sample_floor
from genworld.world.rooms.floor import SEEN
from genworld.world.rooms.language import MAKERS, QUESTION_TYPES, Facts, Question, questions, references
from genworld.world.rooms.language.blind import blind_accuracy

EACH = 6


def every() -> list[tuple[SlowFacts, Question]]:
    return [(SlowFacts(floor), question) for floor in floors() for question in questions(floor, EACH)]


def yes(value: bool) -> str:
    return "yes" if value else "no"


def count_in_room(slow: SlowFacts, plural: str, anchor: str) -> str:
    room = slow.room(slow.one(anchor))
    return str(sum(slow.room(i) == room for i in slow.named(kind=PLURALS[plural])))


def next_to(slow: SlowFacts, one: str, other: str) -> str:
    i, j = slow.one(one), slow.one(other)
    near, surely = slow.near(i, j, 0.4), slow.near(i, j, 0.799)
    assert near == surely, "it is neither near nor far"
    return yes(near)


def stands_on(slow: SlowFacts, phrase: str) -> str:
    index = slow.one(phrase)
    host = slow.host(index)
    return slow.things[host].kind if host is not None else "floor" if slow.on_floor(index) else "wall"


def on_it(slow: SlowFacts, phrase: str) -> str:
    host = slow.one(phrase)
    (index,) = (i for i in slow.all if slow.host(i) == host)
    return slow.things[index].kind


def larger(slow: SlowFacts, kind: str, word: str, one: str, other: str) -> str:
    def volume(colour: str) -> float:
        (index,) = slow.named(kind=kind, colour=colour)
        return slow.things[index].extent[0] * slow.things[index].extent[1] * slow.things[index].extent[2]

    return max((one, other), key=lambda colour: volume(colour) * (1 if word == "larger" else -1))


def nearer(slow: SlowFacts, kind: str, word: str, anchor: str, one: str, other: str) -> str:
    target = slow.things[slow.one(anchor)].box.centre

    def away(colour: str) -> float:
        (index,) = slow.named(kind=kind, colour=colour)
        return float(((slow.things[index].box.centre - target) ** 2).sum() ** 0.5)

    assert abs(away(one) - away(other)) > 0.4
    return (min if word == "nearer to" else max)((one, other), key=away)


def more(slow: SlowFacts, one: str, other: str) -> str:
    a, b = len(slow.named(colour=one)), len(slow.named(colour=other))
    assert a != b
    return yes(a > b)


def same_colour(slow: SlowFacts, one: str, other: str) -> str:
    (i,), (j,) = slow.named(kind=one), slow.named(kind=other)
    return yes(slow.things[i].colour == slow.things[j].colour)


def same_room(slow: SlowFacts, one: str, other: str) -> str:
    return yes(slow.room(slow.one(one)) == slow.room(slow.one(other)))


RULES: list[tuple[str, Callable[..., str]]] = [
    (rf"Is there an? ({KIND}) on this floor\?", lambda slow, kind: yes(bool(slow.named(kind=kind)))),
    (rf"Is there an? ({COLOUR}) ({KIND})\?", lambda slow, c, k: yes(bool(slow.named(kind=k, colour=c)))),
    (
        rf"Is there an? ({KIND}) in the room with ({PHRASE})\?",
        lambda slow, k, a: yes(any(slow.room(i) == slow.room(slow.one(a)) for i in slow.named(kind=k))),
    ),
    (rf"How many things are ({COLOUR})\?", lambda slow, colour: str(len(slow.named(colour=colour)))),
    (r"How many (\w+) are there\?", lambda slow, plural: str(len(slow.named(kind=PLURALS[plural])))),
    (rf"How many (\w+) are in the room with ({PHRASE})\?", count_in_room),
    (rf"What colour is ({PHRASE})\?", lambda slow, phrase: slow.things[slow.one(phrase)].colour),
    (rf"Is ({PHRASE}) (?:small or large|large or small)\?", lambda slow, phrase: slow.things[slow.one(phrase)].size),
    (rf"What does ({PHRASE}) stand on\?", stands_on),
    (rf"What is on ({PHRASE})\?", on_it),
    (rf"Is ({SIMPLE}) next to ({SIMPLE})\?", next_to),
    (rf"Is ({SIMPLE}) in the same room as ({SIMPLE})\?", same_room),
    (rf"Which ({KIND}) is (larger|smaller), the ({COLOUR}) one or the ({COLOUR}) one\?", larger),
    (
        rf"Which ({KIND}) is (nearer to|further from) ({PHRASE}), the ({COLOUR}) one or the ({COLOUR}) one\?",
        nearer,
    ),
    (rf"Are there more ({COLOUR}) things than ({COLOUR}) things\?", more),
    (rf"Do the ({KIND}) and the ({KIND}) have the same colour\?", same_colour),
]


def test_answers_equal_those_of_the_slow_twin() -> None:
    used: Counter[str] = Counter()
    for slow, question in every():
        if question.situation is not None:
            continue
        matches = [(pattern, found, rule) for pattern, rule in RULES if (found := re.fullmatch(pattern, question.text))]
        assert len(matches) == 1, question.text
        pattern, found, rule = matches[0]
        assert rule(slow, *found.groups()) == question.answer, f"{slow.floor.name}: {question}"
        used[pattern] += 1
    assert all(used[pattern] for pattern, _ in RULES)


def situations(slow: SlowFacts, question: Question) -> list[tuple[tuple[float, float], float]]:
    """All places and headings that the words of a situation allow."""
    assert question.situation is not None
    text = question.situation.text
    if found := re.fullmatch(rf"I am standing beside ({PHRASE}), facing ({PHRASE})\.", text):
        beside, facing = (slow.one(phrase) for phrase in found.groups())
        places = slow.spots(beside)
        assert question.situation.position in places
    else:
        found = re.fullmatch(rf"I am standing at ([\d.]+), ([\d.]+), facing ({PHRASE})\.", text)
        assert found, text
        places = [(float(found[1]), float(found[2]))]
        assert question.situation.position == places[0]
        facing = slow.one(found[3])
    heading = slow.heading(question.situation.position, facing)
    assert abs(heading - question.situation.heading) < 1e-9
    return [(place, slow.heading(place, facing)) for place in places]


WAYS = {"to my left": "left", "to my right": "right", "in front of me": "front", "behind me": "behind"}


def test_situated_answers_hold_wherever_the_words_allow_one_to_stand() -> None:
    seen: Counter[str] = Counter()
    for slow, question in every():
        if question.situation is None:
            continue
        seen[question.template] += 1
        where = rf"Is ({PHRASE}) to my left, to my right, in front of me or behind me\?"
        if found := re.fullmatch(where, question.text):
            target = slow.one(found[1])
            for place, heading in situations(slow, question):
                assert slow.way(place, heading, target) == question.answer, f"{slow.floor.name}: {question}"
            continue
        found = re.fullmatch(rf"What colour is the ({KIND}) ({'|'.join(WAYS)}) in this room\?", question.text)
        assert found, question.text
        for place, heading in situations(slow, question):
            (room,) = (i for i, r in enumerate(slow.floor.plan.rooms) if r.contains(*place))
            alike = [i for i in slow.named(kind=found[1]) if slow.room(i) == room]
            there = [i for i in alike if slow.way(place, heading, i) == WAYS[found[2]]]
            assert [slow.things[i].colour for i in there] == [question.answer], f"{slow.floor.name}: {question}"
            assert all(slow.way(place, heading, i) for i in alike)  # none that one could be in doubt about
    assert len(seen) == 4


def test_references_fit_one_thing() -> None:
    many = 0
    for floor in floors():
        slow, facts = SlowFacts(floor), Facts(floor)
        found = references(facts, Random(1), each=3)
        assert found
        for reference in found:
            assert slow.one(reference.text) == reference.thing
            assert reference.distractors == len(slow.named(kind=slow.things[reference.thing].kind)) - 1
            many += reference.distractors > 0
        # Nearly everything has a phrase: what has none stands among others that look the same.
        assert len({reference.thing for reference in found}) > 0.6 * len(floor.things)
    assert many > 100


def test_questions_are_a_function_of_floor_and_seed() -> None:
    first = questions(floor_of(1), 3)
    assert questions(floor_of(1), 3) == first
    assert questions(floor_of(1), 3, seed=1) != first
    assert len({(question.situation and question.situation.text, question.text) for question in first}) == len(first)


def test_every_type_is_asked_on_nearly_every_floor() -> None:
    assert tuple(MAKERS) == QUESTION_TYPES
    full = sum(
        all(count[kind] == EACH for kind in QUESTION_TYPES)
        for floor in floors()
        if (count := Counter(question.type for question in questions(floor, EACH)))
    )
    assert full > 0.7 * len(SEEDS)


def test_nothing_is_asked_about_what_no_view_shows() -> None:
    for slow, question in every():
        for index in question.things:
            assert slow.floor.pixels[:, index].max() >= SEEN


def test_a_model_that_sees_no_floor_cannot_win() -> None:
    asked = [questions(floor, EACH) for floor in floors()]
    found = blind_accuracy(
        [question for some in asked[5:] for question in some], [question for some in asked[:5] for question in some]
    )
    assert found["all"].best < 0.5
    assert found["colour"].best < 0.3
    assert found["count"].best < 0.5
    assert found["situated"].best < 0.45


def test_the_blind_model_sees_what_is_given_away() -> None:
    """Where every third word tells the answer, it finds out."""
    leaky = [
        Question(type="colour", template="colour", text=f"What colour is the {kind} today?", answer=colour)
        for kind, colour in (("sofa", "red"), ("bed", "blue"), ("vase", "green"))
        for _ in range(20)
    ]
    assert blind_accuracy(leaky, leaky)["colour"].words == 1
    choices = [
        Question(type="size", template="size", text=f"Is thing {i} {a} or {b}?", answer=b, options=(a, b))
        for i, (a, b) in enumerate([("small", "large"), ("large", "small")] * 20)
    ]
    found = blind_accuracy(choices, choices)["size"]
    assert found.majority == 1  # always the second
    assert found.best == 1


@pytest.mark.slow
def test_each_type_is_balanced_on_many_floors() -> None:
    asked = [questions(sample_floor(seed)) for seed in range(400)]
    found = blind_accuracy(
        [question for some in asked[100:] for question in some], [question for some in asked[:100] for question in some]
    )
    assert found["all"].best < 0.45
    assert all(blind.best < 0.6 for blind in found.values())
