"""Scores of annotation files: by published protocols, by ScanRefer's groups, of captions in boxes; and the command."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from genworld.data import scene_turns_annotated
from genworld.data.questions import Question
from genworld.data.scene_prompts import describe_prompt, ground_prompt
from genworld.data.scene_turns_annotated import AnnotatedExam
from genworld.eval.qa_protocols import PROTOCOLS, protocol
from genworld.experiment import load_experiment, train
from genworld.ops.lifted import LiftedScene
from genworld.ops.scene_codec import SceneCodec
from genworld.pipelines import scene_data
from genworld.pipelines.chat_template import TemplateChat
from genworld.pipelines.scene_data import Floors, GenerateSettings, generate
from genworld.pipelines.scene_evaluation import _Baselines, _score, evaluate_scenes, write_scores
from genworld.pipelines.scene_reports import report_protocols
from genworld.tasks.converse import Converse
from genworld.types import PointSet, SceneBox, Turn
from genworld.world.rooms import sample_floor
from genworld.world.rooms.floor import FloorConfig

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "configs" / "smoke" / "scene.yaml"
TOOL = ROOT / "tools" / "evaluate_scene.py"


class Finds(Converse):
    """Takes boxes as they were told."""

    def __init__(self) -> None:
        pass

    def at_objects(self, scene, boxes):
        return list(boxes)


def scenes() -> dict[str, LiftedScene]:
    codec = SceneCodec.from_bounds((0, 0, 0), (4, 4, 4))
    empty = torch.zeros(1, 3)
    return {name: LiftedScene(name, PointSet(empty, empty, empty, empty.long()), codec) for name in ("s0", "s1")}


BOXES = {n: SceneBox("", n, torch.full((3,), 1.0 + n), torch.full((3,), 2.0 + n)) for n in (0, 1)}
SMALL = SceneBox("", 2, torch.full((3,), 0.101), torch.full((3,), 0.102))  # much less than a cell


def refer_exam() -> AnnotatedExam:
    """Two phrases about one chair of two, one about the only table, and one about something tiny in another scene."""
    shown = scenes()
    asked = [("s0", 0, "chair", "a red chair"), ("s0", 0, "chair", "the chair that is red"), ("s0", 1, "table", "it")]
    objects = [(*each, BOXES[each[1]]) for each in asked] + [("s1", 2, "pen", "a pen", SMALL)]
    turns, questions = [], []
    truth: dict[str, dict[str, SceneBox]] = {"ground": {}, "describe": {}}
    for number, (scene, thing, name, text, box) in enumerate(objects):
        told = shown[scene].box_text(box.lower, box.upper)
        for kind, prompt, answer in (
            ("ground", ground_prompt(text), told),
            ("describe", describe_prompt(told), text),
        ):
            key = f"{kind}/{number}"
            turns.append(Turn(len(turns), scene, shown[scene].points, (), prompt, answer, kind, key))
            questions.append(Question(key, scene, text, (answer,), kind, None, (thing,), (name,)))
            truth[kind][key] = box
    named = {"s0": {0: "chair", 1: "table", 5: "chair"}, "s1": {2: "", 3: "pen"}}
    files = {turn.id: "refer.json" for turn in turns}
    return AnnotatedExam(tuple(turns), tuple(questions), truth["ground"], shown, files, truth["describe"], named)


def test_phrases_are_scored_in_groups_and_boxes_captioned() -> None:
    exam = refer_exam()
    said = {turn.id: turn.answer for turn in exam.turns} | {"ground/1": "nowhere"}
    said |= {"describe/0": "a red chair", "describe/1": "a red chair", "describe/2": "it"}
    unseen = dict.fromkeys(said, "it")
    scores = _score(Finds(), exam, said, unseen, _Baselines((), {}, 0))
    assert scores.boxes is not None
    groups = scores.boxes.by_group
    assert set(groups) == {"unique", "multiple"}  # the class of a thing in the other scene is not known
    assert (groups["unique"]["acc@0.5"].value, groups["unique"]["acc@0.5"].num) == (100, 1)
    assert (groups["multiple"]["acc@0.25"].value, groups["multiple"]["acc@0.25"].num) == (50, 2)
    assert scores.boxes.scores["acc@0.25"].value == pytest.approx(50)  # the tiny box is told by a whole cell
    told = str(scores)
    assert "\n  unique 1: acc@0.25 100.0" in told
    assert "\n  multiple 2: acc@0.25 50.0" in told
    report = scores.in_boxes["0.5"]
    assert (report.num, report.num_right) == (3, 2)
    assert report.scores["rouge_l@0.5"].value > report.blind["rouge_l@0.5"].value > 0
    assert report.gain.value > 0
    assert report.gain.interval is not None
    assert "captions of given boxes at IoU 0.25: 3 objects, 2 in a box that is right" in told
    assert set(scores.to_dict()["in_boxes"]) == {"0.25", "0.5"}


def qa_exam(files: dict[str, str]) -> AnnotatedExam:
    shown = scenes()
    questions = [
        Question(key, f"s{n % 2}", "What is it?", ("brown chair", "chair"), "object") for n, key in enumerate(files)
    ]
    turns = [
        Turn(n, q.scene, shown[q.scene].points, (), q.text, q.answers[0], "object", q.id)
        for n, q in enumerate(questions)
    ]
    return AnnotatedExam(tuple(turns), tuple(questions), {}, shown, files, {}, {})


def test_each_file_is_scored_by_each_protocol_apart() -> None:
    exam = qa_exam({"a": "scanqa.json", "b": "scanqa.json", "c": "other.json"})
    said = {"a": "chair", "b": "Chair.", "c": "the brown chair"}
    ways = [protocol("scanqa_official"), protocol("leo"), protocol("llava3d")]
    found = report_protocols(ways, exam, exam.questions, said, dict.fromkeys(said, "door"))
    values = {name: {file: each.scores["em"].value for file, each in files.items()} for name, files in found.items()}
    assert values == {
        "scanqa_official": {"scanqa.json": 50, "other.json": 0},
        "leo": {"scanqa.json": 0, "other.json": 100},  # its bug: "brown chair" holds "chair", and comes first
        "llava3d": {"scanqa.json": 100, "other.json": 100},
    }
    assert found["leo"]["scanqa.json"].protocol == "leo"
    assert found["leo"]["scanqa.json"].num == 2
    assert found["leo"]["scanqa.json"].blind["em"].value == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, from YAML, on what was generated about floors of the world."""
    folder = tmp_path_factory.mktemp("annotated")
    with pytest.MonkeyPatch.context() as patch:
        small_floors(patch)
        settings = GenerateSettings(way="boxes", kinds=("qa", "caption"))
        generate(settings, Floors(range(10, 12)), TemplateChat(), folder / "said", progress=False)  # train and val
        config = yaml.safe_load(SMOKE.read_text())
        config["task"]["points"]["cache"] = str(folder / "points")
        file = {"format": "generated", "path": str(folder / "said")}
        config["data"] = {"kind": "annotated", "scenes": None, "batch": 4, "validation": 2}
        config["data"] |= {"files": [file | {"split": "train"}], "held_out": [file | {"split": "val"}]}
        config["train"] |= {"steps": 1, "preview_every": 0, "threads": 1}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        assert train(load_experiment(folder / "config.yaml", [f"run={folder / 'run'}"])).status == "finished"
    return folder / "run"


def small_floors(patch: pytest.MonkeyPatch) -> None:
    for module in (scene_turns_annotated, scene_data):
        patch.setattr(module, "sample_floor", partial(sample_floor, config=FloorConfig(max_rooms=1)))


def test_one_set_of_answers_gets_several_scores(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_floors(monkeypatch)
    turns: list[int] = []
    answer = Converse.answer
    monkeypatch.setattr(
        Converse, "answer", lambda self, some, batch=16: (turns.append(len(some)), answer(self, some))[1]
    )
    plain = evaluate_scenes(run)
    once, turns[:] = list(turns), []
    scores = evaluate_scenes(run, protocols=["scanqa_official", "leo"])
    assert turns == once
    assert scores.answers == plain.answers
    assert scores.questions is not None
    assert set(scores.protocols) == {"scanqa_official", "leo"}
    report = scores.protocols["leo"]["said"]
    assert report.num == scores.questions.num > 0
    assert scores.captions is not None
    written = json.loads(write_scores(scores, tmp_path / "results.json", {"run": "r"}).read_text())
    assert written["protocols"]["leo"]["said"]["quirks"] == list(protocol("leo").quirks)
    assert written["questions"]["protocol"] == "genworld"
    card = (tmp_path / "card.md").read_text()
    for name in ("scanqa_official", "leo"):
        assert f"said by {name}" in str(scores)
        assert f"## said by {name}" in card
    assert all(f"- note: {quirk}" in card for quirk in protocol("leo").quirks)
    assert f"| em | {report.scores['em']} | {report.blind['em']} |" in card
    assert "- run: r" in card
    # Without protocols nothing is written that was not before.
    before = json.loads(write_scores(plain, tmp_path / "plain" / "results.json", {"run": "r"}).read_text())
    assert set(written) - set(before) == {"protocols", "left_out"}
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["results.json"]


def test_the_command_names_the_protocols(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_floors(monkeypatch)
    tool = runpy.run_path(str(TOOL))["main"]

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(TOOL), "--run", str(run), *words])
        return tool()

    names = [each.name for each in PROTOCOLS]
    for words, code in ((["--help"], 0), (["--protocol", "scanqa"], 2)):
        with pytest.raises(SystemExit) as left:
            call(*words)
        assert left.value.code == code
        told = " ".join(capsys.readouterr()).replace("\n", " ")
        assert all(name in told for name in names)
    assert call("--out", str(tmp_path / "a.json"), "--protocol", "ll3da", "3dllm") == 0
    told = capsys.readouterr().out
    assert "said by ll3da (tokens: none)" in told
    assert "note: no EM is reported" in told
    assert "said by 3dllm (tokens: PTB rules in Python)" in told
    assert "## said by ll3da" in (tmp_path / "a-card.md").read_text()
    with pytest.raises(ValueError, match="no protocol 'scanqa': there are genworld, scanqa_official"):
        evaluate_scenes(run, protocols=["scanqa"])
