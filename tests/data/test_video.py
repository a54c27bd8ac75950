from __future__ import annotations

import math
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import CLIPS, edit_start, numbers, picture, red_corner, write_clip
from PIL import Image

from genworld.data.media import MediaError, MediaLimits
from genworld.data.readers import ReaderKind, open_reader
from genworld.data.video import PyAVReader, effective_fps, frame_times

READERS: list[ReaderKind] = ["pyav", "decord", "torchcodec"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", 40, fps=10)


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest, plain: Path) -> ReaderKind:
    """Every reader that is installed and can load on this machine."""
    try:
        with open_reader(plain, request.param):
            return request.param
    except MediaError:
        raise
    except ValueError as error:
        pytest.skip(str(error))


def test_shows_the_frame_that_is_on_screen(kind: ReaderKind, plain: Path) -> None:
    with open_reader(plain, kind) as reader:
        assert reader.info.num_frames == 40
        assert (reader.info.height, reader.info.width, reader.info.fps) == (48, 64, 10)
        assert reader.info.seconds == pytest.approx(4.0)
        assert numbers(reader.read([0, 0.05, 0.09999, 0.1, 0.15, 3.9, 3.99])) == [0, 0, 1, 1, 1, 39, 39]
        assert numbers(reader.read([i / 10 for i in range(40)])) == list(range(40))
        assert numbers(reader.read([2.5, 0.3, 3.7, 0.3, 0.2])) == [25, 3, 37, 3, 2]


def test_readers_agree_on_pixels(kind: ReaderKind, plain: Path) -> None:
    times = [0.0, 1.2, 3.3]
    with open_reader(plain, "pyav") as first, open_reader(plain, kind) as second:
        difference = (first.read(times).float() - second.read(times).float()).abs()
    assert difference.mean() < 1.5


@pytest.mark.parametrize("start", [7, -30])
def test_time_zero_is_the_first_frame_shown(kind: ReaderKind, tmp_path: Path, start: int) -> None:
    path = write_clip(tmp_path / "late.mkv", 30, pts=range(start, start + 30), time_base=Fraction(1, 10))
    with open_reader(path, kind) as reader:
        assert numbers(reader.read([0, 0.1, 2.9, 0.4])) == [0, 1, 29, 4]


def test_variable_frame_rate(kind: ReaderKind, tmp_path: Path) -> None:
    pts = [0, 100, 150, 175, 400, 1000, 1100, 1101, 2000, 2040]
    path = write_clip(tmp_path / "vfr.mp4", 10, pts=pts, time_base=Fraction(1, 1000))
    with open_reader(path, kind) as reader:
        shown = numbers(reader.read([0, 0.09, 0.16, 0.39, 0.4, 0.99, 1.1, 1.5, 2.0]))
        assert shown == [0, 0, 2, 3, 4, 4, 6, 7, 8]
        assert reader.info.num_frames == 10
        assert reader.info.num_frames / reader.info.fps == pytest.approx(reader.info.seconds)


def test_missing_frame_after_the_end_is_an_error(kind: ReaderKind, plain: Path) -> None:
    with open_reader(plain, kind) as reader:
        assert numbers(reader.read([4.1])) == [39]  # a manifest that rounds its rate reaches this far
        with pytest.raises(MediaError, match=r"plain.mp4: the frame at 4.500 s .* ends at 4.000 s"):
            reader.read([0.0, 4.5])
        with pytest.raises(MediaError, match="-1"):
            reader.read([-1.0])


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation(kind: ReaderKind, tmp_path: Path, rotation: int) -> None:
    path = write_clip(tmp_path / "phone.mp4", 3, rotation=rotation)
    if kind == "decord":
        with pytest.raises(MediaError, match="rotation"):
            open_reader(path, kind)
        return
    with open_reader(path, kind) as reader:
        frames = reader.read([0.0])
        assert tuple(frames.shape[1:3]) == (reader.info.height, reader.info.width)
        assert tuple(frames.shape[1:3]) == ((48, 64) if rotation == 180 else (64, 48))
        assert red_corner(frames) == {90: "bottom left", -90: "top right", 180: "bottom right"}[rotation]


FORMS: dict[str, dict] = {
    "odd.mp4": {"size": (49, 63), "pixel_format": "yuv444p"},
    "deep.mp4": {"pixel_format": "yuv420p10le"},
    "hevc.mp4": {"codec": "libx265"},
    "hevc10.mkv": {"codec": "libx265", "pixel_format": "yuv420p10le"},
    "av1.mp4": {"codec": "libsvtav1", "size": (64, 64), "options": {"preset": "12", "svtav1-params": "lp=1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "old.avi": {"codec": "mpeg4"},
    "stream.ts": {},
    "raw.h264": {"fps": 25},
    "dvd.ts": {"codec": "mpeg2video", "fps": 25, "options": {"bf": "2"}},
    "grey.mkv": {"codec": "ffv1", "pixel_format": "gray"},
    "sound.mp4": {"audio": True},
    "ntsc.mp4": {"fps": Fraction(30000, 1001)},
    "opengop.mp4": {"options": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=10"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form(tmp_path: Path, name: str) -> None:
    form = FORMS[name]
    if form.get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode {form['codec']}")
    path = write_clip(tmp_path / name, 30, **form)
    fps = float(form.get("fps", 10))
    with open_reader(path) as reader:
        assert reader.info.num_frames == 30
        assert (reader.info.height, reader.info.width) == form.get("size", (48, 64))
        assert reader.info.fps == pytest.approx(fps, rel=1e-6)
        whole = reader.read(frame_times(0, 30, fps))
        assert numbers(whole) == list(range(30))
        for index in (25, 3, 11, 29, 12, 0, 19, 20, 9):  # to the bit: no frame was decoded without its references
            assert torch.equal(reader.read([index / fps])[0], whole[index])


def test_edit_list_hides_what_was_trimmed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "trimmed.mp4", 30)
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        assert base is not None
        ticks = round(Fraction(13, 10) / base)
    edit_start(path, ticks)  # into the middle of a group of pictures
    with open_reader(path) as reader:
        assert numbers(reader.read([0.0, 0.1, 1.6])) == [13, 14, 29]
        assert numbers(reader.read([0.5, 0.0])) == [18, 13]
        assert reader.info.num_frames == 17
    edit_start(path, -ticks, seconds=2.0)  # the whole start again, and the last second hidden
    with open_reader(path) as reader:
        assert numbers(reader.read([0.0, 1.9])) == [0, 19]
        assert reader.info.num_frames == 20


def test_seeking_equals_reading_through(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", 60, fps=25)
    order = np.random.default_rng(0).permutation(60).tolist()
    with open_reader(path) as reader:
        assert numbers(reader.read([i / 25 for i in range(60)])) == list(range(60))
        assert [numbers(reader.read([i / 25]))[0] for i in order] == order


def test_long_gaps_seek_and_short_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "long.mp4", 60, fps=10)
    seeks: list[float] = []
    seek = PyAVReader._seek

    def count(self: PyAVReader, target: float) -> None:
        seeks.append(target)
        seek(self, target)

    monkeypatch.setattr(PyAVReader, "_seek", count)
    with open_reader(path) as reader:
        reader.read([i / 10 for i in range(0, 60, 5)])
        assert not seeks
    with open_reader(path) as reader:
        assert numbers(reader.read([0.0, 5.3])) == [0, 53]
        assert len(seeks) == 1
    seeks.clear()
    with open_reader(
        write_clip(tmp_path / "onekey.mp4", 60, fps=10, options={"g": "100", "sc_threshold": "0"})
    ) as reader:
        assert numbers(reader.read([0.0, 5.3])) == [0, 53]
        assert not seeks  # the only key frame is behind us


def test_square_pixels(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "wide.mp4", 3, sample_aspect=Fraction(4, 3))
    with open_reader(path) as reader:
        assert (reader.info.height, reader.info.width) == (48, 85)
        assert reader.read([0.0]).shape == (1, 48, 85, 3)


def test_header_that_lies_about_the_number_of_frames(tmp_path: Path) -> None:
    """An .avi whose header claims 431 frames and holds 30."""
    path = write_clip(tmp_path / "liar.avi", 30, codec="mpeg4")
    data = bytearray(path.read_bytes())
    for tag, offset in ((b"avih", 4 + 4 + 16), (b"strh", 4 + 4 + 32)):
        at = data.index(tag) + offset
        assert int.from_bytes(data[at : at + 4], "little") == 30
        data[at : at + 4] = (431).to_bytes(4, "little")
    path.write_bytes(data)
    with open_reader(path) as reader:
        assert reader.info.num_frames == 30
        assert reader.info.seconds == pytest.approx(3.0)
        with pytest.raises(MediaError, match="ends at 3"):
            reader.read([20.0])


def test_images(tmp_path: Path) -> None:
    image = Image.fromarray(picture(5))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    with open_reader(tmp_path / "a.jpg") as reader:
        assert (reader.info.num_frames, reader.info.height, reader.info.width) == (1, 64, 48)
        assert red_corner(reader.read([0.0])) == "top right"
        with pytest.raises(MediaError, match="image"):
            reader.read([0.0, 0.5])
    Image.fromarray((np.arange(48 * 64).reshape(48, 64) * 20).astype(np.uint16)).save(tmp_path / "deep.png")
    with open_reader(tmp_path / "deep.png") as reader:
        assert reader.read([0])[0, 20, 0].tolist() == [20 * 64 * 20 >> 8] * 3
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    with open_reader(tmp_path / "clear.png") as reader:
        assert reader.read([0]).min() == 255


def test_broken_files_are_named(plain: Path, tmp_path: Path) -> None:
    whole = plain.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mkv").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    for name in ("cut.mp4", "empty.mp4", "text.mkv", "bad.png", "missing.mp4"):
        with pytest.raises(MediaError, match=name):
            open_reader(tmp_path / name)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        wave.sample_rate = 8000
        container.mux(sound.encode(wave))
        container.mux(sound.encode(None))
    with pytest.raises(MediaError, match="no video"):
        open_reader(tmp_path / "sound.mp4")


def test_metadata_in_another_encoding_is_no_damage(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.mp4").write_bytes(plain.read_bytes().replace(b"VideoHandler", b"Vid\xe9oHandler"))
    with open_reader(tmp_path / "latin.mp4") as reader:
        assert numbers(reader.read([0.7])) == [7]


def test_damage_inside_is_an_error_not_a_smear(tmp_path: Path) -> None:
    """FFmpeg hides damage by repeating what is around it, and does not fail: the reader has to."""
    data = write_clip(
        tmp_path / "whole.mp4", 30, (96, 128), options={"crf": "1", "x264-params": "slices=1"}
    ).read_bytes()
    first, last = data.index(b"mdat") + 4, data.index(b"moov") - 4
    errors = []
    for seed in range(40):
        damaged, generator = bytearray(data), np.random.default_rng(seed)
        for at in generator.integers((first + last) // 2, last, 3):
            damaged[at] ^= 1 << generator.integers(8)
        (tmp_path / "damaged.mp4").write_bytes(damaged)
        try:
            with open_reader(tmp_path / "damaged.mp4") as reader:
                reader.read([i / 10 for i in range(30)])
        except MediaError as error:
            errors.append(str(error))
    assert all("damaged.mp4: " in error for error in errors)
    assert any("the frame at" in error for error in errors)


def test_a_list_of_other_files_is_no_clip(plain: Path, tmp_path: Path) -> None:
    shutil.copy(plain, tmp_path / "plain.mp4")
    (tmp_path / "list.mkv").write_text("ffconcat version 1.0\nfile plain.mp4\n")
    with pytest.raises(MediaError, match=r"list\.mkv"):
        open_reader(tmp_path / "list.mkv")


def test_limits_come_before_decoding(plain: Path, tmp_path: Path) -> None:
    for limits, name in (
        (MediaLimits(pixels=1000), "pixels"),
        (MediaLimits(frames=10), "frames"),
        (MediaLimits(seconds=2), "seconds"),
    ):
        with pytest.raises(MediaError, match=rf"plain.mp4: .* {name}, but at most"):
            open_reader(plain, limits=limits)
    with open_reader(plain, limits=MediaLimits(read_bytes=100_000)) as reader:
        assert len(reader.read([0.0] * 10)) == 10
        with pytest.raises(MediaError, match="read_bytes"):
            reader.read([0.0] * 11)
    Image.new("L", (100, 100)).save(tmp_path / "big.png")
    with pytest.raises(MediaError, match="pixels"):
        open_reader(tmp_path / "big.png", limits=MediaLimits(pixels=9999))


def test_handles_are_closed(plain: Path) -> None:
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("no /proc on this system")

    def cycle() -> None:
        with open_reader(plain) as reader:
            assert reader.info.num_frames == 40
            reader.read([3.0, 0.0])

    cycle()
    before = len(list(handles.iterdir()))
    for _ in range(20):
        cycle()
    assert len(list(handles.iterdir())) <= before


@settings(max_examples=25, deadline=None)
@given(source=st.integers(1, 12_000), asked=st.integers(1, 12_000), frames=st.integers(2, 200))
def test_duration_is_preserved_at_any_rates(source: int, asked: int, frames: int) -> None:
    """Frame i of the result shows what the source shows at i / fps: never earlier or later by a source frame."""
    source_fps, fps = source / 100, asked / 100
    times = frame_times(0.5, frames, fps)
    assert times[-1] - times[0] == pytest.approx((frames - 1) / fps)
    tick = 1 / 90_000
    shown = [math.floor((time + tick / 2) * source_fps) for time in times]
    assert all(
        -tick <= time - index / source_fps < 1 / source_fps + tick for time, index in zip(times, shown, strict=True)
    )
    distinct = len(set(shown))
    assert abs(distinct - min(frames, effective_fps(source_fps, fps) * (frames - 1) / fps + 1)) <= 2


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not on this machine")
def test_real_clips(kind: ReaderKind) -> None:
    expected = {"horse.mp4": (49, 480, 720, 8.0), "press_empty.mp4": (114, 480, 832, 16.0)}
    expected["skate_dog.mp4"] = (421, 1024, 576, 30000 / 1001)
    for name, facts in expected.items():
        with open_reader(CLIPS / name, kind) as reader, open_reader(CLIPS / name) as default:
            info = reader.info
            assert (info.num_frames, info.height, info.width, info.fps) == pytest.approx(facts)
            times = [1.0, 4.32, 0.0]
            difference = reader.read(times).float() - default.read(times).float()
            assert difference.abs().mean() < 2
