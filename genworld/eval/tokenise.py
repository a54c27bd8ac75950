"""Captions and answers into the words that scores of text count, and by whose rules.

Published scores are counted over the tokens of Stanford's PTBTokenizer (CoreNLP 3.4.1, lower case, punctuation removed
as in pycocoevalcap), which is a Java program. `PTB` follows its rules in Python; `tests/eval/ptb_corpus.json` says on
what they agree, word for word. `PTBJar` runs the program itself, where it and Java are at hand. Every report names the
one it used.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Removed after tokenising. pycocoevalcap lists brackets too, but as "-LRB-", where all is in lower case by then: they
# are never removed, and "-lrb-" counts as a word.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", "…", ";"])

_PROGRAM = "edu.stanford.nlp.process.PTBTokenizer"
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_CURRENCY = {"£": "#", "€": "$", "¢": "cents"}
_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "«": '"', "»": '"', "–": "-", "—": "-"})  # noqa: RUF001

# Words whose period belongs to them: always, in capitals only, before a number only.
_ABBREVIATIONS = (
    "adj|adm|adv|al|ala|alex|apr|ariz|assn|asst|atty|aug|ave|bhd|bldg|blvd|brig|bros|calif|capt|cf|cie|cmdr|co|"
    "col|colo|conn|corp|cos|cpl|ct|dak|dec|dept|det|dr|drs|elec|ens|esq|est|etc|ext|feb|fla|fri|ft|ga|gen|gov|"
    "govs|hon|inc|ind|insp|intl|invt|jan|jos|jr|jul|jun|kan|kans|ky|lt|ltd|maj|mar|md|messrs|mfg|mich|minn|mlle|"
    "mme|mo|mon|mont|mr|mrs|ms|msgr|mt|mtg|natl|neb|nev|nov|oct|okla|penn|pfc|ph|plc|ppte|ppty|pres|prof|pte|"
    "ptes|pty|ptys|pvt|rd|rep|reps|rev|rt|sen|sens|sep|sept|seq|sfc|sgt|spc|sq|sr|st|ste|supt|sys|tel|tenn|thu|"
    "thurs|tue|tues|univ|va|vs|vt|wed|wis|wisc|wm|wyo"
)
_IN_CAPITALS = "Ark|Az|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
_BEFORE_A_NUMBER = "art|ca|fig|figs|no|nos|op|pp|prop"

_PART = r"[^\W_]+(?:_[^\W_]+)*"
_LETTERS = r"[^\W\d_]"
_TOKEN = re.compile(
    rf"""
      https?://[^\s"<>]*[^\s"<>.,;:!?)'\]] | www\.[\w./%-]*\w
    | [\w.+-]+@\w[\w-]*(?:\.\w[\w-]*)* | @\w+
    | </?[a-z][\w:-]*/?>                                                # <pad>
    | can(?=not\b) | gon(?=na\b) | wan(?=na\b) | got(?=ta\b) | lem(?=me\b) | gim(?=me\b)
    | {_LETTERS}+?(?=n't) | n't\w*                                       # don't: do n't
    | 't(?=(?:is|was)\b) | '(?:em|cause|til|n'?)(?!\w) | (?<!\w)'\d\ds?(?!\w) | '(?:s|m|d|re|ve|ll)(?!\w)
    | ma'am\b | c'mon\b | (?:ne|o|e)'er\b | [yj]'(?={_LETTERS}) | [dlno]'{_LETTERS}{{2,}}    # y'all: y' all; o'clock
    | ph\.d\. | {_LETTERS}\.(?!\w)                                         # initials keep their period, as does t.v.
    | (?:{_LETTERS}\.)+{_LETTERS}+(?:(?<=\.{_LETTERS})\.(?!\w))?(?!\w)
    | (?:{_ABBREVIATIONS})\.(?![^\W\d]) | (?-i:{_IN_CAPITALS})\.(?!\w)
    | (?:{_BEFORE_A_NUMBER})\.(?=\s*\d)
    | \d+[ap](?=\.m\.)
    | [-+]?\d+(?:[,.:]\d+)+(?:(?<!:\d\d)(?:-\w+)+)? | [-+.,:]\d+(?:[.,:/-]\d+)*  # 1,000 and 3.5-inch; ",2" of "one,2"
    | c\+\+ | [cf]\# | {_PART}(?:-{_PART})*(?:/{_PART}(?:-{_PART})*){{1,2}} | {_PART}(?:-{_PART})+
    | (?={_PART}\.{_LETTERS})\d*{_LETTERS}\w*(?:\.{_LETTERS}\w*)+(?:-{_PART})*   # chair.table
    | (?-i:[A-Z]+&[A-Z]+) | \#{_LETTERS}\w*
    | {_LETTERS}\w*(?:[!?]{_LETTERS}\w*)+
    | {_PART}
    | [!?]+ | \.{{3}} | -+ | _+ | \*+ | \#+ | \S
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Tokeniser(Protocol):
    """Something that makes words of texts."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Each text as its tokens with single spaces between them."""
        ...


@dataclass(frozen=True)
class Whitespace:
    """Texts as they are: for protocols that do not tokenise, and for texts that are tokens already."""

    name: str = "none"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Unchanged."""
        return list(texts)


@dataclass(frozen=True)
class PTB:
    """Stanford's rules in Python, as far as `tests/eval/ptb_corpus.json` goes; lower case, without punctuation."""

    name: str = "PTB rules in Python"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Tokens of each text, joined by spaces."""
        return [" ".join(ptb_tokens(text)) for text in texts]


@dataclass(frozen=True)
class PTBJar:
    """Stanford's PTBTokenizer itself, in one run of Java for all texts; punctuation removed as in pycocoevalcap.

    Attributes:
        jar: `stanford-corenlp-3.4.1.jar`.
        java: the program.
    """

    jar: Path
    java: str
    name: str = "PTBTokenizer of CoreNLP 3.4.1"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Tokens of each text, joined by spaces.

        Raises:
            ValueError: the program fails.
        """
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
            file.write("\n".join(" ".join(text.splitlines()) for text in texts))
            file.flush()
            program = [
                self.java,
                "-Dfile.encoding=UTF-8",
                "-cp",
                str(self.jar),
                "edu.stanford.nlp.process.PTBTokenizer",
            ]
            lines = run_java([*program, "-preserveLines", "-lowerCase", file.name]).split("\n")
        if len(lines) < len(texts):
            raise ValueError(f"{self.jar}: {len(texts)} texts went in but {len(lines)} came out")
        return [" ".join(_kept(line.split())) for line in lines[: len(texts)]]


def best_tokeniser() -> Tokeniser:
    """Stanford's program where Java and pycocoevalcap's copy of it are installed, else its rules in Python."""
    found = find_jar("tokenizer/stanford-corenlp-3.4.1.jar")
    return PTBJar(*found) if found else PTB()


def ptb_tokens(text: str) -> list[str]:
    """The tokens of one text, in lower case and without punctuation.

    What Stanford's lexer does with quotes and dashes is not followed, since both are removed.
    """
    for sign, words in _FRACTIONS.items():
        text = text.replace(sign, f" {words} ")
    found = _TOKEN.findall("".join(letter for letter in text.translate(_QUOTES) if ord(letter) < 1 << 16))
    return _kept([_BRACKETS.get(token) or _CURRENCY.get(token) or token.lower() for token in found])


def find_jar(inside: str) -> tuple[Path, str] | None:
    """A jar of the installed package pycocoevalcap, and Java; None where one is missing. Nothing is downloaded."""
    spec, java = importlib.util.find_spec("pycocoevalcap"), shutil.which("java")
    if spec is None or java is None:
        return None
    jars = [Path(folder) / inside for folder in spec.submodule_search_locations or ()]
    return next(((jar, java) for jar in jars if jar.is_file()), None)


def run_java(command: Sequence[str]) -> str:
    """What a program prints.

    Raises:
        ValueError: it is missing or fails.
    """
    try:
        return subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    except OSError as error:
        raise ValueError(f"{command[0]}: cannot be run ({error}): install Java, or use the rules in Python") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{' '.join(command)}: failed: {error.stderr.strip()[-300:]}") from None


def _kept(tokens: Sequence[str]) -> list[str]:
    return [token for token in tokens if token not in PUNCTUATION and token.strip("-") and token != '"']
