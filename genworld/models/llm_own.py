"""A small decoder-only language model with a vocabulary of its own, trained here from nothing."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genworld.models.llm_anchors import Anchors, Lying
from genworld.models.llm_base import (
    AXIS_CELLS,
    Answered,
    Asked,
    GenerationConfig,
    LanguageInputs,
    LanguageModel,
    Layout,
    LocationStyle,
    SharedStart,
    location_places,
    num_locations,
)
from genworld.models.llm_counts import NUMBERS
from genworld.models.llm_tokenizer import train_tokenizer
from genworld.nn.embed import sinusoids
from genworld.ops.recent import recent
from genworld.ops.scene_codec import FLAT_CELLS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MARKS = ("<end>", "<user>", "<assistant>")
"""Tokens 0 to 2; pieces of words follow. No text can be mistaken for one."""

_NUM_BYTES = 256

_LONGER, _MORE = 1.4, 4
"""Rows go through the network together if they are at most this many times, and tokens, longer than the shortest."""

_RECENT = 4096
"""Texts whose ids are kept."""

_ALIKE, _BACK = 0.6, 1.0
"""How much of queries and keys begins alike, and of values as what they were."""


@dataclass(frozen=True, kw_only=True)
class OwnLLMConfig:
    """The architecture of Llama (Touvron et al. 2023) at a small size, from transformers.

    Attributes:
        width: of the embeddings.
        depth: blocks.
        num_heads: must divide the width.
        vocabulary: words, pieces of words and marks, at least 259; location tokens come on top.
        locations: style of location tokens.
        max_tokens: of a prompt with its scene, and of an answer.
        anchored: whether words look at things by how these lie to what they looked at before (see `Anchors`); needs a
            connector that finds objects.
        counting: whether words are told how many things they mean (see `CountHead`); needs `anchored`.
        copying: whether words are told the location tokens of the boxes they look at (see `CornerHead`); needs
            `anchored` and locations of style `corner`.
    """

    kind: Literal["own"] = "own"
    width: int = 192
    depth: int = 4
    num_heads: int = 4
    vocabulary: int = 1024
    locations: LocationStyle = "axis"
    max_tokens: int = 512
    anchored: bool = False
    counting: bool = False
    copying: bool = False

    def __post_init__(self) -> None:
        if self.width % (2 * self.num_heads):
            raise ValueError(f"width {self.width} is not divisible by twice num_heads {self.num_heads}")
        if self.vocabulary < len(_MARKS) + _NUM_BYTES:
            raise ValueError(
                f"vocabulary must be at least {len(_MARKS) + _NUM_BYTES} (all bytes and marks), got {self.vocabulary}"
            )
        if self.counting and not self.anchored:
            raise ValueError("counting judges things by how they lie, which needs anchored: true")
        if self.copying and not (self.anchored and self.locations == "corner"):
            raise ValueError(
                "copying tells words the corners of what they looked at, one after another, which needs anchored: true "
                "and locations: corner"
            )


class OwnLLM(LanguageModel):
    """See `OwnLLMConfig`. Text is lower-cased and normalised to NFC, in answers too.

    Embeddings of location tokens begin as waves of their number, so that places nearby are alike from the start. In
    style `corner`, those that stand first, second, ... have a part in common, too.
    """

    def __init__(self, config: OwnLLMConfig) -> None:
        super().__init__(config.locations)
        from transformers import LlamaConfig, LlamaForCausalLM

        self.vocabulary, self.max_tokens = config.vocabulary, config.max_tokens
        self.layout = Layout(opening="<scene>", user="<user>", assistant="<assistant>")
        self.end, self.first_location = 0, config.vocabulary
        settings: Any = LlamaConfig(
            vocab_size=config.vocabulary + num_locations(config.locations),
            hidden_size=config.width,
            intermediate_size=4 * config.width * 2 // 3 // 8 * 8,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            max_position_embeddings=config.max_tokens,
            initializer_range=config.width**-0.5 / 2,
            # On a CPU, PyTorch's fused attention takes twice as long over rows of different lengths.
            attn_implementation="eager",  # type: ignore[call-arg]
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=None,
        )
        self.network = LlamaForCausalLM(settings)
        self._tokenizer: Tokenizer | None = None
        self._encoded: OrderedDict[tuple[str, bool], list[int]] = OrderedDict()
        self._anchors = (
            Anchors(self.network.model.layers, config.width, counting=config.counting, copying=config.copying)
            if config.anchored
            else None
        )
        self._start(config)
        self._start_locations()

    @torch.no_grad()
    def _start(self, config: OwnLLMConfig) -> None:
        """First weights with which few layers learn soon to look things up in what stands before.

        Embeddings are as large as what normalisation makes of them, and blocks begin as small changes, so that a word
        stays what it is on its way; queries and keys begin alike in part, so that like attends to like, and values
        return as what they were (Trockman & Kolter 2023, "Mimetic initialization of self-attention layers").
        """
        network, width = self.network, config.width
        table = network.get_input_embeddings().weight
        table.div_(table.std())
        network.model.norm.weight.fill_(width**-0.5)
        small = (2 * config.depth) ** -0.5
        for block in network.model.layers:
            attention = block.self_attn
            alike, back = (torch.linalg.qr(torch.randn(width, width)).Q for _ in range(2))
            for layer, share in ((attention.q_proj, _ALIKE * alike), (attention.k_proj, _ALIKE * alike)):
                layer.weight.mul_(0.5).add_(share)
            attention.v_proj.weight.mul_(0.5).add_(_BACK * back)
            attention.o_proj.weight.mul_(0.5 * small).add_(_BACK * back.T)
            block.mlp.down_proj.weight.mul_(small)

    @torch.no_grad()
    def _start_locations(self) -> None:
        table, places = self.network.get_input_embeddings().weight, location_places(self.locations)
        numbers, cells = torch.arange(self.cells), FLAT_CELLS
        axes = [numbers // cells**2, numbers // cells % cells, numbers % cells]
        if self.locations != "flat32":
            axes, cells = [numbers], AXIS_CELLS
        width = table.shape[1] // len(axes) // 2 * 2
        rows = table[self.first_location :].view(places, self.cells, table.shape[1])
        for row, axis in enumerate(axes):
            waves = sinusoids(axis * (AXIS_CELLS / cells), width, longest=AXIS_CELLS / 4)
            rows[..., row * width : (row + 1) * width] = waves.to(table)
        if places > 1:
            rows += torch.randn(places, 1, table.shape[1]) * rows.std()

    def answer_logits(self, inputs: LanguageInputs) -> Float[Tensor, "B A V"]:
        """See `LanguageModel`; what prompts share, such as a scene that much is asked about, is read once."""
        if inputs.start is None or len(inputs.start.first) == len(inputs.prompt):
            with self._among(inputs.lying):
                return super().answer_logits(inputs)
        return self._go_on(inputs, inputs.start, None).logits

    def answer_looking(self, inputs: LanguageInputs, asked: Asked) -> Answered:
        """See `LanguageModel`."""
        assert inputs.start is not None, "nothing is known to be shared"
        return self._go_on(inputs, inputs.start, asked)

    @property
    def counts(self) -> bool:
        """See `LanguageModel`."""
        return self._anchors is not None and self._anchors.counts is not None

    @property
    def copies(self) -> bool:
        """See `LanguageModel`."""
        return self._anchors is not None and self._anchors.corners is not None

    @torch.no_grad()
    def generate(self, inputs: LanguageInputs, config: GenerationConfig) -> list[list[int]]:
        """See `LanguageModel`."""
        with self._among(inputs.lying):
            return super().generate(inputs, config)

    def _among(self, lying: Lying | None) -> AbstractContextManager[None]:
        """While this holds, words look at things by how they lie, where the model was made for that."""
        return nullcontext() if self._anchors is None else self._anchors.among(lying)

    def _go_on(self, inputs: LanguageInputs, start: SharedStart, asked: Asked | None) -> Answered:
        """Read shared beginnings, then, from each, the rest of its prompts and answers, those of a length together."""
        prompt, keep = inputs.prompt, inputs.keep
        before = prompt.shape[1] - keep.sum(dim=1)  # padding of each prompt, on its left
        shared = _rows(prompt[start.first], before[start.first], start.length)
        read = self.network(inputs_embeds=shared, use_cache=True, logits_to_keep=1).past_key_values
        lengths = keep.sum(dim=1) - start.length + inputs.answers_keep.sum(dim=1) - 1
        groups = [torch.tensor(group, device=prompt.device) for group in _alike(lengths.tolist())]
        found = []
        for rows in groups:
            mine = None if asked is None else Asked(*(_renumbered(x, _which(x, rows), rows) for x in asked))
            part = self._finish(_part(inputs, start, rows), read, mine)
            wide = F.pad(part.logits, (0, 0, 0, inputs.answers.shape[1] - part.logits.shape[1]))
            found.append(part._replace(logits=wide))
        logits, *told = (torch.cat(parts) for parts in zip(*found, strict=True))
        logits = logits[torch.cat(groups).argsort()]
        if asked is not None:
            order = (torch.cat([_which(x, rows) for rows in groups]).argsort() for x in asked)
            told = [x[rows] for x, rows in zip(told, order, strict=True)]
        return Answered(logits, *told)

    def _finish(self, inputs: LanguageInputs, read: Any, asked: Asked | None) -> Answered:
        """The rest of prompts and answers, padded on the right, after beginnings that have been read."""
        prompt, keep, answers, answers_keep = inputs.prompt, inputs.keep, inputs.answers, inputs.answers_keep
        start = inputs.start
        assert start is not None, "nothing is known to be shared"
        before, own = prompt.shape[1] - keep.sum(dim=1), keep.sum(dim=1) - start.length
        places = torch.arange(answers.shape[1], device=prompt.device)
        longest = int((own + answers_keep.sum(dim=1)).max()) - 1
        rest = _rows(F.pad(prompt, (0, 0, 0, longest)), before + start.length, longest)
        written = self.embed(answers[:, :-1]).to(rest)
        used = answers_keep[:, 1:]  # of what is written, the last token of an answer leads to nothing
        rest = rest.index_put((used.nonzero()[:, 0], (own[:, None] + places[:-1])[used]), written[used])
        real = torch.arange(longest, device=prompt.device) < (own + answers_keep.sum(dim=1) - 1)[:, None]
        with self._among(inputs.lying):
            out = self.network.model(
                inputs_embeds=rest,
                attention_mask=torch.cat([real.new_ones(len(rest), start.length), real], dim=1).long(),
                position_ids=(start.length + torch.arange(longest, device=prompt.device)).expand(len(rest), -1),
                past_key_values=_repeated(read, start.rows),
                use_cache=True,
                output_attentions=asked is not None,
            )
            heads = (None, None) if self._anchors is None else (self._anchors.meant, self._anchors.copied)
        hidden, ends = out.last_hidden_state, (own[:, None] - 1 + places).clamp(max=longest - 1)
        logits = self.network.lm_head(hidden.gather(1, ends[..., None].expand(-1, -1, hidden.shape[-1])))
        none = logits.new_zeros(0, 1)
        if asked is None:
            return Answered(logits, none, none, none)
        rows, words, seen = asked.glances.unbind(dim=1)
        blocks = out.attentions[1 : max(2, 2 * len(out.attentions) // 3)]
        looks = torch.stack([block[rows, :, words, seen].float().mean(dim=1) for block in blocks], dim=1)
        about = zip(heads, (asked.counted, asked.copied), strict=True)
        return Answered(logits, looks, *(none if x is None else x[*which.unbind(dim=1)] for x, which in about))

    def fit(self, corpus: Iterable[str]) -> None:
        """Learn the words. Depends on the texts, not on their order.

        Raises:
            ValueError: there are no texts.
        """
        texts = Counter(text for text in corpus if text.strip())
        if not texts:
            raise ValueError("a vocabulary needs texts to learn from, but all texts are empty")
        self._tokenizer = train_tokenizer(texts, self.vocabulary - len(_MARKS))
        self._encoded.clear()
        if self._anchors is not None and self._anchors.counts is not None:
            self._anchors.counts.begin(self.table[[self.encode(str(number))[-1] for number in range(NUMBERS)]])

    def asset(self) -> str | None:
        """The tokenizer as JSON text, or None before `fit`."""
        return None if self._tokenizer is None else self._tokenizer.to_str()

    def load_asset(self, asset: str) -> None:
        """Take back the tokenizer that `asset` gave.

        Raises:
            ValueError: it has more pieces than there are rows for.
        """
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(asset)
        if tokenizer.get_vocab_size() + len(_MARKS) > self.vocabulary:
            raise ValueError(
                f"the saved tokenizer has {tokenizer.get_vocab_size()} pieces, but the language model was given a "
                f"vocabulary of {self.vocabulary}: use the config it was trained with"
            )
        self._tokenizer = tokenizer
        self._encoded.clear()

    def encode(self, text: str, *, marks: bool = False) -> list[int]:
        """See `LanguageModel`; losses ask for the same prompts several times."""
        return [*recent(self._encoded, _RECENT, (text, marks), lambda: super(OwnLLM, self).encode(text, marks=marks))]

    def _encode_words(self, text: str, marks: bool) -> list[int]:
        if marks and text in _MARKS:
            return [_MARKS.index(text)]
        return [piece + len(_MARKS) for piece in self._words().encode(f" {text.strip()}").ids]

    def _decode_words(self, ids: Sequence[int]) -> str:
        size = self._words().get_vocab_size()
        pieces = [number - len(_MARKS) for number in ids if len(_MARKS) <= number < size + len(_MARKS)]
        return self._words().decode(pieces, skip_special_tokens=False)

    def _words(self) -> Tokenizer:
        if self._tokenizer is None:
            raise ValueError("the language model has no vocabulary yet: `fit` it to texts or load a trained run")
        return self._tokenizer


def _rows(x: Float[Tensor, "B L D"], first: Int[Tensor, " B"], count: int) -> Float[Tensor, "B n D"]:
    """So many embeddings of each row, from its `first` on."""
    places = first[:, None] + torch.arange(count, device=x.device)
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in groups, shortest first, so that little of a group is padding."""
    groups, room = list[list[int]](), 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if not groups or lengths[row] > room:
            groups.append([])
            room = int(_LONGER * lengths[row]) + _MORE
        groups[-1].append(row)
    return groups


def _which(asked: Int[Tensor, "n k"], rows: Int[Tensor, " b"]) -> Int[Tensor, " m"]:
    """Of what is asked about rows, in its first column, that which is about some of them."""
    return torch.isin(asked[:, 0], rows).nonzero()[:, 0]


def _renumbered(asked: Int[Tensor, "n k"], which: Int[Tensor, " m"], rows: Int[Tensor, " b"]) -> Int[Tensor, "m k"]:
    """The same with places among these rows."""
    mine = asked[which]
    return torch.cat([(mine[:, :1] == rows).int().argmax(dim=1, keepdim=True), mine[:, 1:]], dim=1)


def _part(inputs: LanguageInputs, start: SharedStart, rows: Int[Tensor, " b"]) -> LanguageInputs:
    """Some rows of inputs, no longer than they need to be."""
    longest, written = int(inputs.keep[rows].sum(dim=1).max()), int(inputs.answers_keep[rows].sum(dim=1).max())
    return LanguageInputs(
        prompt=inputs.prompt[rows, -longest:],
        keep=inputs.keep[rows, -longest:],
        answers=inputs.answers[rows, :written],
        answers_keep=inputs.answers_keep[rows, :written],
        start=SharedStart(start.length, start.first, start.rows[rows]),
        lying=None if inputs.lying is None else inputs.lying.after(start.length, rows),
    )


def _repeated(read: Any, rows: Int[Tensor, " B"]) -> Any:
    """Keys and values of what was read, once for each row that goes on from it."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for number, layer in enumerate(read.layers):
        cache.update(layer.keys[rows], layer.values[rows], number)
    return cache
