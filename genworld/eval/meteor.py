"""METEOR in two versions that differ by points, and are therefore never called by one name.

`MeteorJar` is METEOR 1.5, the Java program of the published numbers: stems, WordNet's synonyms, a table of paraphrases.
`MeteorNltk` is nltk's (Banerjee and Lavie 2005: alpha 0.9, beta 3, gamma 0.5; no paraphrases), with WordNet where its
data are on this machine, else with exact words and stems alone. Nothing is downloaded.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from genworld.eval.text_scores import References, Scored
from genworld.eval.tokenise import find_jar

JAR = "meteor/meteor-1.5.jar"


class Meteor(Protocol):
    """A version of METEOR."""

    @property
    def name(self) -> str:
        """Which one it is, for reports."""
        ...

    def __call__(self, predictions: Sequence[str], references: References) -> Scored:
        """Score tokenised texts."""
        ...


@dataclass(frozen=True)
class _NoSynonyms:
    def synsets(self, word: str) -> list[Any]:
        """WordNet's interface, without its knowledge."""
        return []


@dataclass(frozen=True)
class MeteorNltk:
    """nltk's METEOR; the best over the references, and the mean over texts.

    Attributes:
        wordnet: nltk's reader of WordNet, or one that knows no synonyms.
    """

    wordnet: Any = field(default_factory=_NoSynonyms)

    @property
    def name(self) -> str:
        """`meteor_nltk`, or `meteor_nltk_stems` where there are no synonyms."""
        return "meteor_nltk_stems" if isinstance(self.wordnet, _NoSynonyms) else "meteor_nltk"

    def __call__(self, predictions: Sequence[str], references: References) -> Scored:
        """Score tokenised texts; an empty prediction scores 0."""
        from nltk.translate.meteor_score import meteor_score

        items = np.array(
            [
                meteor_score([other.split() for other in several], text.split(), wordnet=self.wordnet)
                if text.split()
                else 0.0
                for text, several in zip(predictions, references, strict=True)
            ]
        )
        return Scored(float(items.mean()), items)


@dataclass(frozen=True)
class MeteorJar:
    """METEOR 1.5 (Denkowski and Lavie 2014) as pycocoevalcap runs it: English, normalised.

    The score of a corpus is of its summed statistics, not the mean of the texts' scores.

    Attributes:
        jar: `meteor-1.5.jar`, with its tables beside it.
        java: the program; it takes up to 2 GB.
    """

    jar: Path
    java: str
    name: str = "meteor_jar"

    def __call__(self, predictions: Sequence[str], references: References) -> Scored:
        """Score tokenised texts.

        Raises:
            ValueError: the program cannot be run, or says something that is no score.
        """
        command = [self.java, "-Xmx2G", "-jar", self.jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
        try:
            with subprocess.Popen(
                command,
                cwd=self.jar.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            ) as process:
                stats = [
                    _ask(process, ["SCORE", *map(_safe, several), _safe(text)])
                    for text, several in zip(predictions, references, strict=True)
                ]
                first = _ask(process, ["EVAL", *stats])
                assert process.stdout is not None
                values = [float(first), *(float(process.stdout.readline()) for _ in stats)]
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.jar}: METEOR failed ({error}): is its folder complete, and Java whole?") from None
        return Scored(values[-1], np.array(values[:-1]))


def best_meteor() -> Meteor:
    """The Java program where Java and pycocoevalcap are installed, else nltk's."""
    found = find_jar(JAR)
    return MeteorJar(*found) if found else nltk_meteor()


def nltk_meteor() -> MeteorNltk:
    """With WordNet where nltk finds its data."""
    import nltk

    for name in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            nltk.data.find(name)
        except LookupError:
            continue
        from nltk.corpus import wordnet

        return MeteorNltk(wordnet)
    return MeteorNltk()


def _ask(process: subprocess.Popen[str], words: Sequence[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(" ||| ".join(words) + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def _safe(text: str) -> str:
    return " ".join(text.replace("|||", " ").split())
