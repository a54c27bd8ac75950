from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from media_files import CLIPS, numbers, write_clip

from genworld.data import sources
from genworld.data.media import MediaError
from genworld.data.readers import open_reader
from genworld.data.sources import ManifestSource, scan
from genworld.data.transforms import fit
from genworld.ops.pictures import to_uint8
from genworld.types import ClipShape, Pick


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    write_clip(tmp_path / "a.mp4", 40, (48, 64), fps=10)
    write_clip(tmp_path / "b.mp4", 25, (64, 48), fps=25)
    (tmp_path / "broken.mp4").write_bytes(b"junk")
    path = tmp_path / "clips.csv"
    path.write_text("path,text,start,end\na.mp4,A.,,\nbroken.mp4,X.,,\nb.mp4,B.,,\ngone.mp4,Y.,,\na.mp4,C.,1.0,3.0\n")
    return path


def test_rejected_clips_are_listed_and_the_rest_work(manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        source = ManifestSource(manifest)
    assert [source.info(i).name for i in range(len(source))] == ["a.mp4", "b.mp4", "a.mp4@1-3"]
    assert [item.row.name for item in source.rejected] == ["broken.mp4", "gone.mp4"]
    assert "2 of 5 clips cannot be used" in caplog.text
    assert "row 3" in caplog.text
    info = source.info(1)
    assert (info.text, info.num_frames, info.height, info.width, info.fps) == ("B.", 25, 64, 48, 25)
    usable, rejected = scan(manifest)
    assert (len(usable), len(rejected)) == (3, 2)


def test_reads_by_time_at_the_rate_asked_for(manifest: Path) -> None:
    source = ManifestSource(manifest)
    sample = source.read(Pick(7, 0, ClipShape(5, 48, 64, 4.0), 0.5))
    assert sample.pixels is not None
    assert (sample.position, sample.text, tuple(sample.pixels.shape)) == (7, "A.", (3, 5, 48, 64))
    assert numbers(to_uint8(sample.pixels)) == [5, 7, 10, 12, 15]  # 0.5, 0.75, ... seconds of a 10 fps clip
    repeated = source.read(Pick(0, 0, ClipShape(6, 48, 64, 20.0), 1.0)).pixels
    assert repeated is not None
    assert numbers(to_uint8(repeated)) == [10, 10, 11, 11, 12, 12]
    within = source.read(Pick(0, 2, ClipShape(20, 48, 64, 10.0), 0.0)).pixels
    assert within is not None
    assert numbers(to_uint8(within)) == list(range(10, 30))


def test_reading_in_parts_changes_nothing(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, pick = ManifestSource(manifest), Pick(0, 0, ClipShape(17, 32, 32, 8.0), 0.3)
    whole = source.read(pick).pixels
    monkeypatch.setattr(sources, "CHUNK_BYTES", 48 * 64 * 3 * 4)
    parts = source.read(pick).pixels
    assert whole is not None
    assert parts is not None
    assert torch.equal(whole, parts)
    assert torch.equal(whole, ManifestSource(manifest).read(pick).pixels)  # type: ignore[arg-type]


def test_a_clip_that_breaks_later_is_named(manifest: Path) -> None:
    source = ManifestSource(manifest)
    (manifest.parent / "b.mp4").write_bytes(b"junk")
    with pytest.raises(MediaError, match=r"b\.mp4"):
        source.read(Pick(0, 1, ClipShape(5, 32, 32, 10.0), 0.0))


def test_nothing_usable_is_an_error(manifest: Path) -> None:
    manifest.write_text("path,text\nbroken.mp4,X.\n")
    with pytest.raises(ValueError, match=r"none of its 1 clips can be used"):
        ManifestSource(manifest)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not on this machine")
def test_real_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("captions.csv", "train.mp4", "skate_dog.mp4"):
        shutil.copy(CLIPS / name, tmp_path / name)
    source = ManifestSource(tmp_path / "captions.csv")
    assert [source.info(i).name for i in range(len(source))] == ["train.mp4", "skate_dog.mp4"]
    assert len(source.rejected) == 8
    assert source.info(0).text.startswith("A red, white and blue underground train")
    sample = source.read(Pick(0, 1, ClipShape(9, 128, 80, 12.0), 6.0))
    assert sample.pixels is not None
    assert sample.pixels.std() > 0.2
    with open_reader(tmp_path / "skate_dog.mp4") as reader:
        expected = fit(reader.read([6.0 + i / 12 for i in range(9)]), 128, 80)
    assert torch.equal(to_uint8(sample.pixels), expected)
