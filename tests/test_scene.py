"""A model that talks about scenes, from training to answers, pictures and scores; and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from genworld.data.examples import ExampleLoader
from genworld.data.scene_prompts import Standing, ground_prompt
from genworld.eval.qa import gather_answers
from genworld.experiment import load_experiment, load_run, open_turns, train
from genworld.ops.lifted import LiftedScene, covering_points, seen_from_above
from genworld.ops.scene_codec import SceneCodec
from genworld.pipelines.scene import SceneAssistant
from genworld.pipelines.scene_evaluation import evaluate_scenes, write_scores
from genworld.pipelines.scene_picture import _shown, draw_answer
from genworld.tasks.converse import Converse
from genworld.types import Pack, PointSet, Scene, Turn
from genworld.world.rooms import sample_floor
from genworld.world.rooms.floor import FloorConfig

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "configs" / "smoke" / "scene.yaml"


def settings(folder: Path, *more: str) -> list[str]:
    caches = [f"data.cache={folder / 'floors'}", f"task.points.cache={folder / 'points'}"]
    return [*caches, "train.threads=1", *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smoke config, and its floors."""
    folder = tmp_path_factory.mktemp("scene")
    result = train(load_experiment(SMOKE, settings(folder, f"run={folder / 'run'}", "train.steps=6")))
    assert result.status == "finished"
    return folder


@pytest.fixture(scope="module")
def scene() -> Scene:
    return sample_floor(3, FloorConfig(max_rooms=1)).scene((32, 32))


@pytest.fixture(scope="module")
def assistant(folder: Path) -> SceneAssistant:
    return SceneAssistant.from_pretrained(folder / "run", "cpu")


def test_the_smoke_config_trains_and_previews(folder: Path) -> None:
    (page,) = (folder / "run" / "previews").rglob("answers.md")
    assert page.read_text().count("true:") == 4
    assert Image.open(page.with_suffix(".png")).width > 100
    experiment, task = load_run(folder / "run")
    assert isinstance(task, Converse)
    assert set(task.networks()) == {"connector", "llm"}
    assert "tokenizer.json" in task.assets()
    assert experiment.task.kind == "converse"


def test_resuming_is_exact(folder: Path, tmp_path: Path) -> None:
    same = settings(folder, "train.preview_every=0", "train.validate_every=0", "train.schedule.kind=constant")
    train(load_experiment(SMOKE, [*same, f"run={tmp_path / 'whole'}", "train.steps=4"]))
    train(load_experiment(SMOKE, [*same, f"run={tmp_path / 'halves'}", "train.steps=2"]))
    train(load_experiment(SMOKE, [*same, f"run={tmp_path / 'halves'}", "train.steps=4"]), resume=True)
    one, other = (load_run(tmp_path / name)[1].state_dict() for name in ("whole", "halves"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_losses_add_up_and_are_told_by_kind(folder: Path) -> None:
    experiment, task = load_run(folder / "run")
    assert isinstance(task, Converse)
    source = open_turns(experiment)
    (pack,) = next(ExampleLoader.for_rank(source, experiment.data, 0, 0, 1).steps())  # type: ignore[arg-type]
    whole = task(pack, 0, 0)
    apart = [task(Pack((turn,)), 0, 0) for turn in pack]
    assert whole.loss.item() == pytest.approx(sum(each.loss.item() for each in apart), rel=1e-4)
    kinds = {turn.kind for turn in pack}
    assert set(whole.logs) == set(whole.units) == {f"{name}/{kind}" for name in ("loss", "whole") for kind in kinds}
    assert task.units(pack) == sum(whole.units[f"whole/{kind}"] for kind in kinds) == len(pack)


def test_turns_about_one_scene_share_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, task = load_run(folder / "run")
    assert isinstance(task, Converse)
    source = open_turns(experiment)
    turns = [source.read(position // 4, position) for position in range(8)]
    apart = [replace(turn, points=turn.points.map(torch.clone)) for turn in turns]
    sizes: list[int] = []
    stack = task.model.connector.stack
    monkeypatch.setattr(task.model.connector, "stack", lambda scenes: (sizes.append(len(scenes)), stack(scenes))[1])
    shared, alone = (task.model.inputs(some, with_answers=True).prompt for some in (turns, apart))
    assert sizes == [2, 8]
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-5)


def test_aligning_leaves_the_language_model_as_it_is(folder: Path, tmp_path: Path) -> None:
    same = settings(folder, "train.preview_every=0", "train.validate_every=0", "train.save_every=1")
    begun = [f"init={folder / 'run'}", f"run={tmp_path}", "train.steps=2", "task.stage=align"]
    train(load_experiment(SMOKE, [*same, *begun]))
    _, before = load_run(folder / "run")
    _, after = load_run(tmp_path)
    found = after.state_dict()
    moved = {name for name, value in before.state_dict().items() if not torch.equal(value, found[name])}
    assert moved
    assert all(name.startswith("model.connector.") for name in moved)


def test_every_task_through_one_assistant(assistant: SceneAssistant, scene: Scene) -> None:
    room = assistant.lift(scene)
    standing = Standing("I stand in the room.", (1.0, 1.0), 0.5)
    said = [
        assistant.caption(room),
        assistant.ask(room, "How many things are red?"),
        assistant.ask(room, "What is behind me?", "I stand beside the bed."),
        assistant.ask(room, "What is behind me?", standing),
        assistant.chat(room, ["What is here?", "A bed.", "What colour is it?"]),
        assistant.describe(room, scene.boxes[0]),
    ]
    assert all(isinstance(text, str) for text in said)
    assert isinstance(assistant.plan(room, "Water all the plants."), list)
    assert all((box.upper >= box.lower).all() for box in assistant.ground(room, "the bed"))
    assert assistant.ask(scene, "How many things are red?") == said[1]  # lifted anew, and answered alike


def test_what_was_said_before_counts(assistant: SceneAssistant, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(assistant.task, "answer", lambda turns, batch=16: [seen.append(turns[0]) or "1. Go.\n2. Stop."])
    room = assistant.lift(scene)
    assistant.chat(room, ["Hello.", "Hello.", "Where is it?"])
    assert (seen[-1].history, seen[-1].prompt) == (("Hello.", "Hello."), "Where is it?")
    assert assistant.plan(room, "Leave.", "I am here.") == ["Go.", "Stop."]
    assert seen[-1].prompt == "I am here. Leave. What are the steps?"
    monkeypatch.setattr(assistant.task, "answer", lambda turns, batch=16: [room.box_text(*torch.stack([A, B]))])
    (box,) = assistant.ground(room, "the bed")
    cell = max(room.codec.cell_size)
    assert (box.lower - A).abs().max() <= cell
    assert (box.upper - B).abs().max() <= cell
    assert box.label == "the bed"


A, B = torch.tensor([0.5, 0.6, 0.2]), torch.tensor([1.5, 1.4, 0.9])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a, s: a.ask(s, "  "), "question has no text"),
        (lambda a, s: a.plan(s, ""), "goal has no text"),
        (lambda a, s: a.ground(s, ""), "phrase has no text"),
        (lambda a, s: a.caption(s, "long"), "no style 'long'"),
        (lambda a, s: a.chat(s, ["Hello.", "Hello."]), "begins and ends with the user"),
        (lambda a, s: a.chat(s, [" "]), "has no text"),
        (lambda a, s: a.describe(s, torch.stack([B, A])), "lower and an upper corner"),
        (lambda a, s: a.describe(s, torch.stack([A + 90, B + 90])), "outside the scene"),
        (lambda a, s: a.lift(Scene("bare")), "scene 'bare' has no view"),
        (
            lambda a, s: a.lift(
                replace(s, points=None, views=[replace(v, depth=torch.zeros_like(v.depth)) for v in s.views[:2]])
            ),
            "no view could be lifted",
        ),
    ],
)
def test_what_cannot_be_asked(assistant: SceneAssistant, scene: Scene, ask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(assistant, scene)


def test_more_voxels_than_the_limit(assistant: SceneAssistant, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    config = assistant.points.config
    small = replace(config, lifter=replace(config.lifter, max_voxels=10))
    with pytest.raises(ValueError, match=scene.name):
        type(assistant.points)(small)(scene)


def test_a_run_of_another_task(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text((ROOT / "configs" / "smoke" / "vae.yaml").read_text())
    with pytest.raises(ValueError, match="has no weights"):
        SceneAssistant.from_pretrained(tmp_path)
    wrong = load_experiment(SMOKE, settings(folder, f"run={tmp_path / 'x'}"))
    other = load_experiment(ROOT / "configs" / "smoke" / "vae.yaml")
    with pytest.raises(ValueError, match="data of kind 'rooms' or 'annotated'"):
        train(replace(wrong, data=other.data))


def test_scores_are_complete_and_the_same_for_any_batch(folder: Path, tmp_path: Path) -> None:
    one, other = (evaluate_scenes(folder / "run", each=1, floors=2, batch=batch) for batch in (1, 7))
    assert one.answers == other.answers
    assert one.questions is not None
    assert one.boxes is not None
    assert one.captions is not None
    assert set(one.questions.by_type) == {"existence", "count", "colour", "size", "relation", "comparison", "situated"}
    parts = (one.questions, one.captions, one.boxes, one.descriptions, one.dialogue, one.plans)
    assert len({row["id"] for row in one.answers}) == sum(part.num for part in parts if part is not None)
    assert one.dialogue is not None
    assert {"contents", "colour", "others"} <= set(one.dialogue.by_type)
    assert one.parts is not None
    assert set(one.parts.scores) == {"kind", "colour", "size", "all three"}
    assert one.plans is not None
    assert set(one.plans.scores) == {"well-formed", "things exist", "steps", "exact"}
    assert one.floors == 3
    assert 0 <= one.blind["all"].best <= 1
    written = json.loads(write_scores(one, tmp_path / "results.json", {"seed": 0}).read_text())
    assert written["questions"]["num"] == one.questions.num
    assert written["answers"][0]["truth"] == one.answers[0]["truth"]
    for part in ("boxes", "descriptions", "parts", "dialogue", "plans", "in 3 training floors"):
        assert part in str(one)


def test_scenes_can_become_points_otherwise_and_the_model_cannot(folder: Path) -> None:
    few = evaluate_scenes(folder / "run", each=1, floors=1, overrides=["task.points.max_points=8"])
    many = evaluate_scenes(folder / "run", each=1, floors=1)
    assert [row["id"] for row in few.answers] == [row["id"] for row in many.answers]
    assert few.boxes is not None
    assert few.told is not None
    with pytest.raises(ValueError, match="what was trained"):
        evaluate_scenes(folder / "run", overrides=["task.model.llm.depth=3"])


def test_every_id_comes_back_once_over_ranks(folder: Path) -> None:
    experiment, _ = load_run(folder / "run")
    exam = open_turns(experiment, "validation").exam(2)
    shares = [exam.turns[rank::3] for rank in range(3)]
    everyone = gather_answers([(turn.id, "yes") for share in shares for turn in share], exam.questions)
    assert len(everyone) == len(exam.turns)
    with pytest.raises(ValueError, match="more than once"):
        gather_answers([(turn.id, "yes") for share in [*shares, shares[0]] for turn in share], exam.questions)


def test_the_tool_answers_and_draws(folder: Path, tmp_path: Path) -> None:
    words = [
        "tools/ask.py",
        "--run",
        str(folder / "run"),
        "--scene",
        "3",
        "How many?",
        "--out",
        str(tmp_path / "a.png"),
    ]
    result = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "wrote" in result.stdout
    assert Image.open(tmp_path / "a.png").height > 300
    empty = [*words[:5], " "]
    result = subprocess.run([sys.executable, *empty], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: --do ask needs a text")


def test_a_picture_shows_the_boxes(scene: Scene, tmp_path: Path) -> None:
    with_box = Image.open(draw_answer(scene, scene.boxes[:1], tmp_path / "a.png", 4))
    without = Image.open(draw_answer(scene, [], tmp_path / "b.png", 4))

    def red(picture: Image.Image) -> int:
        return sum(n for n, (r, g, b) in picture.getcolors(1 << 24) or [] if (r, g, b) == (255, 40, 40))

    assert red(with_box) > 50
    assert red(without) == 0
    grounded = Image.open(draw_answer(scene, [], tmp_path / "c.png", 4, grounded=scene.boxes[:1]))
    assert red(grounded) == 0
    assert grounded.height > with_box.height  # the legend
    orange = sum(n for n, colour in grounded.getcolors(1 << 24) or [] if colour == (230, 120, 0))
    assert orange > 50


def test_the_view_that_is_chosen_shows_the_thing_and_not_the_wall_before_it(scene: Scene) -> None:
    for box in scene.boxes:
        shown = [_shown(scene.aligned_view(index), [box]) for index in range(scene.num_views)]
        best = scene.aligned_view(max(range(scene.num_views), key=lambda i: shown[i]))
        assert best.depth is not None
        wall = replace(best, depth=torch.full_like(best.depth, 0.05))
        assert _shown(wall, [box]) == 0
        assert max(shown) > 0
        elsewhere = replace(box, lower=box.lower + 90, upper=box.upper + 90)
        assert _shown(best, [elsewhere]) == 0
    without = [_shown(replace(scene.aligned_view(i), depth=None), list(scene.boxes)) for i in range(scene.num_views)]
    assert max(without) > min(without)


def test_things_named_in_words_are_grounded_by_the_model(
    assistant: SceneAssistant, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = assistant.lift(scene)
    asked: list[str] = []

    def answer(turns: list[Turn], batch: int = 16) -> list[str]:
        asked.extend(turn.prompt for turn in turns)
        return ["nothing" if "lamp" in turn.prompt else room.box_text(A, B) for turn in turns]

    monkeypatch.setattr(assistant.task, "answer", answer)
    boxes = assistant.ground_mentions(room, "A small red bed, two chairs and the lamp; no table.")
    assert asked == [ground_prompt(phrase) for phrase in ("the small red bed", "the chair", "the lamp")]
    assert [box.label for box in boxes] == ["A small red bed", "one of: two chairs"]  # none for the lamp
    assert (boxes[0].upper - B).abs().max() <= max(room.codec.cell_size)
    monkeypatch.setattr(assistant, "can_ground", False)
    assert assistant.ground_mentions(room, "A small red bed.") == []
    assert len(asked) == 3


def test_who_was_not_taught_to_ground_does_not(folder: Path, tmp_path: Path) -> None:
    assert SceneAssistant.from_pretrained(folder / "run").can_ground
    some = ["train.steps=1", "train.validate_every=0", "train.preview_every=0", "data.weights={count: 1.0}"]
    train(load_experiment(SMOKE, settings(folder, f"run={tmp_path / 'run'}", *some)))
    assert not SceneAssistant.from_pretrained(tmp_path / "run").can_ground


def test_few_points_cover_a_scene_whatever_their_order() -> None:
    cloud = torch.cat([torch.rand(500, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([[3.0, 3, 3]])])
    taken = covering_points(cloud, 20)
    assert 500 in taken  # the one that stands apart
    reach = torch.cdist(cloud, cloud[taken]).amin(dim=1).max()
    assert float(reach) < 0.45
    turned = torch.arange(500, -1, -1)
    assert set((500 - covering_points(cloud[turned], 20)).tolist()) == set(taken.tolist())
    assert covering_points(cloud[:5], 20).tolist() == [0, 1, 2, 3, 4]


def test_boxes_in_a_text() -> None:
    codec = SceneCodec.from_bounds((0, 0, 0), (4, 4, 2))
    empty = torch.zeros(1, 3)
    scene = LiftedScene("room", PointSet(empty, empty, empty, empty.long()), codec)
    low, high = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, 3.0, 1.0])
    text = f"It is at {scene.box_text(low, high)}, next to {scene.box_text(high, high + 0.5)}."
    first, second = scene.boxes_in(text)
    assert (first - torch.stack([low, high])).abs().max() <= max(codec.cell_size)
    assert (second[1] - high - 0.5).abs().max() <= max(codec.cell_size)
    assert scene.boxes_in("<loc1><loc2>") == []
    assert scene.boxes_in("<loc999>" * 6) == []
    assert scene.boxes_in(scene.box_text(low - 90, high + 90)) != []  # cut off at the edge


def test_from_above_the_highest_point_is_in_front() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 1, 0], [1, 1, 2]])
    colours = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]])
    picture = seen_from_above(points, colours, 32)
    assert picture[:, 2, -4].tolist() == [1, -1, -1]
    assert picture[:, -3, 1].tolist() == [-1, -1, -1]


def test_the_loader_of_a_run_goes_on_where_it_was(folder: Path) -> None:
    experiment, _ = load_run(folder / "run")
    loader = ExampleLoader.for_rank(open_turns(experiment), experiment.data, experiment.seed, 0, 1)  # type: ignore[arg-type]
    walked = [turn.prompt for step in islice(loader.steps(), 3) for pack in step for turn in pack]
    assert walked[-len(walked) // 3 :] == [turn.prompt for pack in next(loader.steps(2)) for turn in pack]
