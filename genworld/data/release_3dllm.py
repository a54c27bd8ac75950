"""The features and annotations that 3D-LLM released (Hong et al. 2023), as they lie in its folders.

A scene is two files whose rows belong together: features, [P 1408] (BLIP-2's EVA-ViT-g) or [P 1024] (CLIP), in a .pt
of `torch.save` (a tensor, or a numpy array), and voxels 0 to 255, [P 3], in a .npy. The transform between voxels and
metres was not released: see `unit_codec`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genworld.data.questions import (
    QuestionSet,
    read_3dllm,
    read_3dmv_vqa,
    read_scanqa,
    read_scene_map,
    sqa3d_type,
)
from genworld.ops.random import generator
from genworld.ops.scene_codec import SceneCodec
from genworld.ops.tensor_files import load_array, load_tensors
from genworld.types import PointSet, Skipped

NUM_POINTS = 5000
"""Rows that 3D-LLM's loader gives its model."""
NUM_VOXELS = 256
LAYOUTS = (
    ("voxelized_features_sam_nonzero_preprocess", "voxelized_voxels_sam_nonzero_preprocess"),
    ("features", "points"),
    ("feat", "voxel"),
    ("feat", "voxels"),
    ("feat", "points"),
    (".", "."),
)
"""Folders of features and of voxels: ScanNet for fine-tuning, scenes for pretraining and Objaverse, 3DMV-VQA (only the
first of its two names is known from its README), and the sample room."""

_VIEWS = "_outside"  # how Objaverse's files end: its views are from outside

Task = Literal["scanqa", "sqa3d", "3dmv_vqa", "pretrain"]
"""Which annotations: of its three benchmarks, or its own (dialogue, plans, descriptions, questions)."""


class PaddedPoints(NamedTuple):
    """A fixed number of rows of a scene; `keep` is False where there is only padding (zeros)."""

    features: Float[Tensor, "K D"]
    voxels: Int[Tensor, "K 3"]
    keep: Bool[Tensor, " K"]


@dataclass(frozen=True)
class ReleasedScene:
    """One scene as it was released.

    Attributes:
        name: ScanNet's, Objaverse's or 3DMV-VQA's.
        features: of each occupied voxel.
        voxels: 0 to 255.
    """

    name: str
    features: Float[Tensor, "P D"]
    voxels: Int[Tensor, "P 3"]

    def sample(self, count: int = NUM_POINTS, seed: int = 0, epoch: int = 0) -> PaddedPoints:
        """Up to `count` rows in their own order, then zeros.

        Which rows is a function of the arguments and the scene's name. (3D-LLM draws anew each time, for scores too,
        which therefore cannot be repeated; and its model attends to the zeros.)

        Raises:
            ValueError: `count` is not positive.
        """
        if count < 1:
            raise ValueError(f"expected at least one row to sample, got {count}")
        chosen = torch.arange(len(self.voxels))
        if len(chosen) > count:
            random = generator(seed, "3dllm", self.name, epoch)
            chosen = torch.randperm(len(chosen), generator=random)[:count].sort().values
        features = self.features.new_zeros(count, self.features.shape[1])
        voxels = self.voxels.new_zeros(count, 3)
        features[: len(chosen)], voxels[: len(chosen)] = self.features[chosen], self.voxels[chosen]
        return PaddedPoints(features, voxels, torch.arange(count) < len(chosen))

    def point_set(self, codec: SceneCodec | None = None) -> PointSet:
        """As the models of genworld take it: all rows, points at the centres of their voxels, and grey.

        Args:
            codec: from voxels to metres, where somebody has found it; `unit_codec()` by default.

        Raises:
            ValueError: the codec has other cells than the release.
        """
        codec = codec or unit_codec()
        if codec.cells != NUM_VOXELS:
            raise ValueError(f"voxels of 3D-LLM are of {NUM_VOXELS} cells along an axis, this codec has {codec.cells}")
        points = codec.metres(self.voxels).float()
        return PointSet(self.features, points, torch.full_like(points, 0.5), self.voxels)


def unit_codec() -> SceneCodec:
    """Voxels in the unit ball about the scene's mean: one "metre" is the radius of the scene, which is not known."""
    return SceneCodec((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), cells=NUM_VOXELS)


@dataclass(frozen=True)
class Release3DLLM:
    """Released scenes in two folders.

    Attributes:
        features: folder of NAME.pt.
        voxels: folder of NAME.npy.
        scenes: names of scenes by their numbers, where files are numbered (`final_scene_map_dict_scan_v2.json`).
    """

    features: Path
    voxels: Path
    scenes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path, scene_map: str | Path | None = None) -> Release3DLLM:
        """The scenes of a folder, laid out in one of the ways that were released.

        Raises:
            ValueError: there are none.
        """
        path = Path(path)
        scenes = {} if scene_map is None else read_scene_map(Path(scene_map))
        for features, voxels in LAYOUTS:
            found = cls(path / features, path / voxels, scenes)
            if found.names:
                return found
        raise ValueError(
            f"{path}: no released scenes: expected NAME.pt and NAME.npy in one of the pairs of folders "
            + ", ".join(f"{features} and {voxels}" for features, voxels in LAYOUTS)
        )

    @cached_property
    def files(self) -> dict[str, tuple[Path, Path]]:
        """Files of features and voxels by the names of their scenes; scenes with only one of the two are left out."""
        found = {}
        for features in sorted(self.features.glob("*.pt")):
            voxels = self.voxels / f"{features.stem}.npy"
            if voxels.is_file():
                stem = features.stem.removesuffix(_VIEWS)
                found[self.scenes.get(stem, stem)] = (features, voxels)
        return found

    @cached_property
    def incomplete(self) -> tuple[Skipped, ...]:
        """What lacks one of its two files."""
        features = {path.stem for path in self.features.glob("*.pt")}
        voxels = {path.stem for path in self.voxels.glob("*.npy")}
        return tuple(
            Skipped(stem, "it has no voxels" if stem in features else "it has no features")
            for stem in sorted(features ^ voxels)
        )

    @property
    def names(self) -> Sequence[str]:
        """One name per scene."""
        return tuple(self.files)

    def read(self, name: str | int) -> ReleasedScene:
        """A scene by its name, or by its number where the map knows it.

        Raises:
            ValueError: there is no such scene, or its files are not what was released.
        """
        known = self.scenes.get(str(name), str(name))
        if known not in self.files:
            raise ValueError(
                f"no released scene {name!r} in {self.features} and {self.voxels}: there are "
                f"{len(self.files)}, such as {', '.join(list(self.files)[:3])}"
            )
        where, beside = self.files[known]
        features, voxels = read_features(where), read_voxels(beside)
        if len(features) != len(voxels):
            raise ValueError(
                f"{where} has {len(features)} rows and {beside} {len(voxels)}: they belong to different versions of "
                "the scene; rows must belong together"
            )
        return ReleasedScene(known, features, voxels)


def read_features(path: Path) -> Float[Tensor, "P D"]:
    """Features of a scene, in float32.

    Raises:
        ValueError: it is no table of finite numbers with at least one row.
    """
    found = load_tensors(path)
    if isinstance(found, np.ndarray) and found.dtype.kind == "f":
        found = torch.from_numpy(found)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.is_floating_point() or not found.numel():
        what = f"{found.dtype} {tuple(found.shape)}" if hasattr(found, "shape") else type(found).__name__
        raise ValueError(f"{path}: expected features, floating point [points width], got {what}")
    if not bool(found.isfinite().all()):
        bad = int((~found.isfinite().all(dim=1)).sum())
        raise ValueError(f"{path}: features of {bad} of {len(found)} points are not finite")
    return found.detach().float()


def read_voxels(path: Path) -> Int[Tensor, "P 3"]:
    """Voxels of a scene, 0 to 255; a point exactly at the edge, 256 in 3D-LLM's formula, is in the last one.

    Raises:
        ValueError: they are something else.
    """
    found = load_array(path)
    if found.ndim != 2 or found.shape[1] != 3 or found.dtype.kind not in "iuf":
        raise ValueError(f"{path}: expected voxels, numbers [points 3], got {found.dtype} {found.shape}")
    if found.dtype.kind == "f" and not (np.isfinite(found).all() and (found == np.floor(found)).all()):
        raise ValueError(f"{path}: expected voxels in whole numbers, got fractions: are these metres?")
    if found.size and (found.min() < 0 or found.max() > NUM_VOXELS):
        raise ValueError(f"{path}: expected voxels 0 to {NUM_VOXELS - 1}, got {found.min()} to {found.max()}")
    return torch.from_numpy(found.astype(np.int64)).clamp_(max=NUM_VOXELS - 1)


def read_annotations(path: Path, task: Task, scenes: Mapping[str, str] | None = None) -> QuestionSet:
    """Annotations of one of its tasks.

    Args:
        path: the list.
        task: which reader; `sqa3d` is its copy in ScanQA's format (`SQA_train.json`).
        scenes: names by numbers, for `pretrain`.

    Raises:
        ValueError: the file is no such list, or not one entry can be used.
    """
    readers: dict[Task, Callable[[], QuestionSet]] = {
        "scanqa": lambda: read_scanqa(path),
        "sqa3d": lambda: _sqa3d(path),
        "3dmv_vqa": lambda: read_3dmv_vqa(path),
        "pretrain": lambda: read_3dllm(path, scenes),
    }
    if task not in readers:
        raise ValueError(f"no annotations of task {task!r}: there are {', '.join(readers)}")
    return readers[task]()


def with_features(asked: QuestionSet, release: Release3DLLM) -> QuestionSet:
    """The questions whose scenes have features; the others join `skipped`.

    3D-LLM numbers what is left for its results and scores only that.
    """
    names = set(release.names)
    kept = tuple(question for question in asked.questions if question.scene in names)
    out = [
        Skipped(question.id, f"its scene {question.scene} has no features")
        for question in asked.questions
        if question.scene not in names
    ]
    return QuestionSet(kept, (*asked.skipped, *out))


def _sqa3d(path: Path) -> QuestionSet:
    found = read_scanqa(path)
    return replace(found, questions=tuple(replace(each, type=sqa3d_type(each.text)) for each in found.questions))
