"""Files of questions about scenes, whatever their format; parts of those that come in one piece; classes of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genworld.data.generated import Split, read_generated, split_of
from genworld.data.questions import (
    QuestionSet,
    read_3dmv_vqa,
    read_scanqa,
    read_scanrefer,
    read_scene_map,
    read_sqa3d,
)
from genworld.data.release_3dllm import read_annotations
from genworld.types import Skipped

CLASSES = (
    *("cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter", "desk"),
    *("curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub"),
)
"""ScanRefer's, by NYU40's names; the eighteenth is "others"."""
OTHERS = "others"


@dataclass(frozen=True, kw_only=True)
class AnnotationFile:
    """One file of questions.

    Attributes:
        format: whose it is. `3dllm` is what 3D-LLM released of its own (dialogues, plans, descriptions, questions) and
            `3dllm-sqa3d` its copy of SQA3D; its ScanQA and 3DMV-VQA are read as `scanqa` and `3dmv-vqa`. `generated` is
            what `tools/generate_scenes_data.py` writes.
        path: the file; of `generated` also the folder, with `split`.
        answers: SQA3D's second file, with answers and poses.
        scene_map: of `3dllm`, names of scenes by their numbers (`final_scene_map_dict_scan_v2.json`).
        split: only questions about scenes of this part, 8:1:1 by a hash of the scene's name, as generated data is split
            (`generated.split_of`): for files that come in one piece. None for all questions.
    """

    format: Literal["scanqa", "sqa3d", "scanrefer", "3dmv-vqa", "3dllm", "3dllm-sqa3d", "generated"]
    path: Path
    answers: Path | None = None
    scene_map: Path | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        if self.scene_map is not None and self.format != "3dllm":
            raise ValueError(f"scene_map is for files of format 3dllm, not {self.format}: leave it out")

    def read(self) -> QuestionSet:
        """The questions in it.

        Raises:
            ValueError: it is no such file, or a folder without a split.
        """
        readers: dict[str, Callable[[Path], QuestionSet]] = {
            "scanqa": read_scanqa,
            "sqa3d": lambda path: read_sqa3d(path, self.answers),
            "scanrefer": read_scanrefer,
            "3dmv-vqa": read_3dmv_vqa,
            "3dllm": lambda path: read_annotations(path, "pretrain", self._names()),
            "3dllm-sqa3d": lambda path: read_annotations(path, "sqa3d"),
            "generated": lambda path: read_generated(self._file_in(path)),
        }
        found = readers[self.format](self.path)
        return found if self.split is None else _part(found, self.split)

    def _names(self) -> Mapping[str, str] | None:
        return None if self.scene_map is None else read_scene_map(self.scene_map)

    def _file_in(self, path: Path) -> Path:
        if not path.is_dir():
            return path
        if self.split is None:
            raise ValueError(f"{path} is a folder: say which of its files, by split: train, val or test")
        return path / f"{self.split}.json"


def _part(found: QuestionSet, split: Split) -> QuestionSet:
    kept = tuple(question for question in found.questions if split_of(question.scene) == split)
    others = (question for question in found.questions if split_of(question.scene) != split)
    reason = f"its scene is not of split {split}"
    return QuestionSet(kept, (*found.skipped, *(Skipped(question.id, reason) for question in others)))


def labels_of(files: Iterable[AnnotationFile]) -> list[str]:
    """What each file is called in reports: its name, or its whole path where another file has that name."""
    paths = [file.path for file in files]
    alike = {path.name for path in paths if len({other for other in paths if other.name == path.name}) > 1}
    return [str(path) if path.name in alike else path.name for path in paths]


def read_classes(path: Path) -> dict[str, str]:
    """ScanRefer's 18 classes of ScanNet's labels, from `scannetv2-labels.combined.tsv`.

    Raises:
        ValueError: it is no such table.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file: expected ScanNet's scannetv2-labels.combined.tsv")
    # Quotes mean nothing in it, so that it is no matter for a reader of CSV.
    heads, *rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line] or [[]]
    if not {"raw_category", "nyu40class"} <= set(heads):
        raise ValueError(f"{path}: expected a table with columns raw_category and nyu40class, as ScanNet's labels have")
    label, kind = heads.index("raw_category"), heads.index("nyu40class")
    short = [number for number, row in enumerate(rows, 2) if len(row) <= max(label, kind)]
    if short:
        raise ValueError(f"{path}, line {short[0]}: expected {len(heads)} cells with tabs between them: fetch it again")
    return {row[label]: row[kind] if row[kind] in CLASSES else OTHERS for row in rows}
