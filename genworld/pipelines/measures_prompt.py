"""Whether the videos of the world show what their prompts ask for, as a measure beside the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from genworld.eval.palette import read_prompt
from genworld.eval.reconstruction import PerVideo
from genworld.eval.shape_recogniser import ShapeRecogniser
from genworld.pipelines.entries import Batch, Entry, Measure, column_mean, known, mean_entry
from genworld.pipelines.judge import Verdict, judge


class Verdicts(PerVideo):
    """Verdicts of each video as numbers; a video may lack some."""

    def update(self, values: Mapping[str, Tensor], positions: Sequence[int]) -> None:
        """Add columns, in which NaN is what a video lacks."""
        for i, position in enumerate(positions):
            row = {name: column[i : i + 1] for name, column in values.items() if not column[i].isnan()}
            self.keep(row, [position])


class PromptMeasure(Measure):
    """Whether the object of a video has the colour, shape and motion that its prompt asks for.

    For prompts about one object under a standing camera; the others are counted. Shapes are
    judged if there is a recogniser.
    """

    needs = frozenset({"made", "again"})
    ASPECTS = ("colour", "shape", "motion", "all")

    def __init__(self, shapes: ShapeRecogniser | None) -> None:
        self.shapes = shapes
        columns = [f"{kind}{aspect}" for kind in ("", "ceiling_", "floor_") for aspect in self.ASPECTS]
        self.verdicts = Verdicts([*columns, "unread", "moving"])

    def metrics(self) -> Iterable[nn.Module]:
        """The verdicts; judged is on the CPU."""
        return [self.verdicts]

    def update(self, batch: Batch) -> None:
        """See `Measure`."""
        if batch.made is None:
            return
        still = batch.still or [True] * len(batch.texts)
        values = {
            "unread": torch.tensor([float(not is_readable(text)) for text in batch.texts]),
            "moving": torch.tensor([float(not each) for each in still]),
        }
        self._judge(values, "", batch.texts, batch.made)
        if batch.again is not None:
            self._judge(values, "ceiling_", batch.texts, batch.again)
        if batch.others is not None:
            self._judge(values, "floor_", batch.others, batch.made)
        for name, column in values.items():
            if name not in ("unread", "moving"):
                column[~torch.tensor(still)] = torch.nan
        self.verdicts.update(values, batch.positions)

    def _judge(self, values: dict[str, Tensor], kind: str, texts: Sequence[str], videos: Tensor) -> None:
        chosen = [i for i, text in enumerate(texts) if is_readable(text)]
        columns = {aspect: torch.full((len(texts),), torch.nan, dtype=torch.float64) for aspect in self.ASPECTS}
        if chosen:
            verdicts = judge([texts[i] for i in chosen], [videos[i].cpu() for i in chosen], self.shapes)
            for i, verdict in zip(chosen, verdicts, strict=True):
                for aspect in self.ASPECTS:
                    columns[aspect][i] = _number(verdict, aspect)
        values.update({f"{kind}{aspect}": column for aspect, column in columns.items()})

    def tables(self) -> dict[str, dict[str, Tensor]]:
        """See `Measure`."""
        table = self.verdicts.per_video()
        return {"prompt": {name: column for name, column in table.items() if name in ("position", *self.ASPECTS)}}

    def entries(self) -> dict[str, Entry]:
        """The part of the videos that is right, by aspect."""
        table, result = self.verdicts.per_video(), {}
        unread, moving = (int(table[name].nansum()) for name in ("unread", "moving"))
        warnings = []
        if unread:
            warnings.append(f"{unread} prompts are not about one object, or not in the judge's words: not judged")
        if moving:
            warnings.append(f"{moving} clips have a camera that moves, this judge needs one that stands: not judged")
        self.notes = tuple(warnings)
        for aspect in self.ASPECTS:
            if aspect in table:
                words = (
                    f"part of the videos whose object has the {aspect} of the prompt, by palette, track and recogniser"
                )
                if aspect == "all":
                    words = "part of the videos in which all that was judged is as the prompt says"
                bounds = known(
                    {
                        "floor: another video's prompt": column_mean(table, f"floor_{aspect}"),
                        "ceiling: reconstructions": column_mean(table, f"ceiling_{aspect}"),
                    }
                )
                result[f"prompt/{aspect}"] = mean_entry(
                    table, aspect, convention=words, name="prompt", beside=bounds, warnings=warnings
                )
        return result


def is_readable(prompt: str) -> bool:
    """Whether the judge can read a prompt."""
    try:
        read_prompt(prompt)
    except ValueError:
        return False
    return True


def _number(verdict: Verdict, aspect: str) -> float:
    value = getattr(verdict, aspect)
    return float("nan") if value is None else float(value)
