import math
import re

import numpy as np
import pytest

from genworld.types import ClipShape
from genworld.world import WorldConfig, sample_clip, sample_scene
from genworld.world.clip import WorldClip
from genworld.world.language import describe
from genworld.world.layout import CAPTION_STYLES
from genworld.world.objects import COLOURS


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_captions_name_every_seen_object_once_and_no_other(style) -> None:
    for seed in range(40):
        story = sample_clip(seed).story
        text = describe(story, style)
        for index, thing in enumerate(story.objects):
            if thing.shape != "wall":
                assert (thing.name in text) == (index in story.seen), text
        used = {thing.colour for thing in story.objects}
        assert not [c for c in COLOURS if c not in used and re.search(rf"\b{c}\b", text)]


def test_words_of_motion_are_true() -> None:
    checked = 0
    for seed in range(60):
        clip = sample_clip(seed)
        text = describe(clip.story, "sentence")
        seen = in_camera(clip, *clip.trajectory.positions(np.array([clip.start, clip.end])))
        struck = {i for e in clip.contacts if e.kind == "collision" for i in (e.who, e.whom)}
        for index, thing in enumerate(clip.scene.objects):
            if index in struck:
                continue
            way = seen[1, index] - seen[0, index]
            for words, true in (
                ("to the left", way[0] < -0.2),
                ("to the right", way[0] > 0.2),
                ("towards the camera", way[2] < -0.2),
                ("away from the camera", way[2] > 0.2),
            ):
                if re.search(rf"{thing.name} (rolls|slides) {words}", text):
                    checked += 1
                    assert true, text
            if re.search(rf"{thing.name} stays still", text):
                checked += 1
                assert np.abs(way).max() < 0.03
            if f"{thing.name} drops and bounces" in text:
                assert any(e.kind == "land" and e.who == index for e in clip.contacts)
        names = [thing.name for thing in clip.scene.objects]
        pairs = {frozenset((names[e.who], names[e.whom])) for e in clip.contacts if e.kind == "collision"}
        either = "|".join(names)
        for who, whom in re.findall(rf"({either}) (?:[^,]*? and )?hits an? ({either})", text):
            checked += 1
            assert frozenset((who, whom)) in pairs, text
    assert checked > 40


def in_camera(clip: WorldClip, *places: np.ndarray) -> np.ndarray:
    pose = clip.scene.camera.world_from_camera(np.array([clip.start]))[0]
    return (np.stack(places) - pose[:3, 3]) @ pose[:3, :3]


def test_a_still_has_no_verbs() -> None:
    for seed in range(10):
        for style in CAPTION_STYLES:
            text = describe(sample_clip(seed, shape=ClipShape(1, 32, 32, 8.0)).story, style)
            assert not re.search(r"roll|slide|bounce|hits|camera|stay", text)


def test_captions_are_short() -> None:
    config = WorldConfig(min_objects=5, caption_styles=("detailed",))
    assert max(len(sample_clip(seed, config).caption.split()) for seed in range(30)) <= 55


def test_events_and_positions_are_the_same_at_every_rate() -> None:
    config = WorldConfig(occluders=1.0, collisions=1.0, max_objects=3)
    hidden = 0
    for seed in range(6):
        slow, middle, fast = (
            sample_clip(seed, config, ClipShape(int(2 * fps) + 1, 40, int(30 + fps), fps)) for fps in (4.0, 8.0, 30.0)
        )
        assert slow.events == middle.events == fast.events
        assert slow.caption == middle.caption == fast.caption
        np.testing.assert_array_equal(slow.positions, middle.positions[::2])
        hidden += sum(event.kind == "hidden" for event in slow.events)
    assert hidden > 2


def test_hidden_objects_have_no_visible_pixels() -> None:
    config = WorldConfig(occluders=1.0, max_objects=1, cameras=("stand",), motions=("left", "right"))
    seen = 0
    for seed in range(5):
        clip = sample_clip(seed, config, ClipShape(61, 64, 64, 24.0))
        marks = {event.kind: event.time for event in clip.events if event.who == 0}
        if "hidden" in marks and "reappears" in marks:
            seen += 1
            inside = (clip.times > marks["hidden"] + 0.06) & (clip.times < marks["reappears"] - 0.06)
            assert clip.visibility[inside, 0].max() < 0.1
            assert clip.visibility[0, 0] > 0.5
            assert "passes behind a grey wall" in describe(clip.story, "detailed")
    assert seen >= 3


def test_easy_worlds_can_be_chosen() -> None:
    easy = WorldConfig(
        max_objects=1, sizes=("large",), cameras=("stand",), surroundings="fixed", motions=("stay", "left"), occluders=0
    )
    scenes = [sample_scene(seed, easy) for seed in range(20)]
    assert {len(scene.objects) for scene in scenes} == {1}
    assert len({scene.camera for scene in scenes}) == 1
    assert {scene.objects[0].size for scene in scenes} == {"large"}
    acts = {sample_clip(seed, easy).story.acts[0] for seed in range(20)}
    assert acts == {"stay", "left"}


def test_all_objects_of_a_scene_differ_in_colour() -> None:
    for seed in range(30):
        things = [thing for thing in sample_scene(seed).objects if thing.shape != "wall"]
        assert len({thing.colour for thing in things}) == len(things) <= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_objects": 3, "max_objects": 2}, "min_objects"),
        ({"shapes": ()}, "shapes is empty"),
        ({"colours": ("red",)}, "only 1 colours"),
        ({"occluders": 2.0}, "probability"),
    ],
)
def test_impossible_configs_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        WorldConfig(**arguments)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        sample_clip(0, shape=ClipShape(0, 64, 64, 8.0))
    with pytest.raises(ValueError, match="time 0"):
        sample_clip(0, start=-1.0)


def test_camera_poses_are_rigid_and_upright() -> None:
    for seed in range(20):
        poses = sample_clip(seed).world_from_camera
        turn = poses[:, :3, :3]
        assert abs(float((turn @ turn.mT - np.eye(3)).abs().max())) < 1e-5
        assert float(turn.det().min()) == pytest.approx(1, abs=1e-5)
        assert (turn[:, 2, 1] < 0).all()  # the camera's y axis points down
        assert math.isclose(float(turn[:, 2, 0].abs().max()), 0, abs_tol=1e-6)  # no roll


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_captions_of_clips_that_begin_when_things_have_left_or_hide(style: str) -> None:
    config = WorldConfig(max_objects=1, motions=("left", "right"), occluders=1.0, caption_styles=(style,))
    shape = ClipShape(5, 32, 32, 8.0)
    clips = [sample_clip(seed, config, shape, start=start) for seed in range(20) for start in (0.4, 0.8, 20.0)]
    assert all(clip.caption for clip in clips)
    assert any({clip.story.objects[i].shape for i in clip.story.seen} == {"wall"} for clip in clips)
