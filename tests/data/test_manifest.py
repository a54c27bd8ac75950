from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from media_files import write_clip

from genworld.data import facts
from genworld.data.facts import complete
from genworld.data.manifest import ManifestRow, read_manifest
from genworld.data.media import MediaInfo, MediaLimits


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own cache folder out of it."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(Path, "home", lambda: folder)
    return folder


def table(path: Path, header: list[str], *rows: Sequence[object], encoding: str = "utf-8", end: str = "\n") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, lineterminator=end).writerows([header, *rows])
    return path


def brief(rows: list[ManifestRow]) -> list[tuple[str, str]]:
    return [(row.name, row.text) for row in rows]


def test_folder_with_sidecars(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.mp4", "sub/a.webm", "c.jpg", ".hidden.mp4", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / "b.txt").write_text("\ufeffA bee,\r\nflying.\n", encoding="utf-8")
    (tmp_path / "sub/a.txt").write_text("An ape.")
    assert brief(read_manifest(tmp_path)) == [("b.mp4", "A bee, flying."), ("c.jpg", ""), ("sub/a.webm", "An ape.")]


def test_open_sora_csv_as_spreadsheets_save_it(tmp_path: Path) -> None:
    header = ["path", "text", "num_frames", "height", "width", "aspect_ratio", "resolution", "fps"]
    rows: list[list[object]] = [
        ["a.mp4", 'Says "hi", waves\nand goes', 51, 48.0, 64, 0.75, 3072, 25],
        ["b.mp4", "NaN", "", "nan", "", "", "", ""],
    ]
    path = table(tmp_path / "m.csv", header, *rows, encoding="utf-8-sig", end="\r\n")
    first, second = read_manifest(path)
    assert first.text == 'Says "hi", waves and goes'
    assert (first.num_frames, first.height, first.width, first.fps, first.complete) == (51, 48, 64, 25, True)
    assert (second.text, second.num_frames, second.complete) == ("", None, False)
    assert first.path == tmp_path.resolve() / "a.mp4"


def test_the_same_rows_in_every_format(tmp_path: Path) -> None:
    records = [
        {"file_name": "x/a.mp4", "prompt": "One.", "fps": 24.0},
        {"file_name": "b.mp4", "prompt": None, "fps": float("nan")},
    ]
    expected = [("x/a.mp4", "One."), ("b.mp4", "")]
    (tmp_path / "m.jsonl").write_text("\ufeff" + "\r\n".join(map(json.dumps, records)) + "\n\n", encoding="utf-8")
    (tmp_path / "m.json").write_text(json.dumps(records))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "m.parquet")
    table(tmp_path / "m.csv", ["File_Name", " Prompt", "fps"], ["x/a.mp4", "One.", 24], ["b.mp4", "", ""])
    (tmp_path / "m.tsv").write_text("file_name\tprompt\tfps\nx/a.mp4\tOne.\t24\nb.mp4\t\t\n")
    for name in ("m.jsonl", "m.json", "m.parquet", "m.csv", "m.tsv"):
        rows = read_manifest(tmp_path / name)
        assert brief(rows) == expected, name
        assert [row.fps for row in rows] == [24.0, None], name


def test_files_of_a_folder_that_are_no_clips_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "more").mkdir()
    for name in ("a.mp4", "a.txt", "b.mp5", "more/c.MP5", "more/orphan.txt", "README", ".hidden.xyz"):
        (tmp_path / name).write_text("A word.")
    with caplog.at_level("WARNING"):
        assert [row.name for row in read_manifest(tmp_path)] == ["a.mp4"]
    (record,) = [record for record in caplog.records if "neither clips" in record.message]
    assert "4 files are neither clips nor their captions: 2 .mp5, 1 no suffix, 1 .txt; clips are .avi" in record.message
    caplog.clear()
    for name in ("b.mp5", "more/c.MP5", "more/orphan.txt", "README"):
        (tmp_path / name).unlink()
    read_manifest(tmp_path)
    assert not caplog.records


def test_metadata_file_wins_over_the_folder(tmp_path: Path) -> None:
    (tmp_path / "stray.mp4").touch()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.mp4", "text": "A."}')
    assert brief(read_manifest(tmp_path)) == [("a.mp4", "A.")]


@pytest.mark.parametrize(
    ("videos", "prompts"), [("videos.txt", "prompts.txt"), ("video.txt", "captions.txt"), ("videos.txt", "prompt.txt")]
)
def test_paired_lists(tmp_path: Path, videos: str, prompts: str) -> None:
    (tmp_path / videos).write_text("videos/1.mp4\r\nvideos/2.mp4\r\n")
    (tmp_path / prompts).write_text("One.\nTwo.\n\n")
    expected = [("videos/1.mp4", "One."), ("videos/2.mp4", "Two.")]
    assert brief(read_manifest(tmp_path)) == brief(read_manifest(tmp_path / prompts)) == expected
    (tmp_path / prompts).write_text("One.\n")
    with pytest.raises(ValueError, match=r"2 lines but .* has 1"):
        read_manifest(tmp_path)


def test_openvid(tmp_path: Path) -> None:
    header = ["video", "caption", "aesthetic score", "motion score", "camera motion", "frame", "fps", "seconds"]
    (row,) = read_manifest(
        table(tmp_path / "OpenVid-1M.csv", header, ["celeb_1.mp4", "A man.", 5.1, 2.0, "static", 120, 24.0, 5.0])
    )
    assert (row.name, row.text, row.num_frames, row.fps, row.height) == ("celeb_1.mp4", "A man.", 120, 24.0, None)


def test_webvid(tmp_path: Path) -> None:
    (tmp_path / "videos/000001_000050").mkdir(parents=True)
    (tmp_path / "videos/000001_000050/1066.mp4").touch()
    header = ["videoid", "contentUrl", "duration", "page_dir", "name"]
    row = [1066, "https://x/1066.mp4", "PT00H00M20S", "000001_000050", "Cloudy sky"]
    assert brief(read_manifest(table(tmp_path / "w.csv", header, row))) == [
        ("videos/000001_000050/1066.mp4", "Cloudy sky")
    ]


def test_panda_70m_whole_and_cut_files(tmp_path: Path) -> None:
    header = ["videoID", "url", "timestamp", "caption", "matching_score"]
    times = "[['0:00:01.000', '0:00:02.500'], ['0:01:03.250', '0:01:04.250']]"
    path = table(
        tmp_path / "p.csv", header, ["abc", "https://y", times, "['It is red.', \"It's blue.\"]", "[0.4, 0.5]"]
    )
    (tmp_path / "abc.mp4").touch()
    rows = read_manifest(path)
    assert brief(rows) == [("abc.mp4@1-2.5", "It is red."), ("abc.mp4@63.25-64.25", "It's blue.")]
    assert [(row.start, row.end) for row in rows] == [(1.0, 2.5), (63.25, 64.25)]
    for index in range(2):
        (tmp_path / f"abc_{index}.mp4").touch()
    rows = read_manifest(path)
    assert brief(rows) == [("abc_0.mp4", "It is red."), ("abc_1.mp4", "It's blue.")]
    assert all((row.start, row.end) == (0, None) for row in rows)


def test_koala_36m_one_pair(tmp_path: Path) -> None:
    header = ["videoID", "url", "timestamp", "caption", "clarity_score"]
    path = table(tmp_path / "k.csv", header, ["v1", "u", "['0:00:01.5', '0:00:03']", "[Wide shot] of a lake", 0.9])
    (row,) = read_manifest(path)
    assert (row.name, row.start, row.end, row.text) == ("v1.mp4@1.5-3", 1.5, 3.0, "[Wide shot] of a lake")


def test_start_and_end_columns(tmp_path: Path) -> None:
    header = ["path", "text", "start", "end", "fps", "num_frames"]
    first, second = read_manifest(
        table(tmp_path / "m.csv", header, ["a.mp4", "A", 1.5, "0:00:04", 10, 999], ["a.mp4", "B", "", "", 10, 50])
    )
    assert (first.start, first.end, first.num_frames, second.num_frames) == (1.5, 4.0, 25, 50)
    with pytest.raises(ValueError, match="row 2: the clip ends at 1 s, before"):
        read_manifest(table(tmp_path / "m.csv", header, ["a.mp4", "A", 2, 1, 10, ""]))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["a.mp4", "x", "abc"], r"row 3, column 'fps': expected a number, got 'abc'"),
        (["a.mp4", "x", "-3"], r"row 3, column 'fps': expected a positive number, got '-3'"),
        (["", "x", "3"], r"row 3, column 'path': expected a path, got ''"),
        (["a.mp4", "x", "3", "more"], r"row 3: 4 cells but 3 columns"),
        (["https://x/a.mp4", "x", "3"], r"row 3, column 'path': .*local file"),
        (["../a.mp4", "x", "3"], r"row 3, column 'path': '../a.mp4' leads to .* outside the data root"),
        (["..", "x", "3"], r"row 3, column 'path': '..' leads to"),
        (["/etc/passwd", "x", "3"], r"row 3, column 'path': '/etc/passwd' leads to"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, cells: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_manifest(table(tmp_path / "m.csv", ["path", "text", "fps"], ["ok.mp4", "x", ""], cells))


def test_links_out_of_the_root_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "a.mp4").touch()
    (root / "inside.mp4").touch()
    (root / "link.mp4").symlink_to(outside / "a.mp4")
    (root / "folder").symlink_to(outside)
    (root / "fine.mp4").symlink_to(root / "inside.mp4")
    for name in ("link.mp4", "folder/a.mp4"):
        manifest = table(root / "m.csv", ["path"], [name])
        with pytest.raises(ValueError, match="outside the data root"):
            read_manifest(manifest)
    with pytest.raises(ValueError, match="outside the data root"):
        read_manifest(root)
    assert len(read_manifest(table(root / "m.csv", ["path"], ["fine.mp4"], [str(root / "inside.mp4")]))) == 2


def test_manifests_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    table(tmp_path / "header.csv", ["path", "text"])
    table(tmp_path / "nopath.csv", ["title"], ["x"])
    (tmp_path / "zero.csv").touch()
    (tmp_path / "bad.jsonl").write_text('{"path": "a.mp4"}\n{"path": \n')
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "latin.csv").write_bytes("path,text\na.mp4,caf\xe9\n".encode("latin-1"))
    (tmp_path / "clips.xlsx").touch()
    expected = {
        "empty": "manifest is empty",
        "header.csv": "manifest is empty",
        "zero.csv": "manifest is empty",
        "nopath.csv": r"row 2: no column names the clip: expected one of .*got \['title'\]",
        "bad.jsonl": "line 2: not valid JSON",
        "list.jsonl": "line 1: expected an object",
        "bad.parquet": "not a readable Parquet file",
        "latin.csv": "not UTF-8",
        "clips.xlsx": "unknown kind of manifest",
        "missing.csv": "no such manifest",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message):
            read_manifest(tmp_path / name)


def test_missing_facts_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "a.mp4", 12, fps=Fraction(24))
    (tmp_path / "b.mp4").write_bytes(b"junk")
    manifest = table(tmp_path / "m.csv", ["path", "num_frames"], ["a.mp4", 99], ["b.mp4", ""], ["c.mp4", ""])
    probed: list[str] = []
    probe = facts._probe

    def count(path: Path, limits: MediaLimits) -> MediaInfo | str:
        probed.append(path.name)
        return probe(path, limits)

    monkeypatch.setattr(facts, "_probe", count)
    usable, rejected = complete(read_manifest(manifest), manifest)
    assert [row.facts for row in usable] == [(12, 48, 64, 24.0)]  # the file is right, not the manifest's 99
    assert [item.row.name for item in rejected] == ["b.mp4", "c.mp4"]
    assert "damaged" in rejected[0].reason
    assert "no such file" in rejected[1].reason
    assert sorted(probed) == ["a.mp4", "b.mp4"]
    complete(read_manifest(manifest), manifest)
    assert sorted(probed) == ["a.mp4", "b.mp4", "b.mp4"]  # failures are tried again, facts are kept
    write_clip(tmp_path / "a.mp4", 7, fps=Fraction(24))
    usable, _ = complete(read_manifest(manifest), manifest)
    assert usable[0].num_frames == 7


def test_facts_of_a_read_only_folder_go_to_the_user_cache(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_clip(tmp_path / "a.mp4", 3)
    manifest = table(tmp_path / "m.csv", ["path"], ["a.mp4"])
    write = Path.write_text

    def refuse(self: Path, *args: str, **kwargs: str) -> int:
        if self.parent == tmp_path or self.parent == blocked:
            raise PermissionError(13, "Permission denied")
        return write(self, *args, **kwargs)

    blocked: Path | None = None
    monkeypatch.setattr(Path, "write_text", refuse)
    complete(read_manifest(manifest), manifest)
    (kept,) = (home / ".cache/genworld").iterdir()
    assert "a.mp4" in kept.read_text()
    kept.unlink()
    blocked = kept.parent
    with caplog.at_level(logging.WARNING):
        usable, _ = complete(read_manifest(manifest), manifest)
    assert usable[0].num_frames == 3
    assert "cannot be kept" in caplog.text


def test_clips_within_a_file_are_cut_to_it(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 30, fps=10)
    rows = [["a.mp4", 1, 2.5], ["a.mp4", 2, ""], ["a.mp4", 2.5, 60], ["a.mp4", 20, 30]]
    manifest = table(tmp_path / "m.csv", ["path", "start", "end"], *rows)
    usable, rejected = complete(read_manifest(manifest), manifest)
    assert [(row.start, row.num_frames) for row in usable] == [(1.0, 15), (2.0, 10)]
    assert [item.row.name for item in rejected] == ["a.mp4@2.5-60", "a.mp4@20-30"]
    assert all("ends at 3.000 s" in item.reason for item in rejected)


def test_sha256_is_checked_on_request(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", 3)
    write_clip(tmp_path / "b.mp4", 4)
    digest = hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest()
    manifest = table(tmp_path / "m.csv", ["path", "sha256"], ["a.mp4", digest.upper()], ["b.mp4", digest])
    assert not complete(read_manifest(manifest), manifest)[1]
    usable, rejected = complete(read_manifest(manifest), manifest, verify=True)
    assert [row.name for row in usable] == ["a.mp4"]
    assert "sha256" in rejected[0].reason
