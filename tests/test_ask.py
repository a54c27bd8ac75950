"""`tools/ask.py` from folders: a frame may be lost, and the lifter may be another than in training."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from test_inspect_scene import small_room, write

from genworld.experiment import load_experiment, train
from genworld.models.points import DirectLifterConfig
from genworld.models.points_fusion import FusionLifterConfig
from genworld.ops.lifted import LiftedScene
from genworld.pipelines.command import USER_ERROR, run_command
from genworld.pipelines.scene import SceneAssistant
from genworld.types import Scene
from tools import ask

ROOT = Path(__file__).resolve().parents[1]
ROOM = ROOT.parent / "shared" / "data" / "rgbd_room"
FUSION = "task.points.lifter={kind: fusion}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    folder = tmp_path_factory.mktemp("ask")
    caches = [f"data.cache={folder / 'floors'}", f"task.points.cache={folder / 'points'}", f"run={folder / 'run'}"]
    rest = ["train.steps=1", "train.validate_every=0", "train.preview_every=0", "train.threads=1", "data.floors=1"]
    train(load_experiment(ROOT / "configs" / "smoke" / "scene.yaml", [*caches, *rest]))
    return folder / "run"


@pytest.fixture
def lifted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, LiftedScene]]:
    """By which lifter, and what was made by it."""
    seen: list[tuple[object, LiftedScene]] = []
    lift = SceneAssistant.lift

    def watched(assistant: SceneAssistant, scene: Scene | LiftedScene) -> LiftedScene:
        made = lift(assistant, scene)
        if isinstance(scene, Scene):
            seen.append((assistant.points.lifter.config, made))
        return made

    monkeypatch.setattr(SceneAssistant, "lift", watched)
    return seen


def call(monkeypatch: pytest.MonkeyPatch, run: Path, scene: Path, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["ask.py", "--run", str(run), "--scene", str(scene), *map(str, words)])
    return run_command(ask.main)


def test_a_folder_with_a_lost_frame_is_asked_about(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "room", small_room())
    broken = sorted(folder.glob("*.color.png"))[1]
    broken.write_bytes(broken.read_bytes()[:300])
    assert call(monkeypatch, run, folder, "How many?", "--out", tmp_path / "a.png") == 0
    assert Image.open(tmp_path / "a.png").height > 300
    assert f"view {broken.name.removesuffix('.color.png')} is left out" in caplog.text


def test_what_is_in_a_box_is_told_and_drawn(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write(tmp_path / "room", small_room()), tmp_path / "a.png"
    eye = small_room().view(0).world_from_camera[:3, 3].tolist()
    corners = [*(x - 0.5 for x in eye), *(x + 0.5 for x in eye)]
    assert call(monkeypatch, run, folder, "--do", "describe", " ".join(map(str, corners)), "--out", out) == 0
    said = capsys.readouterr().out
    assert "\n  box 0: from ({:.2f}, {:.2f}, {:.2f}) to ({:.2f}, {:.2f}, {:.2f}) m\n".format(*corners) in said
    assert said.endswith(f"wrote {out}\n")
    assert Image.open(out).height > 300


def test_overrides_say_how_the_scene_is_lifted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lifted: list[tuple[object, LiftedScene]]
) -> None:
    folder = write(tmp_path / "room", small_room())
    out = tmp_path / "a.png"
    assert call(monkeypatch, run, folder, "How many?") == 0
    assert call(monkeypatch, run, folder, "How many?", "--out", out, FUSION, "task.points.max_points=9") == 0
    assert call(monkeypatch, run, folder, "--do", "caption", "task.points.max_points=7") == 0
    assert [config for config, _ in lifted] == [
        DirectLifterConfig(voxel=0.2, stride=2),
        FusionLifterConfig(),
        DirectLifterConfig(voxel=0.2, stride=2),
    ]
    assert [len(made.points) for _, made in lifted] == [64, 9, 7]
    assert out.is_file()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["How many?", "data.floors=3"], "only in how scenes become points"),
        (["How many?", "task.points.cache=kept"], "none are kept"),
        (["How many?", "task.pointsy=1"], "only in how scenes become points"),
        (["How many?", "task.points.lifter={kind: fusoin}"], "fusion"),
        (["--do", "caption", "What is here?"], "override 'What is here?'"),
        ([" ", FUSION], "--do ask needs a text"),
        (["--do", "describe", "1 2 3"], "a box is six numbers"),
        (["--do", "describe", "the chair"], "a box is six numbers"),
        (["--do", "describe", "2 0 0 1 1 1"], "a box is a lower and an upper corner"),
    ],
)
def test_what_cannot_be_otherwise_is_refused_in_a_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert call(monkeypatch, run, Path("3"), *words) == USER_ERROR
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert complaint in said


@pytest.mark.slow
@pytest.mark.skipif(not ROOM.is_dir(), reason=f"the real room is not here: {ROOM}")
def test_the_real_room_is_asked_about_by_two_lifters(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lifted: list[tuple[object, LiftedScene]],
) -> None:
    for kind, override in (("direct", []), ("fusion", [FUSION])):
        out = tmp_path / f"{kind}.png"
        words = ["Is there a table?", "--out", out, *override]
        assert call(monkeypatch, ROOT / "weights" / "scene_rooms", ROOM, *words) == 0
        answer, *_, wrote = capsys.readouterr().out.splitlines()
        assert answer.strip()
        assert wrote == f"wrote {out}"
        assert Image.open(out).height > 300
    (direct, one), (fusion, other) = lifted
    assert isinstance(direct, DirectLifterConfig)
    assert isinstance(fusion, FusionLifterConfig)
    assert one.points.features.shape[1] == other.points.features.shape[1]
    assert min(len(one.points), len(other.points)) > 500
    # Fused directions are means of unit vectors; means of plain features are as long as these are.
    assert float(other.points.features.norm(dim=1).max()) < 1.001
