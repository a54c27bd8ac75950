"""Evaluations: the same for any batches and processes, and never a number from what cannot be measured."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_encoder import fake_world_encoder
from tiny_generator import random_clip, tiny_generator
from torch import Tensor, nn

from genworld.data.writer import write_video
from genworld.eval import fvd
from genworld.eval.bootstrap import Interval
from genworld.eval.fvd import I3D
from genworld.pipelines import catalogue, evaluation
from genworld.pipelines.card import write_card
from genworld.pipelines.catalogue import CATALOGUE, Options, choose, describe
from genworld.pipelines.comparison import compare, read_record
from genworld.pipelines.entries import Batch
from genworld.pipelines.evaluation import Evaluation, RunSubject, benchmark_entries, benchmark_tables
from genworld.pipelines.evaluation_videos import evaluate_videos
from genworld.pipelines.measures_prompt import PromptMeasure
from genworld.train.runtime import World, find_world
from genworld.types import ClipShape
from genworld.world import WorldConfig, sample_clip

METRICS = ("reconstruction", "flow_loss", "clip_score", "fd", "jedi", "rfd")
DATA = [
    "data.num_clips=2",
    "data.validation=17",
    "data.world={max_objects: 1, cameras: [stand], occluders: 0.0, caption_styles: [terse]}",
    "data.packing.shapes=[{size: [32, 32], frames: 5, fps: 8}, {size: [32, 32]}]",
    "task.sample={size: [32, 32], frames: 5, sampler: {num_steps: 2}}",
]


@pytest.fixture(autouse=True)
def _no_real_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "open_encoder", fake_world_encoder)


def tiny_subject(options: Options, world: World) -> Evaluation:
    """The tiny generator's evaluation."""
    generator = tiny_generator(*DATA)
    subject = RunSubject(generator.experiment, generator.task, generator.experiment.data, options, world)
    evaluation.run_record = lambda run: {"run": str(run)}  # it is in no folder
    return subject.evaluate(Path("tiny"))


@pytest.fixture(scope="module")
def whole() -> Evaluation:
    patch = pytest.MonkeyPatch()
    patch.setattr(catalogue, "open_encoder", fake_world_encoder)
    patch.setattr(evaluation, "run_record", evaluation.run_record)  # put back at the end
    found = tiny_subject(Options(metrics=METRICS, num=17), World(0, 1, torch.device("cpu")))
    patch.undo()
    return found


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["clips"] == two["clips"]
    assert list(one["metrics"]) == list(two["metrics"])
    for name, entry in one["metrics"].items():
        other = two["metrics"][name]
        assert entry["convention"] == other["convention"]
        assert entry["value"] == pytest.approx(other["value"], rel=2e-4, abs=1e-5), name
        assert entry.get("beside", {}) == pytest.approx(other.get("beside", {}), rel=2e-4, abs=1e-5), name
        if entry.get("interval"):
            assert entry["interval"]["low"] == pytest.approx(other["interval"]["low"], rel=2e-3, abs=1e-4), name
    for table, columns in one["per_video"].items():
        for column, values in columns.items():
            others = two["per_video"][table][column]
            assert [each is None for each in values] == [each is None for each in others], (table, column)
            pairs = [(one, two) for one, two in zip(values, others, strict=True) if one is not None]
            for value, other in pairs:
                assert value == pytest.approx(other, rel=1e-3, abs=1e-4), (table, column)


def test_every_number_says_what_it_is(whole: Evaluation) -> None:
    metrics = whole.record["metrics"]
    names = {"psnr", "ssim", "latent_kl", "clip_score[world]", "fd[world]", "jedi[world]", "rfd[world]"}
    assert names <= metrics.keys()
    assert {"flow/5x32x32_8fps", "flow/5x32x32_8fps/t0.1"} <= metrics.keys()
    assert not any(name.startswith("fvd") for name in metrics), "no FVD without I3D"
    for name, entry in metrics.items():
        assert entry["num"] == 17, name
        assert len(entry["convention"]) > 20, name
        assert name.startswith("latent") or entry["interval"]["low"] <= entry["value"] <= entry["interval"]["high"]
    assert "real against real (halves)" in metrics["fd[world]"]["beside"]
    assert metrics["fd[world]"]["interval"]["method"] == "jackknife over 8 groups of videos"
    assert {"floor: another video's prompt", "ceiling: real clips"} <= metrics["clip_score[world]"]["beside"].keys()
    assert whole.record["clips"]["num"] == 17
    assert whole.record["warnings"] == []


def test_means_are_those_of_the_values_of_each_video(whole: Evaluation) -> None:
    for name, entry in whole.record["metrics"].items():
        if column := entry.get("column"):
            table, _, rest = column.partition("/") if not column.startswith("flow") else ("flow", "/", column[5:])
            values = [value for value in whole.record["per_video"][table][rest] if value is not None]
            assert len(values) == entry["num"]
            mean = entry.get("scale", 1.0) * sum(values) / len(values)
            assert entry["value"] == pytest.approx(max(mean, 0.0) if name.startswith("clip_score") else mean)


def test_batches_do_not_matter(whole: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "run_record", evaluation.run_record)
    found = tiny_subject(Options(metrics=METRICS, num=17, batch=5), World(0, 1, torch.device("cpu")))
    assert_same(whole.record, found.record)


def _process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {**where, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    catalogue.open_encoder = fake_world_encoder
    world = find_world("cpu")
    assert world.size == 2
    found = tiny_subject(Options(metrics=METRICS, num=17, batch=4), world)
    assert found.is_main == (rank == 0)
    Path(folder, f"{rank}.json").write_text(json.dumps(found.record))
    assert len(found.videos) == 8, "the sheet has the first videos of both"
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(whole: Evaluation, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_process, (port, str(tmp_path)), nprocs=2)
    records = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert_same(records[0], records[1])
    assert_same(json.loads(json.dumps(whole.record)), records[0])


# Comparison


def result(whole: Evaluation, **changes: Any) -> dict[str, Any]:
    record = json.loads(json.dumps(whole.record)) | {"format": 1}
    return {**record, **changes}


def test_a_run_does_not_differ_from_itself(whole: Evaluation) -> None:
    for difference in compare(result(whole), result(whole)):
        if difference.interval is None:
            assert difference.name.startswith("latent")
        else:
            assert difference.verdict == "within noise", difference
            assert "paired" in difference.interval.method


def test_a_small_gain_on_every_video_is_more_than_noise_only_in_pairs(whole: Evaluation) -> None:
    better = result(whole)
    table = better["per_video"]["reconstruction"]
    table["psnr"] = [value + 0.05 for value in table["psnr"]]
    better["metrics"]["psnr"]["value"] += 0.05
    found = {each.name: each for each in compare(better, result(whole))}
    assert found["psnr"].verdict == "first is better"
    assert found["ssim"].verdict == "within noise"
    rounded = result(whole)
    columns = rounded["per_video"]["reconstruction"]
    columns["psnr"] = [value + 1e-6 for value in columns["psnr"]]
    rounded["metrics"]["psnr"]["value"] += 1e-6
    assert {each.verdict for each in compare(rounded, result(whole)) if each.name == "psnr"} == {"within noise"}
    better["seeds"] = {"first": 1}
    found = {each.name: each for each in compare(better, result(whole))}
    assert found["psnr"].verdict == "within noise"
    assert "unpaired" in str(found["psnr"])


def test_what_is_not_the_same_number_is_not_compared(whole: Evaluation) -> None:
    other = result(whole)
    other["metrics"]["psnr"]["convention"] = "PSNR of the luminance"
    found = {each.name: each.verdict for each in compare(result(whole), other)}
    assert found["psnr"].startswith("not compared: other conventions: 'PSNR of the squared error")
    assert found["ssim"] == "within noise"
    other["clips"]["prompts_sha256"] = "0" * 64
    assert all("other prompts" in each.verdict or each.name == "psnr" for each in compare(result(whole), other))
    with pytest.raises(ValueError, match="no metric in common"):
        compare(result(whole), {**other, "metrics": {"fvd2048_16f": {}}})


def test_only_results_are_read(tmp_path: Path) -> None:
    for text, message in [("{", "is not JSON"), ('{"num": 1}', "not a results.json"), ("[]", "not a results.json")]:
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_record(tmp_path)
    with pytest.raises(ValueError, match="no such results"):
        read_record(tmp_path / "none")


# The card


def test_the_card_stands_alone_and_shows_captions_as_they_are(whole: Evaluation, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | *bold*"
    record = {**whole.record, "subject": {"run": f"runs/{evil}"}, "warnings": [evil]}
    changed = Evaluation(record, whole.videos, whole.texts)
    files = write_card(changed, tmp_path / "out.json", {"commit": evil, "date": "2026-01-01"})
    assert [file.name for file in files] == [
        "out.json",
        "out-samples.png",
        "out-flow.png",
        "out-card.md",
        "out-card.html",
    ]
    page, text = files[-1].read_text("utf-8"), files[-2].read_text("utf-8")
    assert "<script>" not in page
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("data:image/png;base64,", "").replace("http-equiv", ""), "fetches nothing"
    assert page.count("data:image/png;base64,") == 2
    for name in whole.record["metrics"]:
        assert name in page, "in a row, or among those of one convention"
    assert f"{whole.record['metrics']['flow/5x32x32_8fps/t0.3']['value']:.4g} (" in page
    assert read_record(tmp_path / "out.json")["metrics"] == json.loads(json.dumps(whole.record["metrics"]))


# What cannot be asked


@pytest.mark.parametrize(
    ("metrics", "subject", "message"),
    [
        ("fvf", "videos", "unknown metric 'fvf': choose from reconstruction"),
        ("flow_loss", "autoencode", "flow_loss does not apply to an autoencoder's run: there are reconstruction, rfd"),
        ("reconstruction", "videos", "reconstruction does not apply to videos without a run"),
        ("fvd2048_16f", "text_to_video", "fvd2048_16f needs --i3d FILE"),
        ("prompt", "text_to_video", "prompt reads videos of the world only"),
        ("fd", "videos", "fd compares with real videos"),
        ("clip_score", "videos", "clip_score needs a caption for every video"),
    ],
)
def test_metrics_that_do_not_apply(metrics: str, subject: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(Options(metrics=(metrics,)), subject, on_world=False, has_real=False, has_text=False)


def test_defaults_are_what_can_be_had() -> None:
    assert choose(Options(), "autoencode", on_world=True) == ["reconstruction"]
    assert choose(Options(), "videos", False, has_real=False, has_text=False) == ["frame_consistency"]
    on_world = choose(Options(), "text_to_video", on_world=True)
    assert {"prompt", "world_benchmark", "flow_loss", "fd"} <= set(on_world)
    assert not {"prompt", "world_benchmark"} & set(choose(Options(), "text_to_video", on_world=False))
    assert all(name in describe() for name in CATALOGUE)


def folder_of(path: Path, num: int, fps: float = 8.0, frames: int = 5, size: tuple[int, int] = (32, 32)) -> Path:
    """A folder of videos with captions."""
    for i in range(num):
        write_video(path / f"{i}.mp4", random_clip(frames, i, size), fps)
        (path / f"{i}.txt").write_text(f"a red ball number {i}")
    return path


def test_videos_without_a_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "made", 5)
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "broken.txt").write_text("nothing")
    found = evaluate_videos(folder, Options(), real_folder=folder_of(tmp_path / "real", 6))
    assert [list(row) for row in found.videos] == [["given", "real"]] * 5
    assert "OUT OF DOMAIN" in write_card(found, tmp_path / "card", {"commit": "", "date": ""})[-1].read_text("utf-8")
    found = found.record
    assert {"clip_score[world]", "frame_consistency[world]", "fd[world]"} == found["metrics"].keys() - {
        "clipsim[world]"
    }
    assert found["clips"]["num"] == 5
    assert found["real_clips"]["num"] == 6
    assert [each["clip"] for each in found["skipped"]] == ["broken.mp4"]
    assert any(warning.startswith("OUT OF DOMAIN: the encoder 'world'") for warning in found["warnings"])
    assert any("1 videos were skipped" in warning for warning in found["warnings"])
    found = evaluate_videos(folder, Options(of_world=True, batch=2, metrics=("frame_consistency",))).record
    assert not any("DOMAIN" in warning for warning in found["warnings"])
    assert list(found["metrics"]) == ["frame_consistency[world]"]


def test_pictures_are_videos_of_one_frame(tmp_path: Path) -> None:
    for i in range(3):
        write_video(tmp_path / f"{i}.png", random_clip(1, i), 1)
        (tmp_path / f"{i}.txt").write_text(f"a picture number {i}")
    found = evaluate_videos(tmp_path, Options()).record
    assert {"clip_score[world]", "clipsim[world]"} == found["metrics"].keys(), "one frame has no neighbour"
    assert found["clips"]["num"] == 3


def test_folders_that_cannot_be_measured(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    folder = folder_of(tmp_path / "made", 3)
    write_video(tmp_path / "rates" / "a.mp4", random_clip(5), 8)
    write_video(tmp_path / "rates" / "b.mp4", random_clip(5), 16)
    write_video(tmp_path / "sizes" / "a.mp4", random_clip(5), 8)
    write_video(tmp_path / "sizes" / "b.mp4", random_clip(5, 1, (32, 48)), 8)
    cases: list[tuple[Path, Options, Path | None, str]] = [
        (tmp_path / "none", Options(), None, "no such folder"),
        (tmp_path / "empty", Options(), None, "empty"),
        (tmp_path / "rates", Options(), None, r"different frame rates \(8, 16\): give --fps RATE"),
        (tmp_path / "sizes", Options(), None, r"different sizes \(32x32, 32x48\): give --size"),
        (folder, Options(frames=9), None, "not one of the 3 videos in .* too short: 5 frames"),
        (folder, Options(fps=24), None, "fewer than the 24 asked for"),
        (folder, Options(metrics=("fd",)), folder, "fd needs at least 4 videos of each kind, got 3"),
    ]
    for path, options, real, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluate_videos(path, options, real_folder=real)


def test_a_run_on_files_counts_what_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One held-out clip is damaged after it was measured; the encoder of the world is out of its domain."""
    folder = folder_of(tmp_path / "clips", 12)
    packing = "packing: {tokens_per_pack: 64, shapes: [{size: [32, 32], frames: 5}]}"
    data = f"data={{kind: manifest, manifest: {folder}, validation: 6, {packing}}}"
    generator = tiny_generator(*DATA[-1:], data)
    monkeypatch.setattr(evaluation, "run_record", lambda run: {"run": str(run)})
    options = Options(metrics=("clip_score", "fd", "reconstruction"))
    world = World(0, 1, torch.device("cpu"))
    subject = RunSubject(generator.experiment, generator.task, generator.experiment.data, options, world)
    broken = subject.source.info(2).name
    (folder / broken).write_bytes((folder / broken).read_bytes()[:600])
    record = subject.evaluate(tmp_path).record
    assert record["clips"]["positions"] == [0, 1, 3, 4, 5]
    assert [each["clip"] for each in record["skipped"]] == [broken]
    assert all(entry["num"] == 5 for entry in record["metrics"].values())
    assert record["metrics"]["fd[world]"]["warnings"][0].startswith("OUT OF DOMAIN")
    with pytest.raises(ValueError, match="prompt reads videos of the world only"):
        RunSubject(generator.experiment, generator.task, generator.experiment.data, Options(metrics=("prompt",)), world)


def test_a_wrong_i3d_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "made", 4, frames=10)
    (tmp_path / "i3d.pt").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"i3d.pt \(100 bytes\) has the sha256"):
        evaluate_videos(folder, Options(metrics=("fvd",), i3d=tmp_path / "i3d.pt"), real_folder=folder)


class ScriptedI3D(nn.Module):
    """With the interface of the TorchScript file."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        return x.mean(dim=[3, 4]).flatten(1).repeat(1, 14)[:, :400]


def test_fvd_by_what_there_is_and_by_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "i3d.pt"
    torch.jit.save(torch.jit.script(ScriptedI3D()), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(catalogue, "I3D", lambda path: I3D(path, digest))
    made, real = folder_of(tmp_path / "made", 5, frames=11), folder_of(tmp_path / "real", 5, frames=11)
    (made / "broken.mp4").write_bytes(b"not a video")
    found = evaluate_videos(made, Options(metrics=("fvd",), i3d=file), real_folder=real).record
    assert list(found["metrics"]) == [f"fd[i3d_{digest[:8]}]"], "another network's number is not called FVD"
    monkeypatch.setattr(fvd, "I3D_SHA256", digest)
    found = evaluate_videos(made, Options(metrics=("fvd",), i3d=file), real_folder=real).record
    assert list(found["metrics"]) == ["fvd5_11f"]
    assert found["metrics"]["fvd5_11f"]["value"] == pytest.approx(0.0, abs=1e-6), "videos against themselves"
    assert found["metrics"]["fvd5_11f"]["details"]["clips"] == "11x32x32@8"
    assert found["metrics"]["fvd5_11f"]["beside"]["real against real (halves)"] > 1
    found = evaluate_videos(made, Options(metrics=("fvd5_10f",), i3d=file), real_folder=real).record
    assert found["metrics"]["fvd5_10f"]["details"]["clips"] == "10x32x32@8"
    for name, message in [
        ("fvd2048_10f", "fvd2048_10f is of 2048 videos, got 5"),
        ("fvd5_16f", "takes 16 frames of each video, .* these have 11"),
        ("fvd5_8f", "I3D at least 10"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluate_videos(made, Options(metrics=(name,), i3d=file), real_folder=real)


def test_the_judge_beside_its_bounds() -> None:
    config = WorldConfig(
        max_objects=1, sizes=("large",), cameras=("stand",), occluders=0.0, caption_styles=("sentence",)
    )
    clips = [sample_clip(seed, config, ClipShape(9, 64, 64, 8.0)).clip for seed in range(6)]
    texts, pixels = [clip.text for clip in clips], torch.stack([clip.pixels for clip in clips])
    measure = PromptMeasure(None)
    others = [*texts[3:], *texts[:3]]
    measure.update(Batch(range(6), texts, 8.0, others, real=pixels, made=pixels, again=pixels * 0))
    measure.update(Batch([6], ["a red ball and a blue cube"], 8.0, ["a red ball"], made=pixels[:1], again=pixels[:1]))
    measure.update(Batch([7], texts[:1], 8.0, made=pixels[1:2], again=pixels[:1], still=[False]))
    entries = measure.entries()
    colour = entries["prompt/colour"]
    assert colour.value == 1.0
    assert colour.num == 6
    assert colour.beside["ceiling: reconstructions"] == 0.0
    assert colour.beside["floor: another video's prompt"] < 0.6
    assert "prompt/shape" not in entries, "no recogniser, no shapes"
    assert colour.warnings == (
        "1 prompts are not about one object, or not in the judge's words: not judged",
        "1 clips have a camera that moves, this judge needs one that stands: not judged",
    )
    assert measure.notes == colour.warnings, "told even where nothing could be judged"
    assert measure.tables()["prompt"]["colour"].isnan().tolist() == [False] * 6 + [True] * 2


def test_the_world_benchmark_beside_the_other_numbers() -> None:
    interval = {"low": 0.7, "high": 0.9, "interval": "bootstrap over videos"}
    each = {"score": 0.8, **interval, "num": 2, "ceiling": 1.0, "floor": 0.1, "criteria": {}}
    result = {
        "suite": "single",
        "suite_sha256": "a" * 64,
        "cases_sha256": "b" * 64,
        "shape": "17x64x64@8",
        "asks": ["prompt"],
        "abilities": {"text": each, "consistency": each},
        "videos": [{"scores": {"text": 0.7}}, {"scores": {"text": 0.9, "consistency": 0.8}}],
    }
    entries = benchmark_entries(result)
    assert entries["world[single]/text"].beside == {"ceiling: real renders": 1.0, "floor: shuffled prompts": 0.1}
    assert entries["world[single]/consistency"].beside == {"ceiling: real renders": 1.0}, "it looks at no prompt"
    assert entries["world[single]/text"].interval == Interval(0.7, 0.9, "bootstrap over videos")
    assert "suite single aaaaaaaaaaaa" in entries["world[single]/text"].convention
    table = benchmark_tables(result)["world[single]"]
    assert table == {"position": [0, 1], "text": [0.7, 0.9], "consistency": [None, 0.8]}
