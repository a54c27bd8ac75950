import re
from collections import Counter

import pytest
from room_floors import floor_of, floors
from slow_facts import COLOUR, KIND, PHRASE, PLURALS, SlowFacts, counted, words_of

from genworld.world.rooms import FloorConfig, sample_floor
from genworld.world.rooms.__main__ import main
from genworld.world.rooms.language import Facts
from genworld.world.rooms.language.captions import CAPTION_STYLES, caption, describe
from genworld.world.rooms.language.dialogue import dialogue
from genworld.world.rooms.language.plans import Plan, plans


def test_captions_name_everything_once_and_nothing_else() -> None:
    for floor in floors():
        slow = SlowFacts(floor)
        terse, overview, detailed = (caption(floor, style) for style in CAPTION_STYLES)
        kinds = Counter(thing.kind for thing in floor.things)
        assert {kind: count for count, _, kind in counted(terse)} == kinds
        for text, all_words in ((overview, False), (detailed, True)):
            found: Counter[tuple[str, str]] = Counter()
            for sentence in text.split(". ")[1:]:
                told, _, place = sentence.partition(" on " if " on " in sentence else "\n")
                if place:  # what stands on what
                    for count, words, kind in counted(told):
                        hosts = {slow.host(i) for i in slow.named(kind=kind, colour=words)}
                        assert hosts & set(slow.meant(re.sub(r"^one ", "the ", place.rstrip("."))))
                        found[kind, words] += count
                    continue
                name = re.match(r"In the (.+?) there (?:is|are)", sentence)
                assert name, sentence
                room = floor.room_names.index(name[1])
                here: Counter[tuple[str, str]] = Counter()
                for count, words, kind in counted(told):
                    here[kind, words] += count
                    found[kind, words.split()[-1]] += count
                true = [floor.things[i] for i in slow.all if slow.room(i) == room and slow.host(i) is None]
                assert here == Counter((thing.kind, words_of(thing, all_words=all_words)) for thing in true)
            assert found == Counter((thing.kind, thing.colour) for thing in floor.things)


def test_descriptions_of_things_are_so() -> None:
    for floor in floors():
        slow, facts = SlowFacts(floor), Facts(floor)
        for index in slow.all:
            check_description(slow, index, describe(facts, index))


def check_description(slow: SlowFacts, index: int, text: str) -> None:
    thing = slow.things[index]
    ((_, words, kind),) = counted(text.split(" in the ")[0])
    assert (words, kind) == (words_of(thing, all_words=True), thing.kind)
    assert f" in the {slow.floor.room_names[slow.room(index)]}" in text
    for sort, rule in (
        (r", next to (.+?)(?:, with|\.)", lambda other: slow.near(index, other, 0.4)),
        (rf", on ((?:a|an) {COLOUR}.*?)(?:, with|\.)", lambda other: slow.host(index) == other),
        (r", with (.+?) on it", lambda other: slow.host(other) == index),
    ):
        if found := re.search(sort, text):
            for _, colour, noun in counted(found[1]):
                assert any(rule(other) for other in slow.named(kind=noun, colour=colour)), text
    assert (", on the wall" in text) == (slow.host(index) is None and not slow.on_floor(index))


def test_dialogues_are_so() -> None:
    asked: Counter[str] = Counter()
    for floor in floors():
        slow = SlowFacts(floor)
        for seed in range(6):
            turns = dialogue(Facts(floor), seed)
            assert dialogue(Facts(floor), seed) == turns
            assert [turn.speaker for turn in turns] == ["human", "assistant"] * (len(turns) // 2)
            subject: int | None = None
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                if found := re.fullmatch(rf"What colour is ({PHRASE})\?", question.text):
                    subject = slow.one(found[1])
                asked[check_turn(slow, subject, question.text, answer.text)] += 1
    assert set(asked) == {"rooms", "room", "colour", "size", "host", "wall", "above", "beside", "others"}


def check_turn(slow: SlowFacts, it: int | None, question: str, answer: str) -> str:
    floor = slow.floor
    if question == "Which rooms are there?":
        assert sorted(re.findall("living room|dining room|bedroom|kitchen|study", answer)) == sorted(floor.room_names)
        return "rooms"
    if found := re.fullmatch(r"What is in the (.+)\?", question):
        room = floor.room_names.index(found[1])
        here = Counter(floor.things[i].kind for i in slow.all if slow.room(i) == room)
        assert {kind: count for count, _, kind in counted(answer)} == here
        return "room"
    assert it is not None
    thing = slow.things[it]
    if question.startswith("What colour"):
        assert answer == f"It is {thing.colour}."
        return "colour"
    if question == "Is it small or large?":
        assert answer == f"It is {thing.size}."
        return "size"
    return check_surroundings(slow, it, question, answer)


def check_surroundings(slow: SlowFacts, it: int, question: str, answer: str) -> str:
    thing, told = slow.things[it], Counter((colour, kind) for _, colour, kind in counted(answer))

    def those(indices: list[int]) -> Counter[tuple[str, str]]:
        return Counter((slow.things[i].colour, slow.things[i].kind) for i in indices)

    if question == "What is it on?":
        host = slow.host(it)
        assert host is not None
        assert told == those([host])
        return "host"
    if question == "Where does it hang?":
        assert answer == "It hangs on the wall."
        assert slow.host(it) is None
        assert not slow.on_floor(it)
        return "wall"
    if question == "Is anything on it?":
        above = [i for i in slow.all if slow.host(i) == it]
        assert told == those(above)
        assert answer.startswith("Yes" if above else "No")
        return "above"
    if question == "What is next to it?":
        assert told == those([i for i in slow.all if slow.near(it, i, 0.4)])
        return "beside"
    check_others(slow, thing.kind, question, answer)
    return "others"


def check_others(slow: SlowFacts, kind: str, question: str, answer: str) -> None:
    found = re.fullmatch(r"Are there other (\w+) on this floor\?", question)
    assert found, question
    assert PLURALS[found[1]] == kind
    others = len(slow.named(kind=kind)) - 1
    words = re.match(r"Yes, (\w+)\.", answer)
    if words:
        assert counted(f"{words[1]} {kind}") == [(others, "", kind)]
    else:
        assert others == 0


def walk_through(slow: SlowFacts, plan: Plan) -> None:
    """Does what a plan says, step by step: doors lead where it goes, and it acts on what is at hand."""
    floor, room = slow.floor, plan.start
    at, held, filled = None, None, False
    for number, (step, line) in enumerate(zip(plan.steps, plan.text.split("\n"), strict=True), 1):
        assert line == f"{number}. {step.text}"
        named = [slow.one(phrase) for phrase in phrases(slow, step.text)]
        assert tuple(named) == step.things, step
        if step.verb == "enter":
            assert step.text == f"Go through the door into the {floor.room_names[step.room]}."
            assert any(set(door.rooms) == {room, step.room} for door in floor.plan.doors)
            room, at = step.room, None
        elif step.verb == "walk":
            (at,) = named
            assert slow.room(at) == room
        elif step.verb == "pick up":
            assert held is None
            assert at == named[0]
            (held,) = named
        elif step.verb in ("put", "drop"):
            assert (held, at) == tuple(named)
            held = None
        elif step.verb == "fill":
            assert (held, at) == tuple(named)
            filled = True
        elif step.verb == "water":
            assert filled
            assert (at, held) == tuple(named)
        elif step.verb in ("move", "work"):
            assert slow.room(named[-1]) == room
        else:
            assert at == named[0], step
    assert held is None or filled


def phrases(slow: SlowFacts, text: str) -> list[str]:
    """The phrases of a step, read so that each fits one thing: "put the box on the table" has two."""
    found = re.search(PHRASE, text)
    if not found:
        return []
    whole = found[0]
    if len(slow.meant_or_none(whole)) != 1:
        simple = re.match(rf"the (?:(?:small|large) )?(?:(?:{COLOUR}) )?(?:{KIND})", whole)
        assert simple
        whole = simple[0]
    return [whole, *phrases(slow, text[found.start() + len(whole) :])]


def test_plans_can_be_carried_out() -> None:
    goals: Counter[str] = Counter()
    for floor in [*floors(), floor_of(25)]:  # the last has plants, a vase and a sink, as one in twenty does
        slow, facts = SlowFacts(floor), Facts(floor)
        made = plans(facts, most=8)
        assert plans(facts, most=8) == made
        for plan in made:
            assert plan.steps
            assert plan.situation == f"I am in the {floor.room_names[plan.start]}."
            walk_through(slow, plan)
            goals[" ".join(plan.goal.split()[:2])] += 1
            if plan.goal.startswith("Water"):
                assert sum(step.verb == "water" for step in plan.steps) == len(slow.named(kind="plant"))
            if found := re.fullmatch(r"Tidy up the boxes and balls on the floor of the (.+)\.", plan.goal):
                room = floor.room_names.index(found[1])
                loose = [i for k in ("box", "ball") for i in slow.named(kind=k) if slow.room(i) == room]
                put = {step.things[0] for step in plan.steps if step.verb == "put"}
                assert put == {i for i in loose if slow.on_floor(i)}
    assert len(goals) >= 7


def test_the_command_draws_and_measures(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--seeds", "6", "--size", "32", "--columns", "2", "--out", str(tmp_path / "a" / "rooms.png")])
    assert (tmp_path / "a" / "rooms.png").exists()
    main(["--blind", "4", "--max-rooms", "1"])
    out = capsys.readouterr().out
    assert "1 held-out floors, trained on 3 others" in out
    assert re.search(r"all +\d+ +0\.\d+", out)
    for wrong, message in (
        (["--blind", "2"], "at least 4 floors, got 2"),
        (["--blind", "4", "--held-out", "4"], "got 4 and 4"),
        (["--max-rooms", "6"], "got 1 and 6"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(wrong)


def test_one_room_is_called_one_room() -> None:
    floor = sample_floor(3, FloorConfig(max_rooms=1))
    assert caption(floor).startswith(f"A floor with one room: a {floor.room_names[0]}.")
    assert not any(step.verb == "enter" for plan in plans(Facts(floor)) for step in plan.steps)


def test_languages_differ_with_the_seed() -> None:
    facts = Facts(floor_of(1))
    assert any(plans(facts, seed=0) != plans(facts, seed=seed) for seed in (1, 2))
    assert any(dialogue(facts, 0) != dialogue(facts, seed) for seed in (1, 2))
