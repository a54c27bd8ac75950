"""What `sample.py` is asked for: every task end to end, and what is refused with one clear line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_generator import random_clip, tiny_generator

from genworld.data.readers import open_reader
from genworld.data.writer import write_video
from genworld.pipelines import jobs
from genworld.pipelines.jobs import Made, fulfil
from genworld.pipelines.keep import read_media
from genworld.pipelines.storyboard import StoryShot, read_storyboard
from genworld.pipelines.video import VideoGenerator
from genworld.pipelines.wish import USES, Wish, read_duration, read_mask
from genworld.types import ClipShape
from sample import OneLineParser, parse_args

RUN = Path("runs/tiny")
STORY = """
- {prompt: a red ball, seconds: 2}
- {prompt: it stops, frames: 3, camera: "orbit:+30deg"}
- {prompt: a blue cube, seconds: 1, cut: true}
"""


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    return tiny_generator()


@pytest.fixture
def fulfilled(
    generator: VideoGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[Made], list[dict]]]:
    """Fulfils a wish of the tiny generator, and reads its records."""
    monkeypatch.setattr(jobs.VideoGenerator, "from_run", lambda run: generator)
    monkeypatch.setattr(jobs, "latest_checkpoint", lambda run: Path("step_00000004"))

    def run(**options: object) -> tuple[list[Made], list[dict]]:
        made = list(fulfil(Wish(run=RUN, out=tmp_path / "out", **options)))  # type: ignore[arg-type]
        return made, [json.loads(each.path.with_suffix(".json").read_text()) for each in made]

    return run


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips of 9 and 6 frames, one at another rate, an image, a mask, a storyboard, and a file that is none of it."""
    folder = tmp_path_factory.mktemp("media")
    smooth = torch.nn.functional.interpolate(random_clip(9, size=(4, 4))[None], (9, 32, 32), mode="trilinear")[0]
    mask = torch.full((3, 1, 32, 32), -1.0)
    mask[..., 8:20, 4:30] = 1.0
    files = {
        "a": write_video(folder / "a.mp4", smooth, 8.0),
        "b": write_video(folder / "b.mp4", smooth[:, :6].flip(1), 8.0),
        "slow": write_video(folder / "slow.mp4", smooth, 4.0),
        "wide": write_video(folder / "wide.mp4", smooth[:, :, :16], 8.0),
        "image": write_video(folder / "image.png", smooth[:, :1], 8.0),
        "mask": write_video(folder / "mask.png", mask, 1.0),
        "story": folder / "shots.yaml",
        "text": folder / "broken.mp4",
    }
    files["story"].write_text(STORY)
    files["text"].write_text("this is no video")
    return files


# ---- every task, end to end ----


@pytest.mark.parametrize(
    ("options", "given", "shape"),
    [
        ({}, [], ClipShape(17, 32, 32, 8.0)),
        ({"frames": 1}, [], ClipShape(1, 32, 32, 8.0)),
        ({"size": (32, 48), "fps": 4.0, "seconds": 10.0}, [], ClipShape(40, 32, 48, 4.0)),
        ({"image": "image"}, ["image"], ClipShape(17, 32, 32, 8.0)),
        ({"image": "image", "last": "image", "frames": 6}, ["image", "image"], ClipShape(6, 32, 32, 8.0)),
        ({"image": "image", "frames": 20}, ["image"], ClipShape(20, 32, 32, 8.0)),
        ({"last": "image", "frames": 20}, ["image"], ClipShape(20, 32, 32, 8.0)),
        ({"image": "image", "last": "image", "frames": 20}, ["image", "image"], ClipShape(20, 32, 32, 8.0)),
        ({"camera": "orbit:+30deg", "frames": 20}, [], ClipShape(20, 32, 32, 8.0)),
        ({"image": "image", "camera": "pan:9deg", "frames": 20}, ["image"], ClipShape(20, 32, 32, 8.0)),
        ({"extend": "a", "by": "3s"}, ["a"], ClipShape(33, 32, 32, 8.0)),
        ({"extend": "a", "by": "4", "camera": "dolly:0.5m"}, ["a"], ClipShape(13, 32, 32, 8.0)),
        ({"extend": "a", "by": "0.5s", "backward": True}, ["a"], ClipShape(13, 32, 32, 8.0)),
        ({"connect": ["a", "b"], "gap": "1s"}, ["a", "b"], ClipShape(23, 32, 32, 8.0)),
        ({"loop": True}, [], ClipShape(16, 32, 32, 8.0)),
        ({"loop": True, "seconds": 3.0, "size": (32, 48)}, [], ClipShape(24, 32, 48, 8.0)),
        ({"edit": "a"}, ["a"], ClipShape(9, 32, 32, 8.0)),
        ({"edit": "a", "strength": 0.2, "camera": "stand"}, ["a"], ClipShape(9, 32, 32, 8.0)),
        ({"inpaint": "a", "mask": "mask"}, ["a", "mask"], ClipShape(9, 32, 32, 8.0)),
        ({"inpaint": "a", "mask": "4,8,26,12"}, ["a"], ClipShape(9, 32, 32, 8.0)),
        ({"outpaint": "wide", "size": (32, 48)}, ["wide"], ClipShape(9, 32, 48, 8.0)),
        ({"storyboard": "story"}, ["story"], ClipShape(27, 32, 32, 8.0)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_every_task_writes_a_file_and_its_record(
    fulfilled: Callable, media: dict[str, Path], options: dict, given: list[str], shape: ClipShape
) -> None:
    def find(value: object) -> object:
        if isinstance(value, list):
            return [media[name] for name in value]
        found = media.get(value) if isinstance(value, str) else None
        return value if found is None else found

    found = {name: find(value) for name, value in options.items()}
    if "mask" in found:
        found["mask"] = str(found["mask"])
    prompt = {} if "storyboard" in options else {"prompt": ["A red ball!"]}
    ((path, drift),), (record,) = fulfilled(**prompt, **found, steps=1)
    with open_reader(path) as reader:
        info = reader.info
    assert (info.num_frames, info.height, info.width) == shape[:3]
    assert path.suffix == (".png" if shape.num_frames == 1 else ".mp4")
    if record["task"] == "edit":
        assert record["strength"] == options.get("strength", 0.6)
    if shape.num_frames > 1:
        assert info.fps == pytest.approx(shape.fps)
    assert record["shape"] == shape._asdict()
    assert record["task"] == next((name for name in USES if name in options), "make")
    sums = [hashlib.sha256(media[name].read_bytes()).hexdigest() for name in given]
    assert [each["sha256"] for each in record["given"]] == sums
    assert record["options"].keys() == options.keys() - {record["task"]}
    assert record["prompt"] == ("shots" if "storyboard" in options else "A red ball!")
    assert (record["seed"], record["sampler"]["num_steps"], record["checkpoint"]) == (0, 1, "step_00000004")
    streamed = shape.num_frames > 17 and not {"last", "connect", "loop", "storyboard"} & options.keys()
    streamed |= "extend" in options and "backward" not in options
    assert (drift is not None) == ("drift" in record) == streamed


def test_given_pixels_are_in_the_file(fulfilled: Callable, media: dict[str, Path]) -> None:
    ((path, _),), _ = fulfilled(prompt=["a red ball"], extend=media["a"], by="4", backward=True, steps=1)
    difference = read_media(path).pixels[:, 4:] - read_media(media["a"]).pixels
    assert difference.abs().mean() < 0.03  # twice through H.264


def test_a_storyboard_is_in_its_record(fulfilled: Callable, media: dict[str, Path]) -> None:
    _, (record,) = fulfilled(storyboard=media["story"], steps=1)
    assert [shot["prompt"] for shot in record["shots"]] == ["a red ball", "it stops", "a blue cube"]
    assert record["shots"][2]["cut"] is True


@pytest.mark.parametrize("task", [{}, {"frames": 20}])
def test_batches_change_nothing(fulfilled: Callable, task: dict) -> None:
    made, records = fulfilled(prompt=["a red ball", "a blue cube"], num=2, seed=5, format="gif", **task)
    names = ["000-a-red-ball-seed5", "001-a-red-ball-seed6", "002-a-blue-cube-seed5", "003-a-blue-cube-seed6"]
    assert [each.path.name for each in made] == [f"{name}.gif" for name in names]
    assert [(record["prompt"], record["seed"]) for record in records] == [
        ("a red ball", 5),
        ("a red ball", 6),
        ("a blue cube", 5),
        ("a blue cube", 6),
    ]
    bytes_ = [each.path.read_bytes() for each in made]
    assert len({*bytes_}) == 4
    if not task:
        again, _ = fulfilled(prompt=["a red ball", "a blue cube"], num=2, seed=5, format="gif", batch=3)
        first, second = read_media(made[3].path).pixels, read_media(again[3].path).pixels
        assert (first - second).abs().mean() < 0.02


# ---- what is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extend": Path("a"), "loop": True, "by": "3s"}, "--extend and --loop are two tasks: choose one"),
        ({"edit": Path("a"), "inpaint": Path("a")}, "--edit and --inpaint are two tasks"),
        ({"image": Path("a"), "extend": Path("b"), "by": "3s"}, "--image says nothing about --extend"),
        ({"extend": Path("a"), "by": "3s", "frames": 3}, "--frames says nothing about --extend"),
        ({"connect": [Path("a"), Path("b")], "gap": "1s", "by": "3s"}, "--by says nothing about --connect"),
        ({"by": "3s"}, "--by says nothing about a video that is made from its prompt"),
        ({"backward": True}, "--backward says nothing"),
        ({"strength": 0.5}, "--strength says nothing"),
        ({"extend": Path("a")}, "--extend needs --by, such as --by 3s"),
        ({"connect": [Path("a"), Path("b")]}, "--connect needs --gap, such as --gap 2s"),
        ({"inpaint": Path("a")}, "--inpaint needs --mask, such as --mask mask.png"),
        ({"outpaint": Path("a")}, "--outpaint needs --size, such as --size 96x160"),
        ({"frames": 3, "seconds": 1.0}, "--frames and --seconds say the same thing"),
        ({"extend": Path("a"), "by": "1s", "backward": True, "camera": "stand"}, "--camera cannot lead up to a clip"),
        ({"num": 0}, "--num and --batch must be at least 1"),
        ({"prompts": Path("p.txt")}, "one of --prompt, --prompts and --storyboard, got --prompt and --prompts"),
        ({"storyboard": Path("s.yaml")}, "got --prompt and --storyboard"),
        ({"prompt": None}, "got none of them"),
    ],
)
def test_contradictory_wishes(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wish(run=RUN, **{"prompt": ["a red ball"], **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extend": "a", "by": "-3s"}, "--by -3s is less than a frame"),
        ({"extend": "missing.mp4", "by": "3s"}, "missing.mp4: there is no such file"),
        ({"extend": "text", "by": "3s"}, "broken.mp4: "),
        ({"extend": "image", "by": "3s"}, "image.png is an image: this needs a clip"),
        ({"connect": ["a", "slow"], "gap": "1s"}, "slow.mp4 has 4 frames per second and the video 8"),
        ({"connect": ["a", "wide"], "gap": "1s"}, "a clip of 16x32 .* at 32x32"),
        ({"image": "a"}, "a.mp4 has 9 frames: --image and --last take images"),
        ({"image": "image", "size": (64, 64)}, "32x32 .*do not fit a video of 64x64"),
        ({"image": "image", "frames": 1}, "1 frame\\(s\\) leave nothing to be made"),
        ({"last": "image", "frames": 20, "camera": "stand"}, "--camera cannot lead up to --last"),
        ({"seconds": -1.0}, "--seconds -1.0+s is less than a frame"),
        ({"frames": 0}, "a video needs at least 1 frame"),
        ({"fps": -8.0}, "a positive frame rate"),
        ({"format": "png"}, "--format png holds one frame, not 17"),
        ({"inpaint": "a", "mask": "4,8,40,12"}, "the box x=4, y=8, width=40, height=12 does not lie"),
        ({"inpaint": "wide", "mask": "mask"}, "a mask of shape \\[32, 32\\] does not fit media of 9 frames of 16x32"),
        ({"inpaint": "a", "mask": "4,8"}, "4,8: there is no such file"),
        ({"edit": "a", "strength": -0.1}, "strength must be in \\[0, 1\\]"),
        ({"outpaint": "a", "size": (16, 16)}, "cannot become 16x16"),
        ({"prompt": None, "prompts": "missing.txt"}, "there is no such file of prompts"),
        ({"prompt": None, "storyboard": "missing.yaml"}, "there is no such storyboard"),
        ({"camera": "sideways"}, "camera 'sideways'"),
    ],
)
def test_wishes_that_cannot_be_fulfilled(
    fulfilled: Callable, media: dict[str, Path], tmp_path: Path, options: dict, message: str
) -> None:
    paths = {"image", "extend", "last", "edit", "inpaint", "outpaint", "prompts", "storyboard"}
    for name in paths & options.keys():
        options = options | {name: media.get(options[name], Path(str(options[name])))}
    if "connect" in options:
        options = options | {"connect": [media[name] for name in options["connect"]]}
    if options.get("mask") == "mask":
        options = options | {"mask": str(media["mask"])}
    with pytest.raises(ValueError, match=message):
        fulfilled(**{"prompt": ["a red ball"], **options})
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_prompts_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a red ball\n\n  a blue cube \n")
    assert Wish(run=RUN, prompts=path).read_prompts() == ["a red ball", "a blue cube"]
    path.write_text("\n \n")
    with pytest.raises(ValueError, match="holds no prompt; write one a line"):
        Wish(run=RUN, prompts=path).read_prompts()


@pytest.mark.parametrize(("text", "frames"), [("3s", 24), ("0.5s", 4), ("24", 24), ("1.25 s", 10), ("0.07s", 1)])
def test_durations(text: str, frames: int) -> None:
    assert read_duration("by", text, 8.0) == frames


@pytest.mark.parametrize("text", ["", "3 m", "1.5", "s", "0", "0s", "-2", "0.01s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="--by"):
        read_duration("by", text, 8.0)


def test_masks_are_white_where_something_is_made(media: dict[str, Path]) -> None:
    mask = read_mask(str(media["mask"]))
    assert isinstance(mask, torch.Tensor)
    assert mask.shape == (32, 32)
    assert mask[8:20, 4:30].all()
    assert mask.sum() == 12 * 26
    assert read_mask("4, 8,26,12") == (4, 8, 26, 12)


def test_a_storyboard_has_times_and_cuts(media: dict[str, Path]) -> None:
    story = read_storyboard(media["story"])
    assert story[0] == StoryShot(prompt="a red ball", seconds=2)
    shots = [shot.at(ClipShape(17, 32, 32, 30.0)) for shot in story]
    assert [(shot.frames, shot.cut) for shot in shots] == [(60, False), (3, False), (30, True)]
    assert shots[1].camera is not None
    assert len(shots[1].camera) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "this one is empty"),
        ("- {prompt: a, seconds: 2, frames: 3}", "\\[0\\].*either seconds or frames"),
        ("- {prompt: a}", "either seconds or frames"),
        ("- {prompt: a, seconds: -2}", "longer than nothing, got -2"),
        ("- {prompt: a, second: 2}", "StoryShot has no such field"),
        ("prompt: a", "expected a list"),
    ],
)
def test_bad_storyboards(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "shots.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_storyboard(path)


# ---- the command line ----


def test_every_option_has_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "sample.py --run runs/tiny --prompt x --connect a.mp4 b.mp4 --gap 2s --size 64x96 --steps 3"
    words = words.replace(" --size 64x96", "")
    monkeypatch.setattr("sys.argv", words.split())
    wish = Wish(**vars(parse_args()))
    assert wish == Wish(run=RUN, prompt=["x"], connect=[Path("a.mp4"), Path("b.mp4")], gap="2s", steps=3)


def test_a_mistake_in_the_command_is_one_line() -> None:
    with pytest.raises(ValueError, match="unrecognized arguments: --nothing \\(see --help\\)"):
        OneLineParser().parse_args(["--nothing"])
