"""A run, or a folder of videos, measured: streamed batch by batch, at a memory that does not depend on their number.

Videos are shared between the processes by position, and every result is the same for any batch size, order and number
of processes, up to rounding.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from genworld.config import encode
from genworld.data.loader import DataConfig, ShardData, WorldData, build_source, clip_infos
from genworld.data.packing import validation_picks
from genworld.data.reading import BadClips, CountingSource, readable
from genworld.data.shapes import ShapeConfig
from genworld.eval.flow_loss import FlowLoss
from genworld.experiment import CONFIG_FILE, Experiment
from genworld.flow.bins import bin_times
from genworld.pipelines.catalogue import Builder, Options, choose, device_of
from genworld.pipelines.entries import Batch, Entry
from genworld.pipelines.measures import FlowMeasure
from genworld.pipelines.runs import open_run
from genworld.pipelines.tally import Tally, as_stored, autocast, clips_record, gather, need_videos
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.autoencode import Autoencode
from genworld.tasks.text_to_video import Request, TextToVideo
from genworld.train.checkpoint import MANIFEST, latest_checkpoint
from genworld.train.runtime import World, find_world, resolve_precision
from genworld.types import ClipShape, Pick, Sample

logger = logging.getLogger(__name__)

NUM = 100
"""Videos of a run, unless told otherwise."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to.

    Attributes:
        record: everything but pictures, ready for JSON.
        videos: of the contact sheet, by column, in 8 bits.
        texts: under which they stand.
        benchmark: captions and columns of the world benchmark's sheet.
        is_main: whether this process is the one that writes.
    """

    record: dict[str, Any]
    videos: list[dict[str, Tensor]]
    texts: list[str]
    benchmark: dict[str, Any] | None = None
    is_main: bool = True


def evaluate_run(run: Path, data: DataConfig, options: Options) -> Evaluation:
    """Measure a run by held-out clips.

    Args:
        run: of either kind.
        data: where its held-out clips come from.
        options: what to measure.

    Raises:
        ValueError: something that is asked for cannot be computed; the message says what to change.
    """
    if isinstance(data, ShardData):
        raise ValueError(f"{run} was trained on precomputed latents: name the experiment with the clips by --config")
    world = find_world()
    need = "this judges videos and autoencoders"
    experiment, task = open_run(run, (TextToVideo, Autoencode), need, world.device)
    subject = RunSubject(experiment, task, data, options, world)
    return subject.evaluate(run)


class RunSubject:
    """A run that is being evaluated."""

    def __init__(
        self, experiment: Experiment, task: TextToVideo | Autoencode, data: DataConfig, options: Options, world: World
    ) -> None:
        self.task, self.data, self.options, self.world = task, data, options, world
        self.generator = VideoGenerator(experiment, task) if isinstance(task, TextToVideo) else None
        self.source = build_source(data, "validation")
        self.num = min(options.num or NUM, len(self.source))
        if options.num and self.num < options.num and world.rank == 0:
            logger.warning("only %d clips are held out: evaluating those", self.num)
        self.shape = self._shape()
        self.precision = resolve_precision(experiment.train.precision, world.device)
        on_world = isinstance(data, WorldData)
        self.names = choose(options, experiment.task.kind, on_world)
        builder = Builder(options, self.shape, self.num, on_world, task.vae.latent_channels)
        self.measures, self.left_out = builder.build(self.names)
        device_of(self.measures, world.device)

    def evaluate(self, run: Path) -> Evaluation:
        """All of it."""
        tally = Tally(self.world, list(self.measures))
        if self.measures:
            self._walk(tally)
        if "flow_loss" in self.names:
            tally.measures = [*tally.measures, self._flow(tally)]
        entries, tables = tally.results()
        benchmark = None
        if "world_benchmark" in self.names:
            with tally.clock("world benchmark"):
                benchmark = self._benchmark()
            entries |= benchmark_entries(benchmark)
            tables |= benchmark_tables(benchmark)
        everyone = tally.everyone()
        settings: dict[str, Any] = {"precision": self.precision}
        if self.generator is not None:
            sampler, guidance = self.generator.settings(self.options.steps, self.options.guidance)
            settings |= {"sampler": encode(sampler), "guidance": encode(guidance)}
        record = {
            "subject": {**run_record(run), "task": "text_to_video" if self.generator else "autoencode"},
            "clips": {"kind": "held out", "shape": str(self.shape), **clips_record(everyone.seen.get("real", []))},
            "seeds": {"first": self.options.seed, "rule": "the video of clip i is sampled with seed first + i"},
            "settings": settings,
            **shared_record(everyone, entries, tables, self.left_out),
        }
        if benchmark is not None:
            record["benchmark"] = {key: value for key, value in benchmark.items() if key != "sheet"}
        sheet = None if benchmark is None else benchmark.get("sheet")
        videos, texts = [dict(each.columns) for each in everyone.shown], [each.text for each in everyone.shown]
        return Evaluation(record, videos, texts, sheet, self.world.rank == 0)

    def _shape(self) -> ClipShape:
        """The shape of the clips: what is asked for, else what the run samples or was most trained on."""
        options = self.options
        if self.generator is not None:
            return self.generator.shape(options.frames, options.size, options.fps)
        largest = max(self.data.packing.shapes, key=lambda shape: shape.frames * shape.area)
        chosen = next(self._picks(largest, 1), None)
        assert chosen is not None, "validation_picks refuses shapes that no clip fits"
        frames, height, width, fps = chosen.shape
        height, width = options.size or (height, width)
        return ClipShape(options.frames or frames, height, width, options.fps or fps)

    def _picks(self, shape: ShapeConfig, num: int) -> Iterator[Pick]:
        """Different held-out clips at a shape, from their beginnings."""
        packing = replace(self.data.packing, shapes=[shape])
        seen: set[int] = set()
        for pack in validation_picks(clip_infos(self.source), self.task.grid, packing, num, 0):
            for pick in pack:
                if pick.index not in seen and len(seen) < num:
                    seen.add(pick.index)
                    yield replace(pick, position=pick.index, start=0.0)

    def _counting(self) -> CountingSource:
        return CountingSource(self.source, BadClips(self.source, max_fraction=1.0))

    def _walk(self, tally: Tally) -> None:
        counting, batch = self._counting(), self.options.batch
        needs = frozenset().union(*(measure.needs for measure in self.measures))
        picks = [Pick(i, i, self.shape, 0.0) for i in range(self.num)]
        mine = tally.mine(picks)
        for first in tqdm(range(0, len(mine), batch), desc="evaluating", unit="batch", disable=self.world.rank > 0):
            with tally.clock("reading"):
                samples = list(readable(counting, mine[first : first + batch]))
            if samples:
                made = self._batch(samples, needs, tally)
                tally.add(made, [self.source.info(i).name for i in made.positions], "real")
        tally.skipped |= {self.source.info(i).name: reason for i, reason in counting.bad.found.items()}
        counted = sum(gather(len(tally.seen.get("real", []))))
        need_videos(counted, f"the {self.num} held-out clips", tally.skipped)

    @torch.no_grad()
    def _batch(self, samples: Sequence[Sample], needs: frozenset[str], tally: Tally) -> Batch:
        """The clips, what is made from their captions, and their reconstructions, as far as they are needed."""
        vae, positions = self.task.vae, [item.position for item in samples]
        real = torch.stack([item.need_pixels() for item in samples]).to(self.world.device)
        still = [_stands(item) for item in samples]
        batch = Batch(positions, [item.text for item in samples], self.shape.fps, real=real, still=still)
        if needs & {"again", "posterior"}:
            with tally.clock("autoencoder"):
                posterior = vae.encode(real)
                batch = replace(batch, posterior=posterior, again=vae.to_pixels(vae.normalize(posterior.mean)))
        if "made" in needs and self.generator is not None:
            requests = [Request(item.text, self.shape, self.options.seed + item.position) for item in samples]
            with tally.clock("sampling"):
                clips = self.generator.sample(
                    requests, self.generator.settings(self.options.steps, self.options.guidance)
                )
            made = torch.stack([as_stored(clip.pixels) for clip in clips]).to(self.world.device)
            batch = replace(batch, made=made)
        if self.num > 1:
            others = [self.source.info((position + self.num // 2) % self.num).text for position in positions]
            batch = replace(batch, others=others)
        return batch

    def _flow(self, tally: Tally) -> FlowMeasure:
        """The held-out flow loss at every shape of training, `num` clips of each."""
        assert isinstance(self.task, TextToVideo)
        size = (self.shape.height, self.shape.width)
        own = ShapeConfig(size=size, frames=self.shape.num_frames, fps=self.shape.fps)
        shapes = self.data.packing.shapes or (own,)
        counting = self._counting()
        picks = [
            replace(pick, position=i * len(self.source) + pick.index)
            for i, shape in enumerate(shapes)
            for pick in sorted(self._picks(shape, self.num), key=lambda pick: pick.index)
        ]
        weights = self.task.vae.latent_weight.detach().cpu()
        measure = FlowMeasure(FlowLoss([pick.shape for pick in picks], weights), self.precision)
        device_of([measure], self.world.device)
        groups = _batches(tally.mine(picks), self.options.batch)
        with tally.clock("flow loss"):
            for group in tqdm(groups, desc="flow loss", unit="batch", disable=self.world.rank > 0):
                samples = list(readable(counting, group))
                if samples:
                    measure.metric.update(*self._flow_losses(samples), group[0].shape, [s.position for s in samples])
        tally.skipped |= {self.source.info(i).name: reason for i, reason in counting.bad.found.items()}
        return measure

    def _flow_losses(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        assert isinstance(self.task, TextToVideo)
        device, seed = self.world.device, self.options.seed
        moved = [sample.map(lambda x: x.to(device)) for sample in samples]
        with torch.no_grad(), autocast(device, self.precision):
            losses = self.task.flow_losses(moved, seed)
        return losses, torch.stack([bin_times(seed, sample.position) for sample in samples])

    def _benchmark(self) -> dict[str, Any]:
        from genworld.pipelines.benchmark import run_benchmark

        assert self.generator is not None
        options = self.options
        settings = self.generator.settings(options.steps, options.guidance)
        return run_benchmark(
            self.generator,
            options.suite,  # type: ignore[arg-type]
            options.num or NUM,
            options.seed,
            settings,
            options.batch,
            self.world,
        )


def _stands(sample: Sample) -> bool:
    """Whether nothing is known of a camera that moves."""
    return sample.camera is None or bool(
        torch.allclose(sample.camera.world_from_camera, sample.camera.world_from_camera[:1], atol=1e-5)
    )


def benchmark_entries(result: dict[str, Any]) -> dict[str, Entry]:
    """The scores of the world benchmark beside the other numbers."""
    from genworld.eval.bootstrap import Interval
    from genworld.pipelines.benchmark import UNPROMPTED

    entries = {}
    for name, each in result["abilities"].items():
        bounds = {"ceiling: real renders": each["ceiling"], "floor: shuffled prompts": each["floor"]}
        if "ceiling_vae" in each:
            bounds["ceiling: reconstructions"] = each["ceiling_vae"]
        if name in UNPROMPTED:
            del bounds["floor: shuffled prompts"]
        entries[f"world[{result['suite']}]/{name}"] = Entry(
            each["score"],
            each["num"],
            f"world benchmark, score in [0, 1]; suite {result['suite']} {result['suite_sha256'][:12]}, cases "
            f"{result['cases_sha256'][:12]} of {result['shape']}, asked by {', '.join(result['asks'])}",
            "higher",
            interval=Interval(each["low"], each["high"], each["interval"]),
            beside=bounds,
            column=f"world[{result['suite']}]/{name}",
            details={"criteria": each["criteria"]},
        )
    return entries


def benchmark_tables(result: dict[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The score of each video in each ability."""
    columns = {name: [each["scores"].get(name) for each in result["videos"]] for name in result["abilities"]}
    return {f"world[{result['suite']}]": {"position": list(range(len(result["videos"]))), **columns}}


def run_record(run: Path) -> dict[str, Any]:
    """Which run this is: its config and weights by hash."""
    checkpoint = latest_checkpoint(run)
    return {
        "run": str(run),
        "checkpoint": checkpoint.name,
        "config_sha256": hashlib.sha256((run / CONFIG_FILE).read_bytes()).hexdigest(),
        "checkpoint_sha256": hashlib.sha256((checkpoint / MANIFEST).read_bytes()).hexdigest(),
    }


def shared_record(
    tally: Tally, entries: dict[str, Entry], tables: dict[str, Any], left_out: dict[str, str]
) -> dict[str, Any]:
    """What the results of runs and of folders have in common."""
    told = [*(warning for entry in entries.values() for warning in entry.warnings)]
    warnings = list(dict.fromkeys([*told, *(note for measure in tally.measures for note in measure.notes)]))
    if tally.skipped:
        warnings.append(f"{len(tally.skipped)} videos were skipped: see skipped")
    return {
        "metrics": {name: entry.record() for name, entry in entries.items()},
        "left_out": left_out,
        "warnings": warnings,
        "skipped": [{"clip": name, "reason": reason} for name, reason in tally.skipped.items()],
        "per_video": tables,
        "processes": tally.world.size,
        "seconds": {name: round(value, 2) for name, value in tally.seconds.items()},
    }


def _batches(picks: Sequence[Pick], size: int) -> list[list[Pick]]:
    """Picks in batches of one shape."""
    groups: dict[ClipShape, list[Pick]] = {}
    for pick in picks:
        groups.setdefault(pick.shape, []).append(pick)
    return [group[first : first + size] for group in groups.values() for first in range(0, len(group), size)]
