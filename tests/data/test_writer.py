from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from media_files import frames_of, numbers
from PIL import Image, ImageSequence

from genworld.data.readers import open_reader
from genworld.data.transforms import to_pixels
from genworld.data.writer import VideoWriter, exact_rate, write_video


def test_mp4_comes_back(tmp_path: Path) -> None:
    frames = frames_of(20)
    write_video(tmp_path / "new/a.mp4", frames, fps=12.5)
    with open_reader(tmp_path / "new/a.mp4") as reader:
        assert (reader.info.num_frames, reader.info.fps, reader.info.codec) == (20, 12.5, "h264")
        back = reader.read([i / 12.5 for i in range(20)])
    assert numbers(back) == list(range(20))
    assert (back.float() - frames.float()).abs().mean() < 2.5


def test_colours_survive_the_way_through_yuv(tmp_path: Path) -> None:
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [128, 128, 128], [0, 0, 0]])
    frames = colours.to(torch.uint8).view(1, 1, 6, 3).repeat_interleave(16, 2).expand(3, 32, 96, 3)
    write_video(tmp_path / "c.mp4", frames, fps=8)
    with open_reader(tmp_path / "c.mp4") as reader:
        back = reader.read([0.0])[0, 16, 8::16]
    assert (back.int() - colours).abs().max() <= 6
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == 1  # BT.709, said so in the file


def test_appending_equals_writing_at_once(tmp_path: Path) -> None:
    frames = frames_of(13)
    write_video(tmp_path / "a.mp4", frames, 10)
    with VideoWriter(tmp_path / "b.mp4", 10) as writer:
        writer.append(frames[:5])
        writer.append(to_pixels(frames[5:]))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_odd_sizes_are_extended(tmp_path: Path) -> None:
    write_video(tmp_path / "odd.mp4", frames_of(3, 49, 63), 8)
    with open_reader(tmp_path / "odd.mp4") as reader:
        assert reader.read([0.0]).shape == (1, 50, 64, 3)


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (8, 8),
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (7.5, Fraction(15, 2)),
        (24.0, 24),
        (0.5, Fraction(1, 2)),
    ],
)
def test_rates(tmp_path: Path, fps: float, exact: Fraction) -> None:
    assert exact_rate(fps) == exact
    write_video(tmp_path / "r.mp4", frames_of(9), fps)
    with open_reader(tmp_path / "r.mp4") as reader:
        assert reader.info.fps == pytest.approx(float(exact), rel=1e-9)
        assert reader.info.seconds == pytest.approx(9 / exact, rel=1e-3)


def test_gif_keeps_its_duration(tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", frames_of(16), 16)
    with Image.open(tmp_path / "a.gif") as image:
        delays = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(delays) == 16
    assert sum(delays) == 1000
    with open_reader(tmp_path / "a.gif") as reader:
        assert numbers(reader.read([0.0, 0.51])) == [0, 8]


def test_a_gif_of_drawings_is_smaller_and_keeps_small_marks(tmp_path: Path) -> None:
    noise = torch.randint(-8, 8, (3, 96, 96, 3), generator=torch.Generator().manual_seed(0))
    frames = (torch.linspace(60, 240, 96)[:, None] + noise).to(torch.uint8)  # a wall in many shades of grey
    green = torch.tensor([30, 150, 60], dtype=torch.uint8)
    frames[:, 5:7, 5:7] = green

    def marks(path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            found = [torch.tensor(frame.convert("RGB").getpixel((5, 5))) for frame in ImageSequence.Iterator(image)]
        return torch.stack(found)

    for name, drawn in (("plain.gif", False), ("drawn.gif", True)):
        with VideoWriter(tmp_path / name, 8, drawn=drawn) as writer:
            writer.append(frames)
    assert (marks(tmp_path / "drawn.gif") - green.int()).abs().max() <= 16
    assert (marks(tmp_path / "plain.gif") - green.int()).abs().max() > 40
    assert (tmp_path / "drawn.gif").stat().st_size < 0.7 * (tmp_path / "plain.gif").stat().st_size


def test_png_holds_one_frame(tmp_path: Path) -> None:
    frames = frames_of(2)
    write_video(tmp_path / "a.png", to_pixels(frames[:1]), 1)
    with open_reader(tmp_path / "a.png") as reader:
        assert torch.equal(reader.read([0.0]), frames[:1])
    with pytest.raises(ValueError, match="one frame"):
        write_video(tmp_path / "b.png", frames, 1)


def test_an_error_leaves_nothing_behind_and_spoils_nothing(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames_of(3), 8)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", 8) as writer:  # noqa: PT012
        writer.append(frames_of(5))
        raise RuntimeError
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "fps", "clip", "message"),
    [
        ("a.avi", 8, frames_of(1), "cannot write .avi"),
        ("a.mp4", 0, frames_of(1), "fps must be positive"),
        ("a.gif", 60, frames_of(1), "at most 50"),
        ("a.mp4", 8, torch.zeros(2, 8, 8, 3), "expected uint8"),
        ("a.mp4", 8, torch.zeros(3, 0, 8, 8), "no frames"),
    ],
)
def test_bad_requests(tmp_path: Path, name: str, fps: float, clip: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, clip, fps)
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="after frames of"), VideoWriter(tmp_path / "a.mp4", 8) as writer:  # noqa: PT012
        writer.append(frames_of(1))
        writer.append(frames_of(1, 32, 32))
