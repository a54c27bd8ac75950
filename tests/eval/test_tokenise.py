import json
from pathlib import Path

import pytest

from genworld.eval.tokenise import PTB, PTBJar, Whitespace, best_tokeniser, find_jar, ptb_tokens

CORPUS = json.loads((Path(__file__).parent / "ptb_corpus.json").read_text(encoding="utf-8"))
"""Texts with the tokens that Stanford's PTBTokenizer (CoreNLP 3.4.1, as in pycocoevalcap 1.2) makes of them."""


def test_the_rules_agree_with_stanfords_program_on_the_corpus() -> None:
    wrong = [(text, tokens) for text, tokens in CORPUS["same"] if " ".join(ptb_tokens(text)) != tokens]
    assert not wrong
    assert len(CORPUS["same"]) > 200


def test_the_differences_that_are_known_are_the_only_ones() -> None:
    for text, tokens in CORPUS["known_differences"]:
        assert " ".join(ptb_tokens(text)) != tokens, f"{text!r} agrees now: move it to the others"
    assert len(CORPUS["known_differences"]) <= 8


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I don't know, it isn't here.", "i do n't know it is n't here"),
        ("I cannot see the man's chair", "i can not see the man 's chair"),
        ("an L-shaped black-and-white couch", "an l-shaped black-and-white couch"),
        ("1,000 chairs, 3/4 full", "1,000 chairs 3/4 full"),
        ("\"quoted\" and 'quoted'", "quoted and quoted"),
        ("left.\nright", "left right"),
        ("chairs (2)", "chairs -lrb- 2 -rrb-"),  # brackets are listed among the punctuation, but in capitals
        ("what?!", "what ?!"),
        ("", ""),
        ("...", ""),
    ],
)
def test_tokens(text: str, tokens: str) -> None:
    assert " ".join(ptb_tokens(text)) == tokens


def test_tokenisers_have_names_and_keep_the_order() -> None:
    assert PTB()(["A bed.", "", "It's"]) == ["a bed", "", "it 's"]
    assert Whitespace()(["A  b.", "c\nd"]) == ["A  b.", "c\nd"]
    assert len({PTB().name, Whitespace().name, PTBJar(Path(), "java").name}) == 3


def test_the_rules_serve_where_the_program_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genworld.eval.tokenise.shutil.which", lambda name: None)
    assert find_jar("tokenizer/stanford-corenlp-3.4.1.jar") is None
    assert best_tokeniser() == PTB()


def test_a_program_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be run"):
        PTBJar(tmp_path / "no.jar", str(tmp_path / "nojava"))(["a"])
    with pytest.raises(ValueError, match="failed"):
        PTBJar(tmp_path / "no.jar", "false")(["a"])


@pytest.mark.slow
def test_the_corpus_is_what_the_program_says() -> None:
    program = best_tokeniser()
    if not isinstance(program, PTBJar):
        pytest.skip("needs Java and pycocoevalcap")
    rows = CORPUS["same"] + CORPUS["known_differences"]
    assert program([text for text, _ in rows]) == [tokens for _, tokens in rows]
