from statistics import mean

import pytest
import torch

from genworld.eval.palette import (
    Wish,
    read_motion,
    read_prompt,
    track_object,
)
from genworld.world.clip import WorldClip, sample_clip
from genworld.world.layout import MOTIONS, WorldConfig
from genworld.world.objects import COLOURS

SEEDS = range(500, 512)
NUM_FRAMES = 17


def config_of(**changes) -> WorldConfig:
    return WorldConfig(min_objects=1, max_objects=1, cameras=("stand",), occluders=0.0, **changes)


@pytest.fixture(scope="module")
def world() -> dict[str, list[WorldClip]]:
    """Twelve real clips of each motion; those that the world itself would not name are left out."""
    clips = {m: [sample_clip(seed, config_of(motions=(m,))) for seed in SEEDS] for m in MOTIONS}
    return {motion: [clip for clip in made if clip.story.acts[0] == motion] for motion, made in clips.items()}


def colour_accuracy(clips: list[torch.Tensor], colours: list[str]) -> float:
    """Part of the clips whose object has the colour asked for."""
    return mean(track_object(clip).colour == colour for clip, colour in zip(clips, colours, strict=True))


def motion_accuracy(clips: list[torch.Tensor], motions: list[str]) -> float:
    """Part of the clips whose object moves as asked for."""
    return mean(read_motion(track_object(clip)) == motion for clip, motion in zip(clips, motions, strict=True))


def pixels_of(clips: list[WorldClip]) -> list[torch.Tensor]:
    return [clip.clip.pixels for clip in clips]


@pytest.mark.parametrize("motion", MOTIONS)
def test_real_clips_are_read_right(world, motion) -> None:
    clips = world[motion]
    assert len(clips) >= 10
    pixels = pixels_of(clips)
    assert motion_accuracy(pixels, [motion] * len(clips)) >= 0.97
    assert colour_accuracy(pixels, [clip.scene.objects[0].colour for clip in clips]) >= 0.97
    assert colour_accuracy(pixels, [_next(clip.scene.objects[0].colour) for clip in clips]) == 0


def _next(colour: str) -> str:
    return COLOURS[(COLOURS.index(colour) + 1) % len(COLOURS)]


def test_the_track_is_where_the_object_is(world) -> None:
    """Against the true masks: overlap, centre and area."""
    for motion in MOTIONS:
        clip = world[motion][0]
        track, truth = track_object(clip.clip.pixels), clip.masks[:, 0].numpy()
        overlap = (track.masks & truth).sum() / (track.masks | truth).sum()
        assert overlap > 0.75
        places = clip.pixel_positions[:, 0].numpy() / 64
        assert abs(track.centres - places).max() < 0.1  # projected centre against centre of what is seen
        assert track.presence == 1


@pytest.mark.parametrize("motion", [motion for motion in MOTIONS if motion != "stay"])
def test_shuffled_frames_are_no_motion(world, motion) -> None:
    source = torch.Generator().manual_seed(0)
    for pixels in pixels_of(world[motion]):
        shuffled = pixels[:, torch.randperm(NUM_FRAMES, generator=source)]
        assert read_motion(track_object(shuffled)) == "incoherent"


@pytest.mark.parametrize("amplitude", [1, 2, 4])
def test_an_object_that_jumps_up_and_down_does_not_bounce(world, amplitude) -> None:
    source = torch.Generator().manual_seed(0)
    verdicts = []
    for pixels in pixels_of(world["stay"]):
        moves = torch.randint(-amplitude, amplitude + 1, (NUM_FRAMES,), generator=source).tolist()
        jumping = torch.stack([torch.roll(pixels[:, i], move, 1) for i, move in enumerate(moves)], dim=1)
        verdicts.append(read_motion(track_object(jumping)))
    assert "bounce" not in verdicts
    if amplitude > 1:  # one pixel up or down is a trembling
        assert verdicts.count("incoherent") >= 0.8 * len(verdicts)


def test_time_can_be_reversed(world) -> None:
    for motion, reverse in {"left": "right", "right": "left", "towards": "away", "away": "towards"}.items():
        backward = [pixels.flip(1) for pixels in pixels_of(world[motion])]
        assert motion_accuracy(backward, [reverse] * len(backward)) >= 0.9


def test_noise_of_a_model_does_not_matter(world) -> None:
    source = torch.Generator().manual_seed(0)
    for motion in MOTIONS:
        clips = world[motion][:6]
        noisy = [(p + 0.12 * torch.randn(p.shape, generator=source)).clamp(-1, 1) for p in pixels_of(clips)]
        assert motion_accuracy(noisy, [motion] * len(clips)) >= 0.8
        assert colour_accuracy(noisy, [clip.scene.objects[0].colour for clip in clips]) >= 0.95


def test_nothing_is_found_in_noise_or_emptiness() -> None:
    source = torch.Generator().manual_seed(0)
    for pixels in (
        torch.rand(3, NUM_FRAMES, 64, 64, generator=source) * 2 - 1,
        torch.rand(1, NUM_FRAMES, 64, 64, generator=source).expand(3, -1, -1, -1),
        torch.full((3, NUM_FRAMES, 64, 64), 0.3),
    ):
        track = track_object(pixels)
        assert track.colour is None
        assert read_motion(track) is None


def test_an_object_that_vanishes_is_incoherent(world) -> None:
    for clip in world["stay"][:5]:
        pixels = clip.clip.pixels.clone()
        pixels[:, 1:NUM_FRAMES:3] = 0.4
        track = track_object(pixels)
        assert track.presence == pytest.approx(11 / 17)
        assert read_motion(track) == "incoherent"


def test_other_sizes(world) -> None:
    for shape in [(96, 64), (64, 128), (128, 128)]:
        clip = world["left"][0].clip.pixels
        scaled = torch.nn.functional.interpolate(clip.transpose(0, 1), shape, mode="bilinear").transpose(0, 1)
        assert motion_accuracy([scaled], ["left"]) == 1


@pytest.mark.parametrize(
    ("prompt", "wish"),
    [
        ("A red ball rolls to the left.", Wish("red", "sphere", "left")),
        ("cyan ring slides closer", Wish("cyan", "torus", "towards")),
        ("A medium shiny yellow cube drops and bounces.", Wish("yellow", "cube", "bounce")),
        ("An orange cone stays still.", Wish("orange", "cone", "stay")),
        ("blue cylinder", Wish("blue", "cylinder", None)),
        ("something Pink", Wish("pink", None, None)),
    ],
)
def test_prompts(prompt, wish) -> None:
    assert read_prompt(prompt) == wish


def test_captions_of_the_world_are_understood(world) -> None:
    for motion, clips in world.items():
        for clip in clips:
            wish, thing = read_prompt(clip.caption), clip.scene.objects[0]
            assert (wish.colour, wish.shape) == (thing.colour, thing.shape)
            assert wish.motion == motion or (motion == "stay" and wish.motion is None)


def test_bad_questions() -> None:
    with pytest.raises(ValueError, match="about one object"):
        read_prompt("A red ball hits a blue cube.")
    with pytest.raises(ValueError, match=r"names the colours \[\]"):
        read_prompt("A ball")
