"""How well a run of the world does every task that shows it a part of a held-out clip, against honest baselines.

Clips show one object, so that its place can be tracked and its colour read. All numbers are kept clip by clip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from genworld.data.loader import WorldData
from genworld.eval.continuation import (
    PositionError,
    cross_fade,
    made_psnr,
    paired_difference,
    pixel_centres,
    position_error,
    repeat_nearest,
    seam_step,
)
from genworld.eval.palette import track_object
from genworld.flow.guidance import GuidanceConfig
from genworld.flow.samplers import SamplerConfig
from genworld.pipelines.video import VideoGenerator
from genworld.pipelines.world_cases import Case, camera_cases, still_cases
from genworld.tasks.given import Given
from genworld.tasks.text_to_video import Request

FRAME_TASKS = ("image to video", "extension forward", "extension backward", "connection", "first and last frame")
TASKS = (*FRAME_TASKS, "inpainting", "camera")
OURS, REPEAT, FADE, CEILING = "ours", "repeat nearest", "cross-fade", "VAE of real"
UNITS = {"psnr": "dB", "position_error": "px"}
BATCH = 8
MARGIN = 3
"""Pixels that a hidden box leaves around its object."""

# ---- results ----


@dataclass(frozen=True)
class TaskResult:
    """How one task went.

    Attributes:
        name: of the task.
        captions: of the clips.
        columns: videos by label, as a contact sheet shows them.
        record: the numbers, ready to be written as JSON.
    """

    name: str
    captions: list[str]
    columns: dict[str, list[Float[Tensor, "3 F H W"]]]
    record: dict[str, Any]


@dataclass(frozen=True)
class TaskJudge:
    """Makes videos with a run and measures them.

    Attributes:
        generator: the run.
        settings: sampler and guidance.
        seed: of each task's first video; the next ones have the next seeds.
        tell_camera: tell a model that takes a camera path where the camera is, in every task (it stands still in all
            but one, which the baselines take for granted).
    """

    generator: VideoGenerator
    settings: tuple[SamplerConfig, GuidanceConfig]
    seed: int = 0
    tell_camera: bool = True

    def frames(self, name: str, cases: Sequence[Case]) -> TaskResult:
        """Some frames at the ends are given, the others are made from them and the caption.

        Where an object should be is where the tracker sees it in the real clip.
        """
        ends = given_ends(name, len(cases[0].mask), self.generator.task.grid.time_stride)
        given = end_frames(ends, len(cases[0].mask))
        real = [case.pixels for case in cases]
        made = self._make(cases, [ends_of(pixels, ends) for pixels in real], name)
        videos = {OURS: made, **baselines(real, given), CEILING: self.reconstruct(real)}
        truths = [pixel_centres(track_object(pixels)) for pixels in real]
        methods = {label: measure(cases, each, given, truths, label == OURS) for label, each in videos.items()}
        groups = {"moving": [case.moves for case in cases], "still": [not case.moves for case in cases]}
        record = {
            "given_frames": torch.nonzero(given).flatten().tolist(),
            "ruler_error": _mean([ruler_error(case.path, truth) for case, truth in zip(cases, truths, strict=True)]),
            "methods": {label: each.record for label, each in methods.items()},
            "against": compare(methods, (REPEAT, FADE), groups),
            "seam": seams(made, real, [given.view(-1, 1, 1).expand(pixels.shape[1:]) for pixels in real]),
        }
        shown = [torch.where(given.view(1, -1, 1, 1), pixels, 0.0) for pixels in real]
        columns = {"given": shown, "real": real, **{label: videos[label] for label in (OURS, REPEAT, FADE)}}
        return TaskResult(name, [case.text for case in cases], columns, record)

    def inpainting(self, cases: Sequence[Case]) -> TaskResult:
        """A box hides the object in every frame; is what is made in it of the colour that the caption says?

        The control asks for another colour in the same place: it tells a model that reads the prompt from one that
        knows the colour from elsewhere.
        """
        hidden = [boxes(case.mask) for case in cases]
        real = [case.pixels for case in cases]
        given = [(Given(case.pixels, known=~box),) for case, box in zip(cases, hidden, strict=True)]
        made = self._make(cases, given, "inpainting")
        others = [replace(case, text=case.other_text) for case in cases]
        other = self._make(others, given, "inpainting, another colour")
        colours, other_colours = [case.colour for case in cases], [case.other_colour for case in cases]
        again = self.reconstruct(real)
        record = {
            "restored": shows(made, hidden, colours),
            "other_colour_asked_and_shown": shows(other, hidden, other_colours),
            "ceiling": shows(again, hidden, colours),
            "seam": seams(made, real, [~box for box in hidden]),
        }
        shown = [torch.where(box, 0.0, pixels) for pixels, box in zip(real, hidden, strict=True)]
        columns = {"given": shown, "real": real, OURS: made, "another colour asked": other}
        captions = [f"{case.text} ({case.other_colour})" for case in cases]
        return TaskResult("inpainting", captions, columns, record)

    def camera(self, cases: Sequence[Case]) -> TaskResult:
        """The first frame and the camera's path are given; is the object seen where geometry says?

        Where it should be is its exact reprojection, shifted by how far from it the tracker sees it in the given frame
        (a cone's centre is not the middle of its picture). `real` shows what is left of the tracker's own error.

        Raises:
            ValueError: the model takes no camera path.
        """
        if not takes_camera(self.generator):
            raise ValueError("the model takes no camera path: train one with task.dit.camera=true")
        given = end_frames((1, 0), len(cases[0].mask))
        real = [case.pixels for case in cases]
        first = [ends_of(pixels, (1, 0)) for pixels in real]
        videos = {
            OURS: self._make(cases, first, "camera", tell=True),
            "no camera": self._make(cases, first, "no camera", tell=False),
            **baselines(real, given),
            "real": real,
        }
        del videos[FADE]  # with frames on one side, the same as REPEAT
        seen = [pixel_centres(track_object(pixels))[0] for pixels in real]
        truths = [case.path + (start - case.path[0]) for case, start in zip(cases, seen, strict=True)]
        methods = {
            label: measure(cases, each, given, truths, label in (OURS, "real")) for label, each in videos.items()
        }
        record = {
            "methods": {label: each.record for label, each in methods.items()},
            "against": compare(methods, (REPEAT, "no camera"), {"moving camera": [True] * len(cases)}),
        }
        shown = [torch.where(given.view(1, -1, 1, 1), pixels, 0.0) for pixels in real]
        columns = {"given": shown, "real": real, **{label: videos[label] for label in (OURS, "no camera", REPEAT)}}
        return TaskResult("camera", [case.text for case in cases], columns, record)

    @torch.no_grad()
    def reconstruct(self, videos: Sequence[Float[Tensor, "3 F H W"]]) -> list[Float[Tensor, "3 F H W"]]:
        """Videos through the run's VAE: as good as anything it makes can be."""
        vae = self.generator.task.vae
        parts = (torch.stack(list(videos[i : i + BATCH])) for i in range(0, len(videos), BATCH))
        again = (vae.to_pixels(vae.to_latents(part.to(vae.latent_mean.device))) for part in parts)
        return [pixels.cpu() for part in again for pixels in part]

    def _make(
        self, cases: Sequence[Case], given: Sequence[tuple[Given, ...]], what: str, tell: bool | None = None
    ) -> list[Float[Tensor, "3 F H W"]]:
        """A video of each case from its caption and what is given of it."""
        tell = takes_camera(self.generator) and (self.tell_camera if tell is None else tell)
        shape = self.generator.trained
        requests = [
            Request(case.text, shape, self.seed + i, given=part, camera=case.camera if tell else None)
            for i, (case, part) in enumerate(zip(cases, given, strict=True))
        ]
        made: list[Tensor] = []
        for i in tqdm(range(0, len(requests), BATCH), desc=what, unit="batch"):
            made += [clip.pixels for clip in self.generator.sample(requests[i : i + BATCH], self.settings)]
        return made


def evaluate_tasks(judge: TaskJudge, data: WorldData, num: int, names: Sequence[str] = ()) -> list[TaskResult]:
    """Judge tasks on held-out clips of the world, at the shape that the run samples by default.

    Args:
        judge: the run.
        data: the world that it was trained on.
        num: clips for each task.
        names: which of `TASKS`; all that the model can do, by default.

    Raises:
        ValueError: an unknown task, no clips, or a task that the model or the data's config has not got.
    """
    if unknown := sorted(set(names) - set(TASKS)):
        raise ValueError(f"unknown tasks {unknown}: choose from {', '.join(TASKS)}")
    if num < 1:
        raise ValueError(f"expected at least 1 clip to judge, got {num}")
    shape = judge.generator.trained
    chosen = list(names) or [name for name in TASKS if name != "camera" or takes_camera(judge.generator)]
    moved = camera_cases(data, shape, num) if "camera" in chosen else []
    cases = still_cases(data, shape, num) if set(chosen) != {"camera"} else []
    results = [judge.frames(name, cases) for name in FRAME_TASKS if name in chosen]
    if "inpainting" in chosen:
        results.append(judge.inpainting(cases))
    return results + ([judge.camera(moved)] if "camera" in chosen else [])


def takes_camera(generator: VideoGenerator) -> bool:
    """Whether the model of a run takes a camera path."""
    return generator.task.config.dit.camera


# ---- what is given ----


def given_ends(name: str, num_frames: int, stride: int) -> tuple[int, int]:
    """How many frames a task of `FRAME_TASKS` gives at the start and at the end: 1, or about a quarter."""
    part = 1 + stride * ((num_frames - 1) // stride // 4)
    ends = {
        "image to video": (1, 0),
        "extension forward": (part, 0),
        "extension backward": (0, part),
        "connection": (part, part),
        "first and last frame": (1, 1),
    }
    return ends[name]


def end_frames(ends: tuple[int, int], num_frames: int) -> Bool[Tensor, " F"]:
    """Which frames are given."""
    frames = torch.arange(num_frames)
    return (frames < ends[0]) | (frames >= num_frames - ends[1])


def ends_of(pixels: Float[Tensor, "3 F H W"], ends: tuple[int, int]) -> tuple[Given, ...]:
    """The given frames of a clip."""
    head, last = ends[0], pixels.shape[1] - ends[1]
    parts = [Given(pixels[:, :head])] if ends[0] else []
    return (*parts, Given(pixels[:, last:], first=last)) if ends[1] else tuple(parts)


def boxes(mask: Bool[Tensor, "F H W"], margin: int = MARGIN) -> Bool[Tensor, "F H W"]:
    """In each frame the box around a mask, a margin wider; nothing where the mask is empty."""

    def spans(line: Bool[Tensor, "F n"]) -> Bool[Tensor, "F n"]:
        wide = torch.nn.functional.max_pool1d(line[:, None].float(), 2 * margin + 1, 1, margin)[:, 0]
        return (wide.cummax(1).values * wide.flip(1).cummax(1).values.flip(1)).bool()

    return spans(mask.any(2))[:, :, None] & spans(mask.any(1))[:, None, :]


# ---- measures ----


def baselines(
    real: Sequence[Float[Tensor, "3 F H W"]], given: Bool[Tensor, " F"]
) -> dict[str, list[Float[Tensor, "3 F H W"]]]:
    """What needs no model."""
    return {
        REPEAT: [repeat_nearest(pixels, given) for pixels in real],
        FADE: [cross_fade(pixels, given) for pixels in real],
    }


@dataclass(frozen=True)
class Measured:
    """One method's videos, clip by clip."""

    psnr: list[float]
    position: list[PositionError]

    @property
    def record(self) -> dict[str, Any]:
        """As JSON takes it; a clip without a judged frame has no position error."""
        return {
            "psnr": self.psnr,
            "position_error": [None if math.isnan(each.pixels) else each.pixels for each in self.position],
            "frames_judged": sum(each.num_judged for each in self.position),
            "frames_without_object": sum(each.num_missing for each in self.position),
        }


def measure(
    cases: Sequence[Case],
    videos: Sequence[Float[Tensor, "3 F H W"]],
    given: Bool[Tensor, " F"],
    truths: Sequence[Float[np.ndarray, "F 2"]],
    strict: bool,
) -> Measured:
    """PSNR and position error over the frames that were not given.

    `strict` is for models: an object that is not found, or has another colour, is as wrong as can be. Else it is where
    the frames around have it, so that no baseline is made to look worse than it is; see `position_error`.
    """
    made = ~given.numpy()
    errors = [
        position_error(track_object(video), truth, made, case.colour, "worst" if strict else "interpolate")
        for case, video, truth in zip(cases, videos, truths, strict=True)
    ]
    return Measured([made_psnr(case.pixels, v, given) for case, v in zip(cases, videos, strict=True)], errors)


def compare(
    methods: Mapping[str, Measured], references: Sequence[str], groups: Mapping[str, Sequence[bool]]
) -> list[dict[str, Any]]:
    """Ours against each reference on each group of clips: mean differences, positive where ours is better."""
    ours, rows = methods[OURS], []
    for group, members in groups.items():
        for reference in references:
            other = methods[reference]
            chosen = [i for i, member in enumerate(members) if member]
            rows.append(_row(group, "psnr", reference, [(ours.psnr[i], other.psnr[i]) for i in chosen]))
            errors = [(ours.position[i].pixels, other.position[i].pixels) for i in chosen]
            rows.append(_row(group, "position_error", reference, [pair for pair in errors if np.isfinite(pair).all()]))
    return [row for row in rows if row["num"]]


def _row(group: str, name: str, reference: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"group": group, "measure": name, "reference": reference, "num": len(pairs)}
    if not pairs:
        return row
    ours, other = zip(*pairs, strict=True)
    found = paired_difference(ours, other) if name == "psnr" else paired_difference(other, ours)
    means = {"ours_mean": _mean(ours), "reference_mean": _mean(other)}
    return row | means | asdict(found) | {"beats": found.beats, "excludes_zero": found.excludes_zero}


def shows(
    videos: Sequence[Float[Tensor, "3 F H W"]], boxes: Sequence[Bool[Tensor, "F H W"]], colours: Sequence[str]
) -> dict[str, Any]:
    """Whether the object inside a box has a colour: the part of the clips, and clip by clip."""
    found = [
        track_object(torch.where(box, video, 0.0)).colour == colour
        for video, box, colour in zip(videos, boxes, colours, strict=True)
    ]
    return {"part": _mean(found), "num": len(found), "clips": found}


def seams(
    made: Sequence[Float[Tensor, "3 F H W"]],
    real: Sequence[Float[Tensor, "3 F H W"]],
    known: Sequence[Bool[Tensor, "F H W"]],
) -> dict[str, Any]:
    """Steps from what was given to what was made, beside the same steps of the real clips; see `seam_step`."""
    steps = {
        label: [seam_step(video, part) for video, part in zip(videos, known, strict=True)]
        for label, videos in (("made", made), ("real", real))
    }
    means = {f"{label}_mean": _mean(each) for label, each in steps.items()}
    return {**means, "ratio": means["made_mean"] / max(means["real_mean"], 1e-6), **steps}


def ruler_error(path: Float[np.ndarray, "F 2"], seen: Float[np.ndarray, "F 2"]) -> float:
    """Mean distance in pixels between an object's exact path and where the tracker sees it."""
    return float(np.nanmean(np.linalg.norm(path - seen, axis=1)))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def lines(record: dict[str, Any]) -> list[str]:
    """The numbers of a task for people."""
    found = []
    if "seam" in record:
        seam = record["seam"]
        found.append(
            f"  steps from given to made {seam['made_mean']:.4f}, of the real clips {seam['real_mean']:.4f}: "
            f"times {seam['ratio']:.2f}"
        )
    if "restored" in record:
        parts = {name.replace("_", " "): each["part"] for name, each in record.items() if "part" in each}
        return found + [f"  {name:<28} {part:.2f} of {record['restored']['num']} clips" for name, part in parts.items()]
    for row in record["against"]:
        verdict = "better" if row["beats"] else "worse"
        verdict += "" if row["excludes_zero"] else ", but the interval holds 0"
        found.append(
            f"  {row['group']:<14} {row['measure']:<15} {row['ours_mean']:6.2f} against {row['reference_mean']:6.2f} "
            f"{UNITS[row['measure']]} of {row['reference']:<15} {row['mean']:+7.2f} [{row['low']:+.2f}, "
            f"{row['high']:+.2f}] of {row['num']}: {verdict}"
        )
    for name, each in record["methods"].items():
        if missing := each["frames_without_object"]:
            found.append(f"  {name}: no object of its colour in {missing} of {each['frames_judged']} frames")
    return found
