"""What every language model of ours is: a network of transformers, words, location tokens, and four methods."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genworld.models.llm_anchors import Lying
from genworld.models.llm_corners import CORNERS
from genworld.ops.scene_codec import FLAT_CELLS

LocationStyle = Literal["none", "axis", "corner", "flat32"]
"""`axis` and `flat32` are those of the codec. `corner` is read and written as `axis` is, but the first, second, ... to
sixth location token that stand together are six tokens of their own: who writes one knows which comes next."""

AXIS_CELLS = 256

_LOCATION = re.compile(r"(\s*<loc\d+>\s*)")
SCENE_MARK = "<scene>"


def location_places(style: LocationStyle) -> int:
    """How many tokens a style has for one location, by where they stand among others."""
    return CORNERS if style == "corner" else 1


def num_locations(style: LocationStyle) -> int:
    """How many location tokens a style has."""
    return {"none": 0, "axis": AXIS_CELLS, "corner": CORNERS * AXIS_CELLS, "flat32": FLAT_CELLS**3}[style]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What stands around what is said. What users say is never searched for any of these marks.

    Attributes:
        opening: comes first; `<scene>` in it is where the scene's tokens go.
        user: stands before what a user says.
        assistant: stands before an answer.
    """

    opening: str = "<scene>"
    user: str = ""
    assistant: str = ""

    def __post_init__(self) -> None:
        found = self.opening.count(SCENE_MARK)
        if found != 1 or SCENE_MARK in self.user + self.assistant:
            raise ValueError(
                f"the layout needs {SCENE_MARK} exactly once, in its opening; got opening {self.opening!r}, "
                f"user {self.user!r}, assistant {self.assistant!r}"
            )


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How answers are found: greedily by default. See transformers' `GenerationConfig` for what the numbers mean."""

    max_tokens: int = 64
    num_beams: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class SharedStart:
    """How prompts begin alike, so that their beginnings need to be worked out once each.

    Attributes:
        length: embeddings at the beginning of every prompt.
        first: for each beginning, the number of a prompt that has it.
        rows: for each prompt, the number of its beginning.
    """

    length: int
    first: Int[Tensor, " S"]
    rows: Int[Tensor, " B"]


@dataclass(frozen=True, kw_only=True)
class LanguageInputs:
    """What a language model is given.

    Attributes:
        prompt: embeddings of all up to the answers; padded on the left for decoder-only models, else on the right.
        keep: which of them are real.
        answers: ids with the end, padded on the right; without columns where there are to be none.
        answers_keep: which of them are real.
        start: how the prompts begin alike; None where they do not, or where that is not known.
        lying: how what is in the scenes lies to one another; None where that is not known.
    """

    prompt: Float[Tensor, "B L D"]
    keep: Bool[Tensor, "B L"]
    answers: Int[Tensor, "B A"]
    answers_keep: Bool[Tensor, "B A"]
    start: SharedStart | None = None
    lying: Lying | None = None


class Asked(NamedTuple):
    """What is to be told beside the logits of answers.

    Each row begins with the number of a prompt and of one of its tokens after the beginning that prompts share, those
    of its answer included.

    Attributes:
        glances: how much that token looked at a token of the beginning, the third number.
        counted: which things that word means; none where the model does not count.
        copied: which corner follows that word; none where the model does not copy.
    """

    glances: Int[Tensor, "n 3"]
    counted: Int[Tensor, "m 2"]
    copied: Int[Tensor, "k 2"]


class Answered(NamedTuple):
    """Logits of answers, and what was looked at for them.

    Attributes:
        logits: of every token of the answers.
        looks: for each glance, the attention that was paid, the mean over heads, by blocks: the first two thirds of
            them, the very first left out.
        meant: for each word that was asked about, the logits that it means each thing; see `CountHead`.
        corners: for each word that was asked about, the logits of the corner that follows; see `CornerHead`.
    """

    logits: Float[Tensor, "B A V"]
    looks: Float[Tensor, "n K"]
    meant: Float[Tensor, "m Q"]
    corners: Float[Tensor, "k 7"]


class LanguageModel(nn.Module):
    """A decoder-only or encoder-decoder network behind the same methods.

    Attributes:
        network: of transformers.
        layout: what stands around what is said.
        end: id of the token that ends an answer.
        start: ids that a prompt begins with.
        first_location: id of `<loc0>`; the others follow, and then those that stand second, and so on (see
            `LocationStyle`).
        max_tokens: of a prompt with its scene, and its answer.
    """

    network: Any
    layout: Layout
    end: int
    start: tuple[int, ...] = ()
    first_location: int
    max_tokens: int

    def __init__(self, locations: LocationStyle) -> None:
        super().__init__()
        self.locations = locations
        self.num_locations = num_locations(locations)

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.network.get_input_embeddings().weight.shape[1]

    @property
    def has_encoder(self) -> bool:
        """Whether prompts are read by an encoder and answers written by a decoder."""
        return bool(self.network.config.is_encoder_decoder)

    # Text

    def encode(self, text: str, *, marks: bool = False) -> list[int]:
        """Ids of a text and of the location tokens in it; nothing is added.

        Args:
            text: anything.
            marks: whether special tokens, such as those of a layout, are read as such, and not as words.

        Raises:
            ValueError: there is a location token in it that the model does not have.
        """
        ids, before = list[int](), 0
        for piece in _LOCATION.split(text):
            if _LOCATION.fullmatch(piece):
                ids.append(self._location_id(int(piece.strip()[4:-1]), before))
                before += 1
            elif piece.strip():
                ids += self._encode_words(piece, marks)
                before = 0
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids stand for, up to the end; boxes as location tokens."""
        text, words = "", list[int]()
        for number in [*ids, self.end]:
            is_location, location = self.is_location(number), self.location(number)
            if words and (is_location or number == self.end):
                text, words = _joined(text, self._decode_words(words).strip()), []
            if number == self.end:
                break
            if is_location:
                text += f" <loc{location}>" if text and not text.endswith(">") else f"<loc{location}>"
            else:
                words.append(number)
        return text

    def is_location(self, token: int) -> bool:
        """Whether a token is one of the location tokens."""
        return 0 <= token - self.first_location < self.num_locations

    @property
    def cells(self) -> int:
        """How many locations there are."""
        return self.num_locations // location_places(self.locations)

    def location(self, token: int) -> int:
        """Which location a location token stands for."""
        return (token - self.first_location) % max(1, self.cells)

    def _location_id(self, number: int, before: int) -> int:
        if number >= self.cells:
            has = f"has <loc0> to <loc{self.cells - 1}>" if self.num_locations else "has no location tokens"
            raise ValueError(
                f"<loc{number}> stands in a text, but the language model {has} (locations: {self.locations}): write "
                "places with the codec and the style that it was trained with"
            )
        return self.first_location + before % location_places(self.locations) * self.cells + number

    def _encode_words(self, text: str, marks: bool) -> list[int]:
        raise NotImplementedError

    def _decode_words(self, ids: Sequence[int]) -> str:
        raise NotImplementedError

    def fit(self, corpus: Iterable[str]) -> None:
        """Learn a vocabulary, where there is one to learn. Default: nothing."""

    def asset(self) -> str | None:
        """What `fit` learned, as text; None if there is nothing."""
        return None

    def load_asset(self, asset: str) -> None:
        """Take back what `asset` gave."""
        raise ValueError(f"{type(self).__name__} has no vocabulary of its own to load")

    # Numbers

    @property
    def table(self) -> Float[Tensor, "V D"]:
        """Embeddings of all tokens."""
        return self.network.get_input_embeddings().weight

    def embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """Embeddings of tokens."""
        return self.network.get_input_embeddings()(ids)

    def answer_logits(self, inputs: LanguageInputs) -> Float[Tensor, "B A V"]:
        """Logits of every token of the answers, from the prompt and the tokens before it.

        `inputs.start` saves work where a model knows how, and changes nothing beyond rounding.
        """
        prompt, answers = inputs.prompt, inputs.answers
        if self.has_encoder:
            first = answers.new_full((len(answers), 1), self.network.config.decoder_start_token_id)
            written = torch.cat([first, answers[:, :-1]], dim=1)
            return self.network(
                inputs_embeds=prompt, attention_mask=inputs.keep.long(), decoder_input_ids=written, use_cache=False
            ).logits
        mask = torch.cat([inputs.keep, inputs.answers_keep[:, :-1]], dim=1).long()
        given: dict[str, Any] = {"inputs_embeds": torch.cat([prompt, self.embed(answers[:, :-1]).to(prompt)], dim=1)}
        known = inspect.signature(self.network.forward).parameters
        if "position_ids" in known:
            given["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
        if "logits_to_keep" in known:
            given["logits_to_keep"] = answers.shape[1]
        logits = self.network(**given, attention_mask=mask, use_cache=False).logits
        return logits[:, -answers.shape[1] :]

    def answer_looking(self, inputs: LanguageInputs, asked: Asked) -> Answered:
        """`answer_logits` of inputs with a shared beginning, and what words looked at and were told.

        Raises:
            ValueError: this model does not tell.
        """
        raise ValueError(
            f"{type(self).__name__} does not tell what it looks at, which the loss of evidence needs: set the weight "
            "of evidence to 0, or use a language model of kind own"
        )

    @property
    def counts(self) -> bool:
        """Whether words are told how many things they mean, and `answer_looking` tells which."""
        return False

    @property
    def copies(self) -> bool:
        """Whether words are told the location tokens of boxes, which `Lying.corners` must then have."""
        return False

    @torch.no_grad()
    def generate(self, inputs: LanguageInputs, config: GenerationConfig) -> list[list[int]]:
        """Ids of answers, without the end; those of the inputs are not looked at."""
        ids = self.network.generate(
            inputs_embeds=inputs.prompt,
            attention_mask=inputs.keep.long(),
            max_new_tokens=config.max_tokens,
            num_beams=config.num_beams,
            length_penalty=config.length_penalty,
            repetition_penalty=config.repetition_penalty,
            do_sample=False,
            use_cache=True,
            eos_token_id=self.end,
            pad_token_id=self.end,
        )
        rows = [row[1:] if self.has_encoder else row for row in ids.tolist()]
        return [row[: row.index(self.end)] if self.end in row else row for row in rows]

    def trained(self) -> nn.Module | None:
        """What a checkpoint must hold; None for a frozen model."""
        return self.network


class Trained(nn.Module):
    """Some parameters of a network, under their names, as a network of its own: what a checkpoint holds of it.

    It shares them; the network itself is not among its modules.
    """

    _network: Any

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        object.__setattr__(self, "_network", network)
        self._names = frozenset(names)

    def modules(self, remove_duplicate: bool = True) -> Any:
        """Those of the whole network, so that tables are known for what they are."""
        return self._network.modules(remove_duplicate)

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Any:
        """The chosen ones."""
        for name, parameter in self._network.named_parameters(prefix, recurse, remove_duplicate):
            if name.removeprefix(f"{prefix}.") in self._names:
                yield name, parameter

    def parameters(self, recurse: bool = True) -> Any:
        """The chosen ones."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The chosen ones."""
        return {key: x for key, x in self._network.state_dict(*args, **kwargs).items() if key in self._names}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the chosen ones, all of them."""
        if strict and state_dict.keys() != self._names:
            raise ValueError(f"weights do not fit: {sorted(state_dict.keys() ^ self._names)} are on one side only")
        return self._network.load_state_dict(state_dict, strict=False, assign=assign)


def between_locations(text: str) -> list[str]:
    """What stands between the location tokens of a text."""
    return [piece for piece in _LOCATION.split(text) if piece.strip() and not _LOCATION.fullmatch(piece)]


def _joined(text: str, more: str) -> str:
    return text + (" " if text and more[:1].isalnum() else "") + more
