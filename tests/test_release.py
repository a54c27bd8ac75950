"""A released run is small, samples what the run samples, and the one that comes with the repository works."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genworld.eval.palette import track_object
from genworld.experiment import load_experiment, train
from genworld.pipelines.keep import Keep
from genworld.pipelines.video import VideoGenerator
from genworld.train.checkpoint import find_problems, latest_checkpoint
from tools.release import release, use

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "configs" / "smoke" / "text_to_video.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    train(load_experiment(SMOKE, [f"run={folder}", "train.threads=1", "train.steps=2"]))
    return folder


def test_a_release_is_small_whole_and_samples_the_same(run: Path, tmp_path: Path) -> None:
    made = release(run, tmp_path / "released")
    assert find_problems(made) == []
    sizes = [sum(f.stat().st_size for f in each.rglob("*.safetensors")) for each in (latest_checkpoint(run), made)]
    assert sizes[1] < sizes[0] / 5
    one, two = (VideoGenerator.from_run(each)("a red ball", steps=2)[0] for each in (run, tmp_path / "released"))
    assert (one.pixels - two.pixels).abs().max() < 0.05


def test_nothing_is_written_over(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="exists: choose another folder"):
        release(run, tmp_path / "there")
    with pytest.raises(ValueError, match="train it first"):
        release(tmp_path / "nothing", tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "command"),
    [("video_tasks", "sample.py"), ("scene_rooms", "tools/ask.py"), ("navigate", "tools/navigate.py")],
)
def test_a_release_says_what_it_is_for(name: str, command: str) -> None:
    assert use(ROOT / "weights" / name).startswith(f"python {command} --run {ROOT / 'weights' / name}")


def test_the_weights_in_the_repository_see_their_first_frame_and_prompt() -> None:
    generator = VideoGenerator.from_run(ROOT / "weights" / "video_tasks")
    first = generator("A red ball stays still.", frames=1, steps=12)[0].pixels[:, 0]
    clip = generator("A red ball stays still.", keep=[Keep(first)], camera="stand", steps=12)[0]
    assert torch.equal(clip.pixels[:, 0], first)
    track = track_object(clip.pixels)
    assert track.colour == "red"
    assert track.presence == 1
