"""Encoders of runs as folders of their own, which need neither the run nor its data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from genworld.data.room_views import RoomViewsData, RoomViewSource
from genworld.eval.regions import FIRST, FLOORS, judge_regions
from genworld.experiment import Experiment
from genworld.models.alignment import EncoderCard, save_encoder
from genworld.models.images import WorldEncoder, WorldEncoderConfig
from genworld.pipelines.command import provenance
from genworld.pipelines.embed import Embedder
from genworld.pipelines.runs import open_run
from genworld.tasks.align import Align
from genworld.tasks.align_regions import AlignRegions
from genworld.train.checkpoint import latest_checkpoint, read_state


def export_run(run: str | Path, folder: str | Path, domain: str | None = None) -> Path:
    """Write the encoder of an aligned run as a folder of its own, judged on the world as it is written there.

    An encoder of whole clips (`kind: align`) is judged by `Embedder.evaluate` and opened by `Embedder.from_folder`; one
    of regions (`kind: align_regions`) is judged by `judge_regions`, and is the image encoder `{kind: world, path:
    FOLDER}` of scenes.

    Args:
        run: of `train.py`.
        folder: for config.json, model.safetensors (float16) and the words it knows.
        domain: what it was trained on, in words.

    Raises:
        ValueError: the run is not whole, or of another kind.
    """
    run, folder = Path(run), Path(folder)
    experiment, task = open_run(run, (Align, AlignRegions), "an encoder needs 'align' or 'align_regions'")
    state = read_state(latest_checkpoint(run))
    made: dict[str, Any] = {
        "name": experiment.name,
        **{key: state[key] for key in ("step", "seed", "elapsed", "num_processes", "precision")},
        **provenance(),
    }
    card = EncoderCard(task.loss.scale().item(), domain or _domain(experiment), made)
    save_encoder(folder, task.encoder, card)
    scores = Embedder.from_folder(folder).evaluate() if isinstance(task, Align) else _judged(experiment, folder)
    save_encoder(folder, task.encoder, replace(card, made={**made, "scores": scores}))
    return folder


def _domain(experiment: Experiment) -> str:
    data = experiment.data
    if isinstance(data, RoomViewsData):
        height, width = data.size
        return f"views of the furnished rooms of the procedural world, {height} x {width} pixels"
    return f"what {experiment.name} trained on"


def _judged(experiment: Experiment, folder: Path) -> dict[str, float]:
    """Scores on floors beyond all that the run saw; how many there were of each is in `judge_regions`."""
    data = experiment.data
    assert isinstance(data, RoomViewsData)
    first = max(FIRST, data.offset + data.num_floors + max(data.validation, 1))
    source = RoomViewSource(range(first, first + FLOORS), data.size, data.floor, data.cache)
    return judge_regions(WorldEncoder(WorldEncoderConfig(path=folder)), source).scores()
