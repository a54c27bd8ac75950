"""Alignment by region: what a place of a picture shows, against phrases, by contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genworld.data.examples import ExampleSource
from genworld.data.room_views import BUILDING, Look, RoomView, cell_labels
from genworld.models.region_encoder import RegionEncoder, RegionEncoderConfig
from genworld.ops.collectives import gather_rows
from genworld.ops.pictures import contact_sheet, mark_places
from genworld.ops.precision import without_autocast
from genworld.ops.random import generator
from genworld.tasks.align import CLIPLoss, CLIPLossConfig
from genworld.tasks.base import ExampleTask, TaskOutput
from genworld.types import Pack
from genworld.world.rooms.furniture import COLOURS, KINDS, MATERIALS, SIZES

_PARTS = ("kind", "colour", "size", "material")
_WORDS: tuple[tuple[str, ...], ...] = (
    (*(look.kind for look in BUILDING), *KINDS),
    ("", *COLOURS),
    ("", *SIZES),
    ("", *MATERIALS),
)
_FIT_VIEWS = 64
_SHOWN, _PLACES, _SIDE, _COLUMNS = 12, 3, 256, 4


@dataclass(frozen=True, kw_only=True)
class AlignRegionsConfig:
    """A region encoder and how it is trained.

    Attributes:
        encoder: its towers.
        loss: what aligns them.
        cells: of one thing in a view, at most so many are compared, drawn anew at every visit.
        share: a cell is of a thing that fills at least this share of it.
        told: how often a phrase tells kind, colour, size and material. A phrase that leaves something out is true of
            more cells, and is counted as true of them.
    """

    kind: Literal["align_regions"] = "align_regions"
    encoder: RegionEncoderConfig = field(default_factory=RegionEncoderConfig)
    loss: CLIPLossConfig = field(default_factory=CLIPLossConfig)
    cells: int = 5
    share: float = 0.5
    told: tuple[float, float, float, float] = (0.85, 0.8, 0.5, 0.4)

    def __post_init__(self) -> None:
        if self.cells < 1 or not 0 <= self.share <= 1 or not all(0 <= each <= 1 for each in self.told):
            raise ValueError(
                f"cells must be at least 1, share and told in [0, 1], got {self.cells}, {self.share}, {self.told}"
            )


class Regions(NamedTuple):
    """Cells that are compared, and a phrase for each.

    Attributes:
        view: which picture of the pack.
        cell: which cell of it, in rows of the grid.
        codes: kind, colour, size and material of what it shows, as numbers.
        told: which of these its phrase tells.
        phrases: in words.
    """

    view: Int[Tensor, " n"]
    cell: Int[Tensor, " n"]
    codes: Int[Tensor, "n 4"]
    told: Bool[Tensor, "n 4"]
    phrases: list[str]


def is_true(
    codes: Int[Tensor, "n 4"], told_codes: Int[Tensor, "N 4"], told: Bool[Tensor, "N 4"]
) -> Bool[Tensor, "n N"]:
    """Whether what phrase j tells is so of thing i."""
    return ((codes[:, None] == told_codes[None]) | ~told[None]).all(dim=-1)


class RegionLoss(CLIPLoss):
    """CLIP's loss where a phrase is true of many cells, and many phrases of a cell.

    The target is the uniform distribution over all that match (see `CLIPLoss`), of phrases for each cell, and of cells
    for each phrase.
    """

    def compare(self, one: Float[Tensor, "n D"], other: Float[Tensor, "N D"], match: Bool[Tensor, "n N"]) -> Tensor:
        """Sum over rows of the divergence from the target, one way."""
        count = match.sum(dim=1)
        log_likely = (self.scale() * one @ other.T).log_softmax(dim=1)
        return -((match * log_likely).sum(dim=1) / count + count.log()).sum()


class AlignRegions(ExampleTask[RoomView]):
    """Trains a `RegionEncoder` on views whose pixels know what they show.

    In training every cell is compared with the phrases of all processes, so that there is no accumulation.
    """

    whole_steps = True

    def __init__(self, config: AlignRegionsConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = RegionEncoder(config.encoder)
        self.loss = RegionLoss(config.loss)

    def units(self, pack: Pack[RoomView]) -> int:
        """Views."""
        return len(pack)

    def networks(self) -> dict[str, nn.Module]:
        """The towers, and the temperature."""
        return {"encoder": self.encoder, "loss": self.loss}

    def forward(self, pack: Pack[RoomView], seed: int, step: int) -> TaskOutput:
        """Sums over views; `accuracy` is how often the best phrase of all is true of a cell."""
        grids = self.encoder.embed_cells(torch.stack([view.pixels for view in pack]))
        regions = self.choose(pack, grids.shape[1], grids.shape[2], seed)
        cells = grids.flatten(1, 2)[regions.view, regions.cell]
        phrases = self.encoder.embed_texts(regions.phrases)
        with without_autocast(cells):
            rows = torch.cat([cells, phrases], dim=1)
            facts = torch.cat([regions.codes, regions.told.long()], dim=1).to(rows.device)
            every, known = (gather_rows(rows), gather_rows(facts)) if self.training else (rows, facts)
            all_cells, all_phrases = every.chunk(2, dim=1)
            codes, told = facts[:, :4], facts[:, 4:].bool()
            all_codes, all_told = known[:, :4], known[:, 4:].bool()
            there = is_true(codes, all_codes, all_told)
            back = is_true(all_codes, codes, told).T
            loss = self.loss.compare(cells, all_phrases, there) + self.loss.compare(phrases, all_cells, back)
            right = there.gather(1, (cells @ all_phrases.T).argmax(dim=1)[:, None]).float().mean()
            per_view = len(pack) / max(len(cells), 1)
        logs = {"accuracy": right.detach() * len(pack), "scale": self.loss.scale().detach().sum() * len(pack)}
        return TaskOutput(loss / 2 * per_view, logs)

    def choose(self, pack: Pack[RoomView], rows: int, columns: int, seed: int) -> Regions:
        """Cells of every thing that fills some, and a phrase for each thing; a function of seed and positions."""
        found: list[tuple[int, int, Look, tuple[str, ...]]] = []
        for number, view in enumerate(pack):
            chance = generator(seed, "regions", view.position)
            labels, share = cell_labels(view.labels.cpu(), rows, columns)
            labels = torch.where(share >= self.config.share, labels, -1).flatten()
            for label in labels.unique().tolist():
                draws = torch.rand(len(_PARTS), generator=chance)
                places = (labels == label).nonzero()[:, 0]
                some = places[torch.randperm(len(places), generator=chance)[: self.config.cells]]
                if label >= 0:
                    look = view.looks[label]
                    told = _told(look, draws.tolist(), self.config.told)
                    found += [(number, cell, look, told) for cell in some.tolist()]
        assert found, "not one cell shows one thing"
        views, cells, looks, tellings = zip(*found, strict=True)
        return Regions(
            torch.tensor(views),
            torch.tensor(cells),
            torch.tensor([encode_look(look) for look in looks]),
            torch.tensor([[part in told for part in _PARTS] for told in tellings]),
            [look.phrase(told) for look, told in zip(looks, tellings, strict=True)],
        )

    def prepare(self, source: ExampleSource[RoomView]) -> None:
        """Learns tokens and words from all phrases, and from some views what all have in common."""
        views = [source.read(index, index) for index in range(min(len(source), _FIT_VIEWS))]
        self.encoder.fit(all_phrases(), [torch.stack([view.pixels for view in views])])

    def assets(self) -> dict[str, str]:
        """Tokens and words that were learned from phrases."""
        return self.encoder.assets()

    def load_assets(self, assets: Mapping[str, str]) -> None:
        """Take them back."""
        self.encoder.load_assets(assets)

    def preview(self, packs: Sequence[Pack[RoomView]], folder: Path, seed: int) -> list[Path]:
        """Held-out views with a few places in each: the colour and kind that fit best, and those that are true."""
        views = [view for pack in packs for view in pack][:_SHOWN]
        grids = self.encoder.embed_cells(torch.stack([view.pixels for view in views]))
        rows, columns = grids.shape[1:3]
        regions = self.choose(Pack(tuple(views)), rows, columns, seed)
        names = colour_phrases()
        likeness = grids.flatten(1, 2)[regions.view, regions.cell] @ self.encoder.embed_texts(names).T
        found = [names[i] for i in likeness.argmax(dim=1).tolist()]
        looks = [decode_look(codes) for codes in regions.codes.tolist()]
        pictures, labels = [], []
        for number, view in enumerate(views):
            # One place of each thing; the building, which is everywhere, last.
            first = {looks[i]: i for i in reversed(range(len(looks))) if int(regions.view[i]) == number}
            places = sorted(first.values(), key=lambda i: looks[i] in BUILDING)[:_PLACES]
            said = [(found[i], looks[i].phrase(("colour", "kind"))) for i in places]
            cells = [divmod(int(regions.cell[i]), columns) for i in places]
            boxes = [(x / columns, y / rows, (x + 1) / columns, (y + 1) / rows) for y, x in cells]
            colours = ["lime" if one == other else "red" for one, other in said]
            pictures.append(mark_places(view.pixels, boxes, colours, _SIDE))
            labels.append(", ".join(f"{i} {_compared(*pair)}" for i, pair in enumerate(said, 1)))
        path = folder / "places.png"
        contact_sheet(pictures, labels, _COLUMNS, height=_SIDE).save(path)
        return [path]


def all_phrases() -> list[str]:
    """Everything that can be said of a look."""
    things = [Look(*parts) for parts in product(KINDS, COLOURS, SIZES, MATERIALS)]
    tellings = [[part for part, tell in zip(_PARTS, mask, strict=True) if tell] for mask in product((0, 1), repeat=4)]
    told = {look.phrase(telling) for look in things for telling in tellings}
    return sorted({*told, *(look.kind for look in BUILDING)})


def encode_look(look: Look) -> list[int]:
    """Kind, colour, size and material as numbers."""
    return [words.index(part) for words, part in zip(_WORDS, look, strict=True)]


def decode_look(codes: Sequence[int]) -> Look:
    """What `encode_look` encoded."""
    return Look(*(words[code] for words, code in zip(_WORDS, codes, strict=True)))


def colour_phrases() -> list[str]:
    """Colour and kind of every thing, and the parts of the building."""
    return [*(look.kind for look in BUILDING), *(f"{colour} {kind}" for kind, colour in product(KINDS, COLOURS))]


def _compared(found: str, truth: str) -> str:
    return found if found == truth else f"{found} (is {truth})"


def _told(look: Look, draws: Sequence[float], often: Sequence[float]) -> tuple[str, ...]:
    """What a phrase tells; of a thing its kind or its colour at least, of the building its kind."""
    if look in BUILDING:
        return ("kind",)
    told = tuple(part for part, draw, chance in zip(_PARTS, draws, often, strict=True) if draw < chance)
    return told if {"kind", "colour"} & set(told) else ("kind", *told)
