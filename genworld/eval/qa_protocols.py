"""How published scorers of answers count, each by its name, with its oddities.

"EM" and "CIDEr" of ScanQA and SQA3D differ between papers by what is cleaned, tokenised and called a match, by up to
several points on the same answers. A protocol reproduces one scorer, and says in `quirks` what it does that one would
not expect. `genworld` is the one to use for one's own comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from genworld.data.questions import Question, sqa3d_type

Match = tuple[bool, bool | None]
"""Whether an answer is right to the letter, and whether it is so in the loose sense (None where there is none)."""
Matcher = Callable[[str, Sequence[str]], Match]
Cleaner = Callable[[str], str]

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_WORDS = {
    **dict.fromkeys(("letf", "let"), "left"),
    "tehre": "there",
    **dict.fromkeys(("rigth", "rght"), "right"),
    "behine": "behind",
    "tv": "TV",
    "chai": "chair",
    "wasing": "washing",
    "waslked": "walked",
    "oclock": "o'clock",
    "none": "zero",
    **{str(number): word for number, word in enumerate(_NUMBERS.split(" "))},
    "23": "twenty-three",
}
_ENDS, _GAPS = re.compile("^ +| +$"), re.compile(" {2,}")  # "$" is before a last line break, too
_OTHERS = re.compile(r"[^a-zA-Z0-9,'\s\-:]+")
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)}|o' +clock)\b")
_DIGIT = re.compile(r"\b([a-zA-Z]+)[0-9]\b")
_ARTICLES = tuple(re.compile(rf"\b{article}\b ([a-zA-Z]+)") for article in ("a", "an", "the"))
_BACKWARDS = re.compile(r"\bbackwards\b")


@dataclass(frozen=True)
class Protocol:
    """A way to score answers.

    Attributes:
        name: of the scorer; with "/" and the benchmark where it treats two differently.
        tokenise: whether n-grams are of PTB tokens or of texts split at spaces.
        match: says whether an answer is right, given cleaned ones; None where no EM is reported.
        clean: the answer, before it is matched.
        clean_reference: the references, before they are matched.
        words: the answer, before n-grams are counted.
        words_reference: the references, before n-grams are counted.
        type_of: how questions are divided.
        ngrams: whether BLEU, ROUGE-L, CIDEr-D and METEOR are reported.
        unigram_f: whether ScanQA's F value is.
        quirks: what one would not expect.
    """

    name: str
    tokenise: Literal["ptb", "none"]
    match: Matcher | None
    clean: Cleaner
    clean_reference: Cleaner
    words: Cleaner
    words_reference: Cleaner
    type_of: Callable[[Question], str] = lambda question: question.type
    ngrams: bool = True
    unigram_f: bool = False
    quirks: tuple[str, ...] = ()


def clean_answer(text: str) -> str:
    """LEO's normaliser, which LLaVA-3D, Chat-Scene and Video-3D-LLM copied: slips, number words, articles.

    In order: lower case; spaces trimmed and squeezed; all but letters, digits, spaces and , ' - : deleted; known slips
    mended ("let" becomes "left", and "tv" "TV"); whole numbers up to 20, 23 and "none" to words; one digit glued to the
    end of a word deleted; articles before a word deleted; "backwards" to "backward".
    """
    text = _OTHERS.sub("", _GAPS.sub(" ", _ENDS.sub("", text.lower())))
    text = _DIGIT.sub(r"\1", _WORD.sub(lambda found: _WORDS.get(found[0], "o'clock"), text))
    for article in _ARTICLES:
        text = article.sub(r"\1", text)
    return _BACKWARDS.sub("backward", text)


def as_it_is(text: str) -> str:
    """No cleaning."""
    return text


def exact(answer: str, references: Sequence[str]) -> Match:
    """Right if it is one of the references."""
    return answer in references, None


def leo_match(answer: str, references: Sequence[str]) -> Match:
    """LEO's: the first reference that is equal, or is held in the answer or holds it (spaces aside), decides."""
    for reference in references:
        if answer == reference:
            return True, True
        if _holds(answer, reference):
            return False, True
    return False, False


def refined(answer: str, references: Sequence[str]) -> Match:
    """LEO's without its bug: equality with any reference comes first. An empty answer is still held in all."""
    if answer in references:
        return True, True
    return False, any(_holds(answer, reference) for reference in references)


def refined_of_words(answer: str, references: Sequence[str]) -> Match:
    """As `refined`, but an empty answer is never right, and words are not cut: "air" is not held in "chair"."""
    found = answer.split()
    if not found:
        return False, False
    return answer in references, any(
        _run_of(found, each.split()) or _run_of(each.split(), found) for each in references if each.split()
    )


def first_line_without_marks(text: str) -> str:
    """3D-LLM's cleaning of an answer: no commas, no padding and end marks, trimmed, and its first line."""
    for mark in (",", "<pad>", "</s>"):
        text = text.replace(mark, "")
    return text.strip().split("\n")[0]


def without_period(text: str) -> str:
    """No periods at the end."""
    return text.rstrip(".")


def chat_scene_clean(text: str) -> str:
    """Chat-Scene's: one period at the end and the capital at the start go, then `clean_answer`."""
    if len(text) > 1:
        text = text.removesuffix(".")
        text = text[:1].lower() + text[1:]
    return clean_answer(text)


def squeezed(text: str) -> str:
    """Single spaces between words."""
    return " ".join(filter(None, text.split(" ")))


def trimmed(text: str) -> str:
    """One line without spaces around it."""
    return text.replace("\n", " ").strip()


def type_in_text(question: Question) -> str:
    """3D-LLM's types of SQA3D: the first of What, How, Can, Is and Which that occurs anywhere in the question."""
    return next((kind for kind in ("What", "How", "Can", "Is", "Which") if kind in question.text), "Other").lower()


_EMPTY = "an empty answer is right in the refined sense, whatever the question"
_SUBSTRING = "refined EM compares letters without spaces: 'air' is right where 'chair' is"
_SUBSET = "the scorer counts questions about scenes with features only: name the scenes to do the same"

_LEO = Protocol(
    "leo",
    "none",
    leo_match,
    clean_answer,
    clean_answer,
    clean_answer,
    clean_answer,
    quirks=(
        "the first reference that is loosely equal decides: a later one that is equal to the letter is not seen",
        _EMPTY,
        _SUBSTRING,
    ),
)
_3DLLM = Protocol(
    "3dllm",
    "ptb",
    exact,
    first_line_without_marks,
    as_it_is,
    first_line_without_marks,
    as_it_is,
    quirks=("answers are cleaned, references are not: a reference with a comma can never be met", _SUBSET),
)
_LLAVA3D = Protocol(
    "llava3d", "ptb", refined, clean_answer, clean_answer, clean_answer, clean_answer, quirks=(_EMPTY, _SUBSTRING)
)
_CHAT_SCENE = replace(_LLAVA3D, name="chat_scene/clean_references", clean=chat_scene_clean, words=chat_scene_clean)

PROTOCOLS: tuple[Protocol, ...] = (
    Protocol(
        "genworld",
        "ptb",
        refined_of_words,
        clean_answer,
        clean_answer,
        clean_answer,
        clean_answer,
    ),
    Protocol("scanqa_official", "ptb", exact, as_it_is, as_it_is, as_it_is, as_it_is, unigram_f=True),
    _3DLLM,
    replace(
        _3DLLM,
        name="3dllm/sqa3d",
        type_of=type_in_text,
        quirks=(*_3DLLM.quirks, "types go by words anywhere in the question: 'Is it known What ...' is a What"),
    ),
    _LEO,
    replace(_LEO, name="leo/sqa3d", type_of=lambda question: sqa3d_type(question.text)),
    _LLAVA3D,
    replace(_LLAVA3D, name="llava3d/sqa3d", ngrams=False, type_of=lambda question: sqa3d_type(question.text)),
    replace(
        _CHAT_SCENE,
        name="chat_scene",
        words_reference=trimmed,
        quirks=(*_LLAVA3D.quirks, "n-grams compare a cleaned answer with references as they are ('two' with '2')"),
    ),
    _CHAT_SCENE,  # earlier versions of the scorer
    replace(_CHAT_SCENE, name="chat_scene/sqa3d", type_of=lambda question: sqa3d_type(question.text)),
    Protocol(
        "video3dllm",
        "none",
        exact,
        as_it_is,
        as_it_is,
        without_period,
        as_it_is,
        quirks=("n-grams forgive a period at the end, EM does not; capitals count in both",),
    ),
    Protocol(
        "video3dllm/sqa3d",
        "none",
        exact,
        clean_answer,
        clean_answer,
        clean_answer,
        clean_answer,
        ngrams=False,
        type_of=lambda question: sqa3d_type(question.text),
    ),
    Protocol("ll3da", "none", None, squeezed, as_it_is, squeezed, as_it_is, quirks=("no EM is reported",)),
)


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: there is none.
    """
    for each in PROTOCOLS:
        if each.name == name:
            return each
    raise ValueError(f"no protocol {name!r}: there are {', '.join(each.name for each in PROTOCOLS)}")


def _holds(one: str, two: str) -> bool:
    one, two = "".join(one.split()), "".join(two.split())
    return one in two or two in one


def _run_of(short: Sequence[str], words: Sequence[str]) -> bool:
    """Whether `short` occurs in `words` as a run."""
    return any(list(words[i : i + len(short)]) == list(short) for i in range(len(words) - len(short) + 1))
