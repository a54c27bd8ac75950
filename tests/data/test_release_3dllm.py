import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from genworld.data.release_3dllm import (
    Release3DLLM,
    ReleasedScene,
    read_annotations,
    read_features,
    read_voxels,
    unit_codec,
    with_features,
)
from genworld.ops.tensor_files import load_tensors


def scene_files(folder: Path, stem: str, rows: int, names: tuple[str, str], as_numpy: bool = False) -> torch.Tensor:
    features = torch.randn(rows, 8, generator=torch.Generator().manual_seed(rows))
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    torch.save(features.numpy() if as_numpy else features.half(), folder / names[0] / f"{stem}.pt")
    np.save(folder / names[1] / f"{stem}.npy", np.arange(3 * rows).reshape(rows, 3) % 256)
    return features


@pytest.mark.parametrize(
    ("names", "stem", "as_numpy", "name"),
    [
        (
            ("voxelized_features_sam_nonzero_preprocess",) * 1 + ("voxelized_voxels_sam_nonzero_preprocess",),
            "scene0335_00",
            False,
            "scene0335_00",
        ),
        (("features", "points"), "1008", False, "scene0335_00"),
        (("features", "points"), "0a1b2c_outside", True, "0a1b2c"),
        (("feat", "voxels"), "00001-abc", False, "00001-abc"),
        ((".", "."), "scene0480_00", False, "scene0480_00"),
    ],
)
def test_every_released_layout(tmp_path: Path, names: tuple[str, str], stem: str, as_numpy: bool, name: str) -> None:
    features = scene_files(tmp_path, stem, 20, names, as_numpy)
    (tmp_path / "map.json").write_text(json.dumps({"1008": "scene0335_00"}))
    release = Release3DLLM.open(tmp_path, tmp_path / "map.json")
    assert release.names == (name,)
    scene = release.read(name)
    assert scene.features.dtype == torch.float32
    torch.testing.assert_close(scene.features, features, atol=2e-3, rtol=2e-3)
    assert scene.voxels.tolist() == (np.arange(60).reshape(20, 3) % 256).tolist()
    if stem == "1008":
        assert release.read(1008).name == "scene0335_00"


def test_sampling_is_repeatable_and_padding_is_known() -> None:
    scene = ReleasedScene("a", torch.arange(30.0).view(10, 3), torch.arange(30).view(10, 3))
    few, again, other = scene.sample(4), scene.sample(4), scene.sample(4, epoch=1)
    assert torch.equal(few.voxels, again.voxels)
    assert not torch.equal(few.voxels, other.voxels)
    assert few.keep.all()
    assert few.voxels[:, 0].tolist() == sorted(few.voxels[:, 0].tolist())
    assert torch.equal(few.features, few.voxels.float())  # rows stay together
    padded = scene.sample()
    assert padded.features.shape == (5000, 3)
    assert int(padded.keep.sum()) == 10
    assert torch.equal(padded.features[:10], scene.features)
    assert not padded.features[10:].any()
    assert not padded.voxels[10:].any()
    with pytest.raises(ValueError, match="at least one row"):
        scene.sample(0)


def test_as_points() -> None:
    scene = ReleasedScene("a", torch.zeros(2, 4), torch.tensor([[0, 128, 255], [1, 2, 3]]))
    points = scene.point_set().points
    torch.testing.assert_close(points[0], torch.tensor([-1 + 1 / 256, 1 / 256, 1 - 1 / 256]))
    assert unit_codec().voxels(points).tolist() == scene.voxels.tolist()


def test_the_voxel_beyond_the_last_is_the_last(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.0, 256.0, 3.0]]))
    assert read_voxels(tmp_path / "a.npy").tolist() == [[0, 255, 3]]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([[0.5, 1, 2]]), "fractions"),
        (np.array([[-1, 1, 2]]), "got -1 to 2"),
        (np.array([[0, 257, 2]]), "got 0 to 257"),
        (np.zeros((3, 2)), "points 3"),
        (np.array([[object(), 1, 2]]), "Python objects"),
    ],
)
def test_voxels_that_are_none(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=reason):
        read_voxels(tmp_path / "a.npy")


class Stranger:
    """Of a class that nobody but this file knows."""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Stranger(), r"Stranger beside tensors"),
        (torch.zeros(3), r"got torch.float32 \(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "floating point"),
        (torch.tensor([[1.0, float("nan")], [1.0, 2.0]]), "1 of 2 points are not finite"),
        ({"a": torch.zeros(2, 2)}, "got dict"),
    ],
)
def test_features_that_are_none(tmp_path: Path, content: object, reason: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=reason):
        read_features(tmp_path / "a.pt")


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for content, reason in (
        (b"", "cut off"),
        (b"hello there", "not a file of torch.save"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (pickle.dumps([1]), "not a file of torch.save"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            load_tensors(path)
    with pytest.raises(ValueError, match="no such file"):
        load_tensors(tmp_path / "b.pt")


def test_arrays_of_numpy_1_and_unpacked_files(tmp_path: Path) -> None:
    torch.save(np.arange(6.0).reshape(2, 3), tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            old.writestr(name, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
        assert b"numpy._core.multiarray" in new.read("new/data.pkl")
        new.extractall(tmp_path / "unpacked.pt")
    assert read_features(tmp_path / "old.pt").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert read_features(tmp_path / "unpacked.pt").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"one data.pkl in it, this has 0"):
        load_tensors(tmp_path / "empty")


def test_rows_must_belong_together(tmp_path: Path) -> None:
    scene_files(tmp_path, "a", 5, ("features", "points"))
    np.save(tmp_path / "points" / "a.npy", np.zeros((6, 3), dtype=int))
    torch.save(torch.zeros(1, 2), tmp_path / "features" / "b.pt")
    release = Release3DLLM.open(tmp_path)
    assert [tuple(each) for each in release.incomplete] == [("b", "it has no voxels")]
    with pytest.raises(ValueError, match=r"has 5 rows and .* 6"):
        release.read("a")
    with pytest.raises(ValueError, match="there are 1, such as a"):
        release.read("c")
    with pytest.raises(ValueError, match="no released scenes"):
        Release3DLLM.open(tmp_path / "points")


ENTRIES = {
    "scanqa": [{"question": "What is red?", "answers": ["chair"], "scene_id": "scene0000_00", "question_id": "v-1",
                "object_ids": [1], "object_names": ["chair"]}],
    "sqa3d": [{"question": "How many chairs?", "answers": ["2"], "scene_id": "scene0000_00", "question_id": 7}],
    "3dmv_vqa": [{"question": "How many chairs?", "answers": ["2"], "scene_id": "00001-a", "type": 1}],
    "pretrain": [{"question": "### human: i want to cook. what should i do next? ### assistant:", "scene_id": 1008,
                  "answers": ["open the fridge"]}],
}  # fmt: skip


@pytest.mark.parametrize(("task", "kind"), [("scanqa", "object"), ("sqa3d", "how"), ("3dmv_vqa", "counting"),
                                            ("pretrain", "")])  # fmt: skip
def test_annotations_of_each_task(tmp_path: Path, task: str, kind: str) -> None:
    (tmp_path / "list.json").write_text(json.dumps(ENTRIES[task]))
    found = read_annotations(tmp_path / "list.json", task, {"1008": "scene0335_00"})  # type: ignore[arg-type]
    (question,) = found.questions
    assert question.type == kind
    assert question.answers == tuple(ENTRIES[task][0]["answers"])
    if task == "pretrain":
        assert (question.scene, question.text) == ("scene0335_00", "i want to cook. what should i do next?")


def test_questions_without_features_are_counted(tmp_path: Path) -> None:
    scene_files(tmp_path, "scene0000_00", 3, ("features", "points"))
    items = [dict(ENTRIES["scanqa"][0], question_id=i, scene_id=f"scene000{i}_00") for i in range(3)]
    (tmp_path / "list.json").write_text(json.dumps(items))
    found = with_features(read_annotations(tmp_path / "list.json", "scanqa"), Release3DLLM.open(tmp_path))
    assert [each.id for each in found.questions] == ["0"]
    assert sum(found.reasons().values()) == 2
    with pytest.raises(ValueError, match="there are scanqa, sqa3d"):
        read_annotations(tmp_path / "list.json", "other")  # type: ignore[arg-type]
