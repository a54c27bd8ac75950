"""Whether a phrase was led to the right box: IoU, Acc@k, F1@k of several boxes, and captions that must be in place.

Boxes are along the scene's axes, as two corners [2 3] (lower, upper) in metres: those of ScanRefer and its like are of
*aligned* ScanNet scenes. A box that is missing counts as IoU 0, and one that is turned inside out is an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from genworld.data.questions import Question
from genworld.eval.by_scene import Figure, number_scenes, percent, percent_gained, text_figures
from genworld.eval.meteor import Meteor
from genworld.eval.qa import check_complete
from genworld.eval.tokenise import PTB, Tokeniser
from genworld.ops.boxes import intersection_over_union
from genworld.types import SceneBox

THRESHOLDS = (0.25, 0.5)
NOTHING = "sos eos"
"""What Scan2Cap scores in the place of a caption whose box is wrong."""

Box = Float[Tensor, "2 3"]


def corners_of(box: SceneBox) -> Box:
    """Lower and upper corner of an annotated box."""
    return torch.stack([box.lower, box.upper])


def box_from_centre(centre: Float[Tensor, "*n 3"], size: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 2 3"]:
    """Corners of boxes that are given by centre and size."""
    return torch.stack([centre - size / 2, centre + size / 2], dim=-2)


def box_from_corners(points: Float[Tensor, "*n 8 3"]) -> Float[Tensor, "*n 2 3"]:
    """The box around eight corners in any order, as benchmarks' submissions have them."""
    return torch.stack([points.amin(dim=-2), points.amax(dim=-2)], dim=-2)


def box_iou(first: Float[Tensor, "n 2 3"], second: Float[Tensor, "m 2 3"]) -> Float[Tensor, "n m"]:
    """Intersection over union of the volumes of each pair; 0 where both are empty.

    Published scorers add 1e-8 to the union, which matters to boxes of millimetres only.

    Raises:
        ValueError: a box is not finite, or its upper corner is below its lower one.
    """
    for boxes in (first, second):
        if not bool(torch.isfinite(boxes).all()) or bool((boxes[:, 1] < boxes[:, 0]).any()):
            raise ValueError("expected boxes as lower and upper corner, got one that is infinite or inside out")
    one, two = rearrange(first.double(), "n c i -> c n 1 i"), rearrange(second.double(), "m c i -> c 1 m i")
    return intersection_over_union(one[0], one[1], two[0], two[1])


@dataclass(frozen=True)
class GroundingReport:
    """Scores of boxes.

    Attributes:
        num: phrases scored.
        num_missing: phrases for which no box was named: they count as IoU 0.
        scores: `acc@0.25`, `acc@0.5` and `mean_iou` in percent; `centre_m` is the mean distance of centres in metres,
            over phrases with a box only.
        by_group: accuracies by group (unique or multiple, say).
        blind: accuracies of a baseline that does not see the scene's views.
        gain: acc@0.25 minus the baseline's, paired.
    """

    num: int
    num_missing: int
    scores: Mapping[str, Figure]
    by_group: Mapping[str, Mapping[str, Figure]]
    blind: Mapping[str, Figure]
    gain: Figure

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def score_boxes(
    questions: Sequence[Question],
    predicted: Mapping[str, Box | None],
    truth: Mapping[str, Box],
    blind: Mapping[str, Box | None],
    groups: Mapping[str, str] | None = None,
) -> GroundingReport:
    """ScanRefer's scores: a phrase counts if IoU is at least the threshold.

    Args:
        questions: the phrases.
        predicted: a box for each phrase by its id, or None where none was named.
        truth: the right one for each.
        blind: boxes of a baseline that does not see the views (the scene's largest box of the class, say), for each.
        groups: which group each phrase is of (see `unique_or_multiple`).

    Raises:
        ValueError: an id is missing or unknown, or a box is none.
    """
    for boxes in (predicted, truth, blind, *(() if groups is None else (groups,))):
        check_complete(questions, boxes)
    places = number_scenes([question.scene for question in questions])
    ious, blind_ious = (_ious(questions, boxes, truth) for boxes in (predicted, blind))
    found = [question.id for question in questions if predicted[question.id] is not None]
    apart = [float((predicted[name].mean(dim=0) - truth[name].mean(dim=0)).norm()) for name in found]  # type: ignore[union-attr]
    scores = {**_accuracies(ious, places), "mean_iou": percent(ious, places)}
    if apart:
        scores["centre_m"] = Figure(float(np.mean(apart)), len(apart))
    kinds = np.array([(groups or {}).get(question.id, "") for question in questions])
    return GroundingReport(
        num=len(questions),
        num_missing=len(questions) - len(found),
        scores=scores,
        by_group={kind: _accuracies(ious[kinds == kind], places[kinds == kind]) for kind in sorted(set(kinds) - {""})},
        blind=_accuracies(blind_ious, places),
        gain=percent_gained(_right(ious, THRESHOLDS[0]), _right(blind_ious, THRESHOLDS[0]), places),
    )


def unique_or_multiple(question: Question, classes: Mapping[int, str]) -> str:
    """ScanRefer's groups: whether the object is the only one of its class in the scene.

    Args:
        question: with the one object that is to be found.
        classes: of the scene's objects, by number. ScanRefer counts those that its own file describes, by 18 classes
            (see `annotation_files.read_classes`).

    Returns:
        "unique" or "multiple"; "" where the class of an object is not known, so that neither can be said.

    Raises:
        ValueError: the object is not among them.
    """
    (target,) = question.object_ids
    if target not in classes:
        raise ValueError(f"{question.id}: object {target} is none of the scene's {len(classes)} objects")
    kinds = list(classes.values())
    if "" in kinds:
        return ""
    return "unique" if kinds.count(classes[target]) == 1 else "multiple"


def f1_of_boxes(predicted: Float[Tensor, "n 2 3"], truth: Float[Tensor, "m 2 3"], threshold: float) -> float:
    """Multi3DRefer's F1 of one phrase: boxes are paired so that the sum of IoUs is greatest; right from `threshold` on.

    Where there is nothing to be found, 1 if nothing was named, else 0.
    """
    if not len(truth) or not len(predicted):
        return float(len(truth) == len(predicted))
    ious = box_iou(predicted, truth).numpy()
    rows, columns = linear_sum_assignment(ious, maximize=True)
    return 2 * int((ious[rows, columns] >= threshold).sum()) / (len(predicted) + len(truth))


def caption_references(questions: Sequence[Question]) -> dict[str, list[str]]:
    """Scan2Cap's references, "sos ... eos", from ScanRefer's phrases, by "scene|object id|object name"."""
    found = defaultdict(list)
    for question in questions:
        found[caption_key(question)].append(f"sos {question.text} eos".replace("\n", " "))
    return dict(found)


def caption_key(question: Question) -> str:
    """Scan2Cap's name for the object of one of ScanRefer's phrases."""
    return f"{question.scene}|{question.object_ids[0]}|{question.object_names[0]}"


@dataclass(frozen=True)
class CaptionReport:
    """Scores of captions of boxes, by names such as `cider_d@0.5`.

    Attributes:
        num: objects with references.
        num_right: objects that were captioned in a box that is right.
        scores: in percent, over all objects.
        blind: the same of a baseline that does not see the scene's views, in the same boxes.
        gain: CIDEr-D minus the baseline's, paired.
    """

    num: int
    num_right: int
    scores: Mapping[str, Figure]
    blind: Mapping[str, Figure]
    gain: Figure

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        said = (f"{name} {figure} (blind {self.blind[name]})" for name, figure in self.scores.items())
        return f"{self.num} objects, {self.num_right} in a box that is right: {', '.join(said)}; gain {self.gain}"


def score_captions(
    captions: Mapping[str, str],
    ious: Mapping[str, float],
    references: Mapping[str, Sequence[str]],
    blind: Mapping[str, str],
    threshold: float,
    tokeniser: Tokeniser | None = None,
    meteor: Meteor | None = None,
) -> CaptionReport:
    """Scan2Cap's m@kIoU (Chen et al. 2021), in percent: a caption counts if its box is right, else "sos eos" is scored.

    The mean is over all objects with references, whether they were captioned or not.

    Args:
        captions: by the keys of `references`, without "sos" and "eos".
        ious: of each caption's box with the object's.
        references: see `caption_references`.
        blind: captions of the same boxes by a baseline that does not see the views (shown another scene, say).
        threshold: the least IoU.
        tokeniser: PTB rules by default, as later papers have it; Scan2Cap itself split at spaces.
        meteor: which version, or None for none.

    Raises:
        ValueError: a caption is of an unknown object, or has no IoU.
    """
    right = [key for key in references if ious.get(key, 0.0) >= threshold]
    tokens = tokeniser or PTB()
    several = _tokens(tokens, references.values())
    places = number_scenes([key.split("|")[0] for key in references])

    def scored(made: Mapping[str, str]) -> tuple[Float[np.ndarray, " n"], dict[str, Figure]]:
        """CIDEr-D of each object, and all figures."""
        _check_captions(made, ious, references)
        said = {key: f"sos {made[key]} eos".replace("\n", " ") for key in right if key in made}
        (first,) = _tokens(tokens, [[said.get(key, NOTHING) for key in references]])
        items, figures = text_figures(first, several, places, meteor)
        figures |= {name: percent(values, places) for name, values in items.items()}
        return items["cider_d"], {f"{name}@{threshold:g}": figure for name, figure in figures.items()}

    (own, scores), (other, blind_scores) = scored(captions), scored(blind)
    return CaptionReport(
        num=len(references),
        num_right=sum(key in captions for key in right),
        scores=scores,
        blind=blind_scores,
        gain=percent_gained(own, other, places),
    )


def _tokens(tokeniser: Tokeniser, texts: Iterable[Sequence[str]]) -> list[list[str]]:
    """Tokenised lists of texts, in one call: the Java program takes long to start."""
    lists = list(texts)
    tokens = iter(tokeniser([text for each in lists for text in each]))
    return [[next(tokens) for _ in each] for each in lists]


def _check_captions(captions: Mapping[str, str], ious: Mapping[str, float], references: Collection[str]) -> None:
    for what, keys in (
        ("captions are of objects without references", [key for key in captions if key not in references]),
        ("captions have no IoU", [key for key in captions if key not in ious]),
    ):
        if keys:
            raise ValueError(f"{len(keys)} {what}, such as {keys[0]}")


def _ious(
    questions: Sequence[Question], predicted: Mapping[str, Box | None], truth: Mapping[str, Box]
) -> Float[np.ndarray, " n"]:
    pairs = ((predicted[question.id], truth[question.id]) for question in questions)
    return np.array([0.0 if box is None else float(box_iou(box[None], right[None])) for box, right in pairs])


def _accuracies(ious: Float[np.ndarray, " n"], places: np.ndarray) -> dict[str, Figure]:
    return {f"acc@{least:g}": percent(_right(ious, least), places) for least in THRESHOLDS}


def _right(ious: Float[np.ndarray, " n"], least: float) -> Float[np.ndarray, " n"]:
    return (ious >= least).astype(np.float64)
