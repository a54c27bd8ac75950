"""3D-LLM's two stages, from annotated scans to answers: configs/scene/3dllm_*.yaml with tiny networks and one scan."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_scenes_scannet import NAME, write_exported, write_mesh
from tiny_weights import save_weights

from genworld.data.scenes import open_scenes
from genworld.experiment import build_task, load_experiment, load_run, open_turns, train
from genworld.models.connectors import LinearConfig, Positions3DConfig, QFormerConfig
from genworld.models.images import ViTEncoderConfig
from genworld.models.llm import PretrainedLLMConfig
from genworld.models.points import DirectLifterConfig
from genworld.pipelines.scene import SceneAssistant
from genworld.tasks.converse import ConverseConfig
from tests.models.scene_cases import room

ROOT = Path(__file__).resolve().parents[2]
ALIGN, INSTRUCT = (ROOT / "configs" / "scene" / f"3dllm_{stage}.yaml" for stage in ("align", "instruct"))
PARTS = "task.model.connector.parts"
SMALL = [f"{PARTS}.1.width=16", f"{PARTS}.1.depth=2", f"{PARTS}.1.num_heads=2", "task.points.max_points=200"]
QUICK = ["train.steps=2", "train.save_every=0", "train.validate_every=2", "train.precision=fp32", "train.threads=1"]
QUICK += ["train.optim.learning_rate=1e-2", "train.schedule.warmup_steps=0", "train.ema_decay=0.5"]
TINY = [*SMALL, *QUICK, "data.batch=4", "data.validation=2"]


def write_questions(data: Path) -> None:
    """A few lines in the files that the two configs name."""
    asked = [
        {"question_id": f"q{i}", "scene_id": NAME, "question": text, "answers": [answer]}
        for i, (text, answer) in enumerate((("How many chairs are there?", "1"), ("What is red?", "a wall")))
    ]
    situated = {"question_id": 1, "scene_id": NAME, "question": "What is behind me?", "situation": "I sit."}
    note = {
        "question_id": 1,
        "answers": [{"answer": "a table"}],
        "position": {"x": 0, "y": 0, "z": 0},
        "rotation": {"_x": 0, "_y": 0, "_z": 0, "_w": 1},
    }
    chair = {"scene_id": NAME, "object_id": "0", "object_name": "chair", "ann_id": "0", "description": "the chair"}
    files: dict[str, object] = {}
    for split in ("train", "val"):
        files[f"scanqa/ScanQA_v1.0_{split}.json"] = asked
        files[f"sqa3d/v1_balanced_questions_{split}_scannetv2.json"] = {"questions": [situated]}
        files[f"sqa3d/v1_balanced_sqa_annotations_{split}_scannetv2.json"] = {"annotations": [note]}
        files[f"scanrefer/ScanRefer_filtered_{split}.json"] = [chair]
    for name, content in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(json.dumps(content))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the two configs ask for, where they ask for it."""
    save_weights(tmp_path / "weights")
    scan = write_exported(tmp_path / "data" / "scannet" / NAME, room(4, (48, 64)))
    write_mesh(scan)
    write_questions(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("path", "stage"), [(ALIGN, "align"), (INSTRUCT, "instruct")])
def test_the_stages_are_those_of_3dllm(path: Path, stage: str) -> None:
    experiment = load_experiment(path)
    task = experiment.task
    assert isinstance(task, ConverseConfig)
    assert task.stage == stage
    assert task.model.connector.parts == (Positions3DConfig(style="add"), QFormerConfig(num_queries=32), LinearConfig())
    assert isinstance(task.model.llm, PretrainedLLMConfig)
    assert isinstance(task.points.encoder, ViTEncoderConfig)
    assert isinstance(task.points.lifter, DirectLifterConfig)
    assert task.model == load_experiment(ALIGN).task.model  # type: ignore[union-attr]
    assert experiment.init == (None if stage == "align" else load_experiment(ALIGN).folder)


def test_two_stages_from_scans_to_an_answer(place: Path) -> None:
    aligned, instructed = load_experiment(ALIGN, TINY), load_experiment(INSTRUCT, TINY)
    assert train(aligned).status == "finished"
    assert train(instructed).status == "finished"
    turns = [open_turns(instructed).read(index, index) for index in range(5)]
    assert {turn.kind for turn in turns} >= {"ground", "describe"}
    assert any("<loc" in turn.answer for turn in turns)
    states = [build_task(aligned).state_dict(), *(load_run(x.folder)[1].state_dict() for x in (aligned, instructed))]
    first, second = (
        {name for name, value in before.items() if not torch.equal(value, after[name])}
        for before, after in pairwise(states)
    )
    assert first
    assert all(name.startswith("model.connector.") for name in first)
    assert {"1", "2"} == {name.split(".")[3] for name in second if name.startswith("model.connector.parts.")}
    words = {name for name in second if name.startswith("model.llm.")}
    assert any("lora_B" in name for name in words)
    assert any("trainable_tokens" in name for name in words)
    assert all("lora_" in name or "trainable_tokens" in name for name in words)  # all else is Flan-T5's
    assistant = SceneAssistant.from_pretrained(instructed.folder, "cpu")
    assert isinstance(assistant.ask(open_scenes(place / "data" / "scannet").read(NAME), "What is red?"), str)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (
            "weights/vit",
            r"no image encoder in weights/vit: expected config.json and \*.safetensors; there is no such fo",
        ),
        (
            "weights/flan_t5",
            r"no language model in weights/flan_t5: expected config.json, .* the tokenizer's files; the",
        ),
        ("data/scannet", r"data/scannet: no such file or folder: expected scenes, such as a folder of ScanNet scans"),
        ("data/scanqa", r"data/scanqa/ScanQA_v1.0_train.json: no such file"),
    ],
)
def test_what_is_missing_is_named(place: Path, folder: str, message: str) -> None:
    shutil.rmtree(place / folder)
    with pytest.raises(ValueError, match=message):
        train(load_experiment(ALIGN, TINY))


def test_places_of_one_token_are_refused(place: Path) -> None:
    with pytest.raises(ValueError, match=r"task: model.llm.locations is flat32, .* set it to axis"):
        load_experiment(INSTRUCT, [*TINY, "task.model.llm.locations=flat32"])
