import pytest
import torch

from genworld.data.questions import Question
from genworld.eval.grounding import (
    box_from_centre,
    box_from_corners,
    box_iou,
    caption_references,
    corners_of,
    f1_of_boxes,
    score_boxes,
    score_captions,
    unique_or_multiple,
)
from genworld.types import SceneBox


def box(x: float, size: float = 1.0) -> torch.Tensor:
    """A cube with its lower corner at (x, 0, 0)."""
    return torch.tensor([[x, 0, 0], [x + size, size, size]])


def test_iou_by_hand() -> None:
    # Unit cubes half a metre apart: 0.5 shared of 1.5. A cube of 2 m holds one of 1 m: 1 of 8. At 1 m they touch.
    found = box_iou(torch.stack([box(0)]), torch.stack([box(0), box(0.5), box(0, 2), box(1), box(9)]))
    assert found[0].tolist() == pytest.approx([1, 0.5 / 1.5, 1 / 8, 0, 0])
    # 2 x 1 x 1 against 1 x 2 x 1 in one corner: 1 of 3.
    flat = torch.tensor([[[0.0, 0, 0], [2, 1, 1]], [[0, 0, 0], [1, 2, 1]]])
    assert box_iou(flat, flat)[0, 1].item() == pytest.approx(1 / 3)
    assert torch.equal(box_iou(flat, flat), box_iou(flat, flat).T)


def test_iou_of_boxes_without_volume_is_nothing() -> None:
    point = torch.zeros(1, 2, 3)
    assert box_iou(point, point).item() == 0


def test_boxes_that_are_none() -> None:
    for bad in (box(0).flip(0), box(float("nan")), box(float("inf"))):
        with pytest.raises(ValueError, match="infinite or inside out"):
            box_iou(bad[None], box(0)[None])


def test_boxes_from_other_formats() -> None:
    assert torch.equal(box_from_centre(torch.tensor([0.5, 0.5, 0.5]), torch.ones(3)), box(0))
    corners = torch.tensor([[x, y, z] for x in (1.0, 0) for y in (0.0, 1) for z in (1.0, 0)])
    assert torch.equal(box_from_corners(corners), box(0))
    assert torch.equal(corners_of(SceneBox("chair", 1, torch.zeros(3), torch.ones(3))), box(0))


def phrases(num: int, scenes: int = 2) -> list[Question]:
    return [Question(f"q{n}", f"scene{n % scenes}", "the chair", object_ids=(n,)) for n in range(num)]


def test_accuracies_by_hand() -> None:
    questions = phrases(4)
    truth = {question.id: box(0) for question in questions}
    # IoU 1; 1/3; 0.25 exactly, which counts at 0.25; no box.
    predicted = {"q0": box(0), "q1": box(0.5), "q2": torch.tensor([[0.0, 0, 0], [0.25, 1, 1]]), "q3": None}
    blind = dict.fromkeys(truth, box(9))
    groups = {"q0": "unique", "q1": "multiple", "q2": "multiple", "q3": "multiple"}
    report = score_boxes(questions, predicted, truth, blind, groups)
    assert (report.num, report.num_missing) == (4, 1)
    assert report.scores["acc@0.25"].value == pytest.approx(75)
    assert report.scores["acc@0.5"].value == pytest.approx(25)
    assert report.scores["mean_iou"].value == pytest.approx(100 * (1 + 1 / 3 + 1 / 4 + 0) / 4)
    # Centres 0, 0.5 and 0.375 m apart: three boxes were named.
    assert report.scores["centre_m"].value == pytest.approx(0.875 / 3)
    assert report.scores["centre_m"].num == 3
    assert report.by_group["unique"]["acc@0.5"].value == 100
    assert report.by_group["multiple"]["acc@0.25"].value == pytest.approx(200 / 3)
    assert report.blind["acc@0.25"].value == 0
    assert report.gain.value == pytest.approx(75)
    interval = report.scores["acc@0.25"].interval
    assert interval is not None
    assert 75 in interval
    assert report.to_dict()["scores"]["acc@0.25"]["value"] == pytest.approx(75)


def test_every_phrase_must_come_back() -> None:
    truth = {"q0": box(0), "q1": box(0)}
    with pytest.raises(ValueError, match="1 questions have no answer, such as q1"):
        score_boxes(phrases(2), {"q0": box(0)}, truth, truth)
    with pytest.raises(ValueError, match="1 answers are to no question, such as q7"):
        score_boxes(phrases(2), {"q0": box(0), "q1": None, "q7": None}, truth, truth)


def test_unique_or_multiple() -> None:
    labels = dict(enumerate(["chair", "armchair", "table"]))
    assert unique_or_multiple(phrases(3)[0], labels) == "unique"
    classes = labels | {1: "chair"}
    assert unique_or_multiple(phrases(3)[0], classes) == "multiple"
    assert unique_or_multiple(phrases(3)[2], classes) == "unique"
    assert unique_or_multiple(phrases(3)[2], classes | {0: ""}) == ""
    with pytest.raises(ValueError, match="q3: object 3 is none of the scene's 3 objects"):
        unique_or_multiple(phrases(4)[3], labels)


def test_f1_of_several_boxes() -> None:
    # Two of three found, one named in vain: 2 * 2 / (3 + 3). The pairing is the best one, not the first.
    truth = torch.stack([box(0), box(10), box(20)])
    named = torch.stack([box(10.2), box(0.1), box(50)])
    assert f1_of_boxes(named, truth, 0.25) == pytest.approx(2 * 2 / 6)
    # 0.2 m apart: IoU 0.8 / 1.2 = 0.67; 0.1 m: 0.9 / 1.1 = 0.82.
    assert f1_of_boxes(named, truth, 0.7) == pytest.approx(2 * 1 / 6)
    nothing = torch.zeros(0, 2, 3)
    assert f1_of_boxes(nothing, nothing, 0.5) == 1
    assert f1_of_boxes(named, nothing, 0.5) == 0
    assert f1_of_boxes(nothing, truth, 0.5) == 0


def captioned() -> list[Question]:
    texts = {(0, 1): "a brown table.", (0, 2): "a red chair.", (1, 1): "a white door."}
    return [
        Question(f"{scene}|{thing}|0", f"s{scene}", text, object_ids=(thing,), object_names=("thing",))
        for (scene, thing), text in texts.items()
    ]


def test_captions_count_only_where_their_box_is_right() -> None:
    references = caption_references(captioned())
    assert references["s0|1|thing"] == ["sos a brown table. eos"]
    captions = {"s0|1|thing": "A brown table.", "s0|2|thing": "A red chair."}
    ious = {"s0|1|thing": 0.6, "s0|2|thing": 0.3}
    blind = dict.fromkeys(captions, "A brown table.")
    near, far = (score_captions(captions, ious, references, blind, threshold) for threshold in (0.25, 0.5))
    assert (near.num, near.num_right, far.num_right) == (3, 2, 1)
    # Scored texts at 0.5: "sos a brown table eos", "sos eos", "sos eos", of 5 tokens each in the references.
    # ROUGE-L of "sos eos": P = 2/2, R = 2/5: 2.44 * 0.4 / (0.4 + 1.44).
    nothing = 2.44 * 0.4 / (0.4 + 1.44)
    assert far.scores["rouge_l@0.5"].value == pytest.approx(100 * (1 + 2 * nothing) / 3)
    assert near.scores["rouge_l@0.25"].value == pytest.approx(100 * (2 + nothing) / 3)
    # BLEU-1 at 0.5: 5 + 2 + 2 of 9 tokens match, 9 tokens against 15: exp(1 - 15/9).
    assert far.scores["bleu_1@0.5"].value == pytest.approx(100 * 2.718281828 ** (1 - 15 / 9), abs=1e-4)
    assert near.scores["cider_d@0.25"].value > far.scores["cider_d@0.5"].value > 0
    assert far.scores["rouge_l@0.5"].interval is not None


def test_captions_stand_beside_those_of_who_is_blind() -> None:
    references = caption_references(captioned())
    captions = {"s0|1|thing": "A brown table.", "s0|2|thing": "A red chair."}
    ious = dict.fromkeys(references, 1.0)
    report = score_captions(captions, ious, references, dict.fromkeys(captions, "A brown table."), 0.5)
    # Of 5 tokens "sos", "a" and "eos" are also in the caption of the chair, in order: P = R = 3/5.
    nothing = 2.44 * 0.4 / (0.4 + 1.44)
    assert report.blind["rouge_l@0.5"].value == pytest.approx(100 * (1 + 0.6 + nothing) / 3)
    assert report.blind["rouge_l@0.5"].interval is not None
    assert set(report.blind) == set(report.scores)
    gained = report.scores["cider_d@0.5"].value - report.blind["cider_d@0.5"].value
    assert report.gain.value == pytest.approx(gained)
    assert report.gain.value > 0
    assert report.gain.interval is not None
    assert f"gain {report.gain}" in str(report)
    wrong = score_captions(captions, dict.fromkeys(references, 0.4), references, captions, 0.5)
    assert (wrong.num_right, wrong.gain.value) == (0, 0)


def test_captions_of_unknown_objects() -> None:
    references = caption_references(captioned())
    with pytest.raises(ValueError, match="1 captions are of objects without references, such as s9"):
        score_captions({"s9|1|thing": "a"}, {"s9|1|thing": 1.0}, references, {}, 0.5)
    with pytest.raises(ValueError, match="1 captions have no IoU"):
        score_captions({"s0|1|thing": "a"}, {}, references, {}, 0.5)
    with pytest.raises(ValueError, match="1 captions have no IoU, such as s0"):
        score_captions({}, {}, references, {"s0|1|thing": "a"}, 0.5)
