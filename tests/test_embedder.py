"""The embedder: a smoke run from training to search, folders with bad files, classes, and what is refused."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_clip import make_clip

from genworld.data.writer import write_video
from genworld.experiment import load_experiment, load_run, train
from genworld.ops.pictures import to_uint8
from genworld.pipelines.embed import Embedder, FolderEmbedding
from genworld.pipelines.export import export_run
from genworld.tasks.align import Align
from genworld.types import Clip, ClipShape
from genworld.world import WorldConfig, sample_clip

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "configs" / "smoke" / "align.yaml"
ONE_THREAD = "train.threads=1"
SHAPE = ClipShape(9, 64, 64, 4.0)


def world_clip(colour: str, shape: str, seed: int = 3_000_000_000) -> Clip:
    config = WorldConfig(max_objects=1, colours=(colour,), shapes=(shape,), occluders=0.0)
    return sample_clip(seed, config, SHAPE).clip


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.default()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, an image, a caption, a file that is no image and one that is no video."""
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "a.mp4", world_clip("red", "sphere").pixels, 4)
    write_video(folder / "b.mp4", world_clip("blue", "cube").pixels, 4)
    (folder / "b.txt").write_text("what I wrote of it")
    (folder / "more").mkdir()
    frame = to_uint8(world_clip("green", "torus").pixels)[0]
    Image.fromarray(frame.numpy()).save(folder / "more" / "c.png")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smoke config, two steps long, and two more after a resume."""
    folder = tmp_path_factory.mktemp("runs") / "align"
    settings = [f"run={folder}", "train.save_every=0", ONE_THREAD, "train.preview_every=2"]
    train(load_experiment(SMOKE, [*settings, "train.steps=2"]))
    result = train(load_experiment(SMOKE, [*settings, "train.steps=4"]), resume=True)
    assert (result.status, result.step) == ("finished", 4)
    return folder


# ---- training ----


def test_a_run_trains_validates_and_loads(run: Path) -> None:
    rows = (run / "log" / "losses.csv").read_text()
    for name in ("train/loss", "train/accuracy", "train/scale", "validation/loss", "validation/accuracy"):
        assert name in rows
    assert list(run.glob("previews/*/found.png"))
    experiment, task = load_run(run)
    assert isinstance(task, Align)
    assert experiment.task.kind == "align"
    assert task.encoder.words is not None
    assert "red" in task.encoder.words


def test_a_step_cannot_be_accumulated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="packs_per_step is 2, but 'align' compares all clips of a step"):
        train(load_experiment(SMOKE, [f"run={tmp_path}", "data.packing.packs_per_step=2", ONE_THREAD]))


def test_siglip_trains(tmp_path: Path) -> None:
    settings = [f"run={tmp_path}", "task.loss={kind: siglip}", "train.steps=2", "train.save_every=0", ONE_THREAD]
    train(load_experiment(SMOKE, settings))
    assert Embedder.from_run(tmp_path).scale == pytest.approx(10, rel=0.01)


def test_a_run_becomes_a_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Embedder, "evaluate", lambda self: {"zero_shot/accuracy": 0.5})  # takes half a minute
    export_run(run, tmp_path / "encoder", "a test")
    exported, original = Embedder.from_folder(tmp_path / "encoder"), Embedder.from_run(run)
    record = json.loads((tmp_path / "encoder" / "config.json").read_text())
    assert (record["made"]["step"], record["made"]["scores"]) == (4, {"zero_shot/accuracy": 0.5})
    assert (exported.domain, exported.scale) == ("a test", pytest.approx(original.scale))
    clips = [world_clip("red", "cube"), world_clip("blue", "cone").pixels[:, 0]]
    torch.testing.assert_close(exported.videos(clips), original.videos(clips), atol=0.02, rtol=0)


# ---- embedding ----


def test_media_of_any_kind_are_one_thing(embedder: Embedder, media: Path) -> None:
    clip = world_clip("green", "torus")
    frame = to_uint8(clip.pixels)[0]
    ways = [media / "more" / "c.png", Image.fromarray(frame.numpy()), str(media / "more" / "c.png")]
    features = embedder.images(ways)
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])
    assert (features[0] @ embedder.images([clip.pixels[:, 0]])[0]) > 0.999  # 8 bits
    torch.testing.assert_close(embedder.videos([clip, clip.pixels]), embedder.videos([clip.pixels] * 2))
    together = embedder.videos([clip, clip.pixels[:, :3], clip.pixels[:, 0]])
    for one, features in zip([clip, clip.pixels[:, :3], clip.pixels[:, 0]], together, strict=True):
        torch.testing.assert_close(embedder.videos([one])[0], features, atol=1e-5, rtol=0)


def test_classes_by_name(embedder: Embedder, media: Path) -> None:
    classes = ["red ball", "blue cube", "green ring", "pink cone"]
    found = embedder.classify([media / "a.mp4", media / "b.mp4", media / "more" / "c.png"], classes)
    assert found.names == classes[:3]
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(3))
    with pytest.raises(ValueError, match="never say what these classes do: red giraffe; choose classes"):
        embedder.classify([media / "a.mp4"], ["red ball", "red giraffe"])
    with pytest.raises(ValueError, match="expected classes, each once"):
        embedder.classify([media / "a.mp4"], ["red ball", "red ball"])


def test_a_folder_with_bad_files(
    embedder: Embedder, media: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = embedder.folder(media)
    assert found.files == ("a.mp4", "b.mp4", "more/c.png")
    assert found.texts == ("", "what I wrote of it", "")
    assert set(found.rejected) == {"broken.mp4", "broken.png"}
    assert "left out: broken.png: " in caplog.text
    torch.testing.assert_close(found.features[2], embedder.images([media / "more" / "c.png"])[0])
    assert embedder.search(found, "A red ball.", top=1)[0][0] == "a.mp4"
    manifest = found.save(tmp_path, {"command": "a test"})
    again = FolderEmbedding.load(tmp_path)
    assert json.loads(manifest.read_text())["command"] == "a test"
    assert torch.equal(again.features, found.features)
    assert (again.files, again.rejected, again.root) == (found.files, found.rejected, media.resolve())
    assert [path for path, _ in embedder.search(again, "a blue cube")] == [
        path for path, _ in embedder.search(found, "a blue cube")
    ]


def test_folders_that_hold_nothing(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the manifest is empty"):
        embedder.folder(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of its 1 images and videos can be used"):
        embedder.folder(tmp_path)
    with pytest.raises(ValueError, match="holds no embedding"):
        FolderEmbedding.load(tmp_path)


def test_other_encoders_vectors_are_refused(embedder: Embedder, run: Path, media: Path) -> None:
    found = Embedder.from_run(run).folder(media)
    with pytest.raises(ValueError, match="was embedded by another encoder"):
        embedder.search(found, "a red ball")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there are no images or videos"),
        (["nowhere.mp4"], "there is no such file"),
        ([torch.zeros(2, 2, 8, 8)], r"expected floating-point pixels \[3 F H W\] or \[3 H W\]"),
        ([torch.zeros(3, 1, 8, 8, dtype=torch.uint8)], "got torch.uint8"),
        ([torch.zeros(3, 0, 8, 8)], r"got torch.float32 \[3, 0, 8, 8\]"),
    ],
)
def test_what_cannot_be_embedded(embedder: Embedder, given: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedder.videos(given)


def test_images_are_not_videos(embedder: Embedder, media: Path) -> None:
    with pytest.raises(ValueError, match=r"expected images, but .*a\.mp4 has 9 frames: use `videos`"):
        embedder.images([media / "a.mp4"])
    with pytest.raises(ValueError, match="there are no texts"):
        embedder.texts([])


def test_a_clip_of_transformers_goes_through_the_same_door(tmp_path: Path, media: Path) -> None:
    clip = Embedder.from_pretrained(make_clip(tmp_path / "clip"))
    found = clip.folder(media)
    assert found.features.shape == (3, 8)
    torch.testing.assert_close(found.features.norm(dim=1), torch.ones(3))
    assert len(clip.search(found, "anything at all", top=2)) == 2
    assert clip.classify([media / "a.mp4"], ["a giraffe", "a zebra"]).probabilities.shape == (1, 2)


def test_the_command_line(media: Path, tmp_path: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess:
        words = (sys.executable, "tools/embed.py", *words)
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    result = command("folder", str(media), "--out", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "embedded 3 files, left out 2" in result.stdout
    result = command("search", str(tmp_path / "out"), "a red ball", "--out", str(tmp_path / "found.png"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].endswith("a.mp4")
    assert (tmp_path / "found.png").is_file()
    result = command("folder", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
