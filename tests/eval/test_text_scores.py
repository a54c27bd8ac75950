import contextlib
import io
import math
import random

import numpy as np
import pytest

from genworld.eval.meteor import JAR, MeteorJar, MeteorNltk, best_meteor, nltk_meteor
from genworld.eval.text_scores import (
    bleu,
    bleu_counts,
    bleu_intervals,
    bleu_of_counts,
    cider_d,
    rouge_l,
)
from genworld.eval.tokenise import find_jar


def exactly(value):
    return pytest.approx(value, abs=1e-6)  # the constants of 1e-9 in BLEU move the seventh digit


# ---- BLEU ----


def test_bleu_of_one_pair_by_hand() -> None:
    # "the black chair" against "the black office chair": 3 of 3 unigrams, 1 of 2 bigrams ("the black"), 0 of 1
    # trigrams. Length 3 against 4: penalty exp(1 - 4/3).
    one, two, three, four = bleu(["the black chair"], [["the black office chair"]])
    penalty = math.exp(1 - 4 / 3)
    assert one.value == exactly(penalty)
    assert two.value == exactly(penalty * math.sqrt(1 * 1 / 2))
    assert three.value == pytest.approx(penalty * (1 * 1 / 2 * 1e-15) ** (1 / 3), rel=1e-6)  # smoothed: 1e-15 of 1
    # No run of four: 1e-15 / 1e-9 of it counts.
    assert four.value == pytest.approx(penalty * (1 / 2 * 1e-15 * 1e-6) ** (1 / 4), rel=1e-6)


def test_bleu_is_of_the_corpus_and_not_the_mean() -> None:
    # Matches 1 + 2, predicted 1 + 4, lengths 5 against 1 + 4: BLEU-1 = 3/5; the mean of 1/1 and 2/4 would be 3/4.
    one = bleu(["red", "a b x y"], [["red"], ["a b c d"]])[0]
    assert one.value == exactly(3 / 5)
    assert one.items == exactly([1, 1 / 2])


def test_counts_are_clipped_to_the_reference_that_has_most() -> None:
    # "the" occurs at most twice in a reference: 2 of 7 (Papineni et al. 2002, example 2).
    assert bleu(["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]])[0].value == (
        exactly(2 / 7)
    )


def test_the_closest_reference_length_counts_and_the_shorter_of_two() -> None:
    assert bleu_counts(["a b c"], [["a b c d e", "a b c d", "a b"]])[0, 9] == 2  # 2 and 4 are as near: the shorter
    assert bleu_counts(["a b c"], [["a b c d e", "a b c d"]])[0, 9] == 4
    assert bleu(["a b c"], [["a b c d", "a b"]])[0].value == exactly(1)  # no penalty against a length of 2


def test_nothing_said_scores_nothing() -> None:
    assert max(score.value for score in bleu([""], [["a chair"]])) == pytest.approx(0, abs=1e-12)
    assert rouge_l([""], [["a chair"]]).value == 0
    assert cider_d(["", "a chair"], [["a chair"], ["a table"]]).items[0] == 0


def test_bleu_of_summed_counts_is_bleu_of_the_corpus() -> None:
    predictions, references = ["a b c d e", "a c"], [["a b c d f"], ["a b c"]]
    assert bleu_of_counts(bleu_counts(predictions, references).sum(axis=0)) == pytest.approx(
        [each.value for each in bleu(predictions, references)]
    )


# ---- ROUGE-L ----


def test_rouge_by_hand() -> None:
    # Common subsequence of "the chair is black" and "the black chair": "the chair" (or "the black"), 2.
    # P = 2/4, R = 2/3, F = (1 + 1.44) P R / (R + 1.44 P) = 2.44 / 3 / (2/3 + 0.72) = 0.813333 / 1.386667.
    assert rouge_l(["the chair is black"], [["the black chair"]]).value == pytest.approx(0.813333 / 1.386667, abs=1e-6)


def test_rouge_takes_precision_and_recall_from_different_references() -> None:
    # P = 3/4 from the long reference ("a b c" of 4), R = 1/1 from the short one.
    found = rouge_l(["a b c x"], [["a b c d e f", "x"]]).value
    assert found == pytest.approx(2.44 * 0.75 * 1 / (1 + 1.44 * 0.75))
    assert found > max(rouge_l(["a b c x"], [[reference]]).value for reference in ("a b c d e f", "x"))


# ---- CIDEr-D ----


def test_cider_of_three_documents_by_hand() -> None:
    # References "red chair", "red table", "door". log N = log 3; "red" is in 2 of 3: idf log 1.5; all others log 3.
    # Text 1 equals its reference: orders 1 and 2 have cosine 1, orders 3 and 4 none: 10 * 2/4 = 5.
    # Text 2, "red door": of order 1 only "red" is common, log(1.5)^2 / (|log 1.5, log 3| |log 1.5, log 3|); order 2: 0.
    # Text 3, "door": order 1 alone: 10 * 1/4 = 2.5, although it is right.
    found = cider_d(["red chair", "red door", "door"], [["red chair"], ["red table"], ["door"]])
    common = math.log(1.5) ** 2 / (math.log(1.5) ** 2 + math.log(3) ** 2)
    assert found.items == pytest.approx([5, 10 * common / 4, 2.5])
    assert found.value == pytest.approx((5 + 2.5 * common + 2.5) / 3)


def test_cider_clips_and_punishes_length() -> None:
    # "red red red" against "red": weight 3 log 2 clipped to log 2; cosine = log 2 * log 2 / (3 log 2 * log 2) = 1/3;
    # two pairs of tokens against none: exp(-4/72).
    assert cider_d(["red red red", "x"], [["red"], ["y"]]).items[0] == pytest.approx(10 / 4 / 3 * math.exp(-4 / 72))


def test_cider_is_the_mean_over_references_and_depends_on_the_set() -> None:
    assert cider_d(["red", "x"], [["red", "blue"], ["y"]]).items[0] == pytest.approx(10 / 4 / 2)
    assert cider_d(["red"], [["red"]]).value == 0  # alone, no word is rare
    # Where all references have "red" it weighs nothing.
    assert cider_d(["red", "red"], [["red"], ["red"]]).value == 0


# ---- METEOR ----


def test_nltk_meteor_by_hand() -> None:
    # All 2 words match in 1 chunk: F = 1, penalty 0.5 * (1/2)^3 = 1/16.
    plain = MeteorNltk()
    assert plain.name == "meteor_nltk_stems"
    assert plain(["black chair"], [["black chair"]]).value == pytest.approx(15 / 16)
    # "chairs" matches "chair" by its stem alone. P = 1/1, R = 1/2: F = PR / (0.9 P + 0.1 R) = 0.5 / 0.95;
    # one chunk of one match: penalty 0.5.
    assert plain(["chairs"], [["black chair"]]).value == pytest.approx(0.5 / 0.95 * 0.5)
    assert plain(["couch", ""], [["sofa"], ["sofa"]]).items.tolist() == [0, 0]  # a synonym, which it does not know


def test_synonyms_count_where_wordnet_is() -> None:
    class Lemma:
        def __init__(self, name: str) -> None:
            self.name = lambda: name

    class Synset:
        def lemmas(self) -> list[Lemma]:
            return [Lemma("sofa"), Lemma("couch")]

    class WordNet:
        def synsets(self, word: str) -> list[Synset]:
            return [Synset()] if word in ("sofa", "couch") else []

    with_synonyms = MeteorNltk(WordNet())
    assert with_synonyms.name == "meteor_nltk"
    assert with_synonyms(["couch"], [["sofa"]]).value == pytest.approx(0.5)


def test_without_java_it_is_nltks_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genworld.eval.tokenise.shutil.which", lambda name: None)
    assert best_meteor().name == nltk_meteor().name
    assert best_meteor().name.startswith("meteor_nltk")


def test_a_program_that_fails_is_told(tmp_path) -> None:
    with pytest.raises(ValueError, match="METEOR failed"):
        MeteorJar(tmp_path / "meteor.jar", str(tmp_path / "nojava"))(["a"], [["a"]])
    with pytest.raises(ValueError, match="METEOR failed"):
        MeteorJar(tmp_path / "meteor.jar", "true")(["a"], [["a"]])


# ---- intervals ----


def test_intervals_of_bleu_hold_its_value_and_shrink_with_more_scenes() -> None:
    source = random.Random(0)
    texts = [" ".join(source.choices("abcd", k=4)) for _ in range(400)]
    references = [[" ".join(source.choices("abcd", k=4))] for _ in texts]
    counts = bleu_counts(texts, references)
    many = bleu_intervals(counts, np.arange(400), "questions")
    few = bleu_intervals(counts, np.arange(400) % 5, "scenes")
    assert many is not None
    assert few is not None
    for value, interval in zip(bleu_of_counts(counts.sum(axis=0)), many, strict=True):
        assert value in interval
    assert few[0].method == "bootstrap over 5 scenes"
    assert bleu_intervals(counts, np.zeros(400), "scenes") is None


def test_bad_input() -> None:
    for score in (bleu, rouge_l, cider_d):
        with pytest.raises(ValueError, match="at least one prediction"):
            score([], [])
        with pytest.raises(ValueError, match="1 predictions and 2 sets"):
            score(["a"], [["a"], ["b"]])
        with pytest.raises(ValueError, match="prediction 1 has no references"):
            score(["a", "b"], [["a"], []])
        with pytest.raises(ValueError, match="got one text"):
            score(["a"], ["a"])


# ---- pycocoevalcap itself ----


def texts(seed: int, num: int) -> tuple[list[str], list[list[str]]]:
    """Answers of all lengths, none included, and one to five references, of which one is often nearly right."""
    source = random.Random(seed)
    words = ["the", "a", "black", "white", "chair", "table", "door", "left", "on", "it", "is", "counter's", "don't"]
    references = [
        [" ".join(source.choices(words, k=source.choice([1, 1, 2, 3, 9]))) for _ in range(source.choice([1, 1, 2, 5]))]
        for _ in range(num)
    ]
    kept = [[word for word in source.choice(several).split() if source.random() < 0.8] for several in references]
    return [" ".join(one + source.choices(words, k=source.choice([0, 0, 2]))) for one in kept], references


@pytest.mark.parametrize("num", [1, 2, 40, 300])
def test_equals_pycocoevalcap(num: int) -> None:
    theirs = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="needs pycocoevalcap")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    predictions, references = texts(num, num)
    truth, said = dict(enumerate(references)), {n: [text] for n, text in enumerate(predictions)}
    with contextlib.redirect_stdout(io.StringIO()):
        values, items = theirs.Bleu(4).compute_score(truth, said)
    for ours, value, each in zip(bleu(predictions, references), values, items, strict=True):
        assert ours.value == pytest.approx(value, abs=1e-12)
        assert ours.items == pytest.approx(np.array(each), abs=1e-12)
    for scorer, ours in ((Rouge(), rouge_l(predictions, references)), (Cider(), cider_d(predictions, references))):
        value, each = scorer.compute_score(truth, said)
        assert ours.value == pytest.approx(value, abs=1e-12)
        assert ours.items == pytest.approx(each, abs=1e-12)


@pytest.mark.slow
def test_the_jar_equals_pycocoevalcap() -> None:
    found = find_jar(JAR)
    if found is None:
        pytest.skip("needs Java and pycocoevalcap")
    from pycocoevalcap.meteor.meteor import Meteor

    predictions, references = texts(5, 20)
    value, each = Meteor().compute_score(dict(enumerate(references)), {n: [text] for n, text in enumerate(predictions)})
    ours = MeteorJar(*found)(predictions, references)
    assert ours.value == pytest.approx(value)
    assert ours.items == pytest.approx(each)
