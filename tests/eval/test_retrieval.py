"""Zero-shot classification and retrieval on spaces made by hand."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from genworld.eval.retrieval import MeanOfFrames, accuracy, class_features, classify, recall, retrieval
from genworld.eval.retrieval_world import CLASSES, WorldProtocol, evaluate_on_world
from genworld.world import WorldConfig
from genworld.world.objects import COLOURS, SHAPES


class Letters:
    """Texts and images by hand: a text is counts of letters, an image its mean colours."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(text.count(letter)) for letter in "xyz"] for text in texts])

    def encode_images(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def test_class_features_are_normalised_before_and_after_the_mean() -> None:
    found = class_features(Letters(), ["x", "y"], ["{}", "z{}zz {}"])
    first = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    second = torch.nn.functional.normalize(torch.tensor([[2.0, 0, 3], [0, 2.0, 3]]), dim=1)
    expected = torch.nn.functional.normalize((first + second) / 2, dim=1).double()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_zero_shot_in_a_hand_made_space() -> None:
    classes = class_features(Letters(), ["x", "y", "z"], ["{}"])
    features = torch.tensor([[3.0, 1, 0], [0.1, 0.2, 0.1], [0, 0, 5.0], [1.0, 2.0, 0]])
    assert classify(features, classes).tolist() == [0, 1, 2, 1]
    assert accuracy(features, classes, torch.tensor([0, 1, 2, 0])) == 0.75


def test_a_collapsed_encoder_gets_chance() -> None:
    same = torch.ones(4, 3)
    classes = torch.nn.functional.normalize(torch.ones(5, 3).double(), dim=1)
    assert accuracy(same, classes, torch.tensor([0, 1, 2, 4])) == pytest.approx(1 / 5)
    found = retrieval(torch.ones(20, 3), torch.ones(20, 3), [str(i) for i in range(20)])
    assert found["text_to_video/R@1"] == pytest.approx(1 / 20)
    assert found["video_to_text/R@5"] == pytest.approx(5 / 20)
    assert found["video_to_text/R@10"] == pytest.approx(10 / 20)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_recall_with_ties_is_the_mean_over_all_orders(k: int) -> None:
    similarity = torch.tensor([[0.9, 0.5, 0.5, 0.5, 0.1]])
    for matches in itertools.product([False, True], repeat=5):
        if not any(matches):
            continue
        hits = []
        for order in itertools.permutations([1, 2, 3]):
            ranked = [0, *order, 4]
            hits.append(any(matches[i] for i in ranked[:k]))
        expected = sum(hits) / len(hits)
        assert recall(similarity, torch.tensor([matches]), k).item() == pytest.approx(expected, abs=1e-9)


def test_recall_by_hand() -> None:
    similarity = torch.tensor([[0.9, 0.1, 0.3], [0.8, 0.7, 0.1], [0.2, 0.4, 0.3]])
    right = torch.eye(3, dtype=torch.bool)
    assert [recall(similarity, right, k).item() for k in (1, 2, 3)] == pytest.approx([1 / 3, 1, 1])


def test_retrieval_names_both_directions() -> None:
    videos = torch.eye(3)
    texts = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.8, 0.0], [0.0, 0.0, 1.0]])
    found = retrieval(videos, texts, ["one", "two", "three"], ks=(1, 2))
    assert found == pytest.approx(
        {"text_to_video/R@1": 2 / 3, "text_to_video/R@2": 1, "video_to_text/R@1": 1, "video_to_text/R@2": 1}
    )


def test_a_shared_caption_is_right_for_all_who_share_it() -> None:
    videos = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    texts = torch.tensor([[1.0, 0.1], [0.0, 1.0], [1.0, 0.1]])
    assert retrieval(videos, texts, ["a", "b", "a"], ks=[1])["text_to_video/R@1"] == 1
    assert retrieval(videos, texts, ["a", "b", "c"], ks=[1])["text_to_video/R@1"] == pytest.approx(2.5 / 3, abs=0.2)


def test_mean_of_frames_is_a_mean_of_unit_vectors() -> None:
    video = torch.zeros(1, 3, 2, 4, 4)
    video[:, 0, 0], video[:, 1, 1] = 0.2, 0.9
    found = MeanOfFrames(Letters()).encode_videos(video)
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.5**0.5, 0.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_features(Letters(), []), "expected classes, each once"),
        (lambda: class_features(Letters(), ["x", "x"]), "expected classes, each once"),
        (lambda: class_features(Letters(), ["x"], ["a photo"]), "expected templates with {}"),
        (lambda: recall(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), 1), "2 have none"),
        (lambda: recall(torch.full((1, 1), torch.nan), torch.ones(1, 1, dtype=torch.bool), 1), "not all finite"),
        (lambda: recall(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), 4), "R@4 needs at least 4 items"),
        (lambda: retrieval(torch.ones(2, 3), torch.ones(2, 3), ["a"]), "a caption for each video, got 2, 2 and 1"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


class Truth:
    """Knows colours by name from texts, and sees nothing but brightness in videos."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        rows = [[float(colour in text.lower()) for colour in COLOURS] for text in texts]
        return torch.tensor(rows) + 1e-3

    def encode_images(self, images: Tensor) -> Tensor:
        return self.encode_videos(images[:, :, None])

    def encode_videos(self, videos: Tensor) -> Tensor:
        return torch.ones(len(videos), len(COLOURS))


def test_the_protocol_of_the_world_gives_the_blind_what_chance_gives() -> None:
    assert len(CLASSES) == len(COLOURS) * len(SHAPES) == 40
    assert {"red ball", "cyan ring", "pink cube"} <= set(CLASSES)
    found = evaluate_on_world(Truth(), WorldProtocol(num_classified=6, num_searched=5))
    assert found["zero_shot/accuracy"] == pytest.approx(1 / 40)
    assert found["sentence/text_to_video/R@1"] == pytest.approx(1 / 5)
    assert found["detailed/video_to_text/R@5"] == 1
    world = WorldConfig(max_objects=1, colours=("red",), shapes=("cube",), motions=("stay",))
    with pytest.raises(ValueError, match=r"have only \d+ different captions of style 'sentence'"):
        evaluate_on_world(Truth(), WorldProtocol(num_classified=1, num_searched=3, world=world))
