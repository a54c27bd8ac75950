"""Regions against phrases: what a view's cells show, which phrases are true of them, and that training goes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from genworld.data.room_views import BUILDING, Look, RoomViewSource, cell_labels
from genworld.experiment import load_experiment, train
from genworld.models.images import WorldEncoder, WorldEncoderConfig
from genworld.pipelines import export
from genworld.pipelines.embed import Embedder
from genworld.pipelines.runs import open_run
from genworld.tasks.align_regions import (
    AlignRegions,
    all_phrases,
    colour_phrases,
    decode_look,
    encode_look,
    is_true,
)
from genworld.types import Pack
from genworld.world.rooms import FloorConfig, sample_floor

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "configs" / "smoke" / "regions.yaml"
ONE_ROOM = FloorConfig(max_rooms=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("views")


def test_views_know_what_they_show_and_the_cache_changes_nothing(cache: Path) -> None:
    plain = RoomViewSource([3], (32, 32), ONE_ROOM)
    cached = RoomViewSource([3], (32, 32), ONE_ROOM, cache)
    floor = sample_floor(3, ONE_ROOM)
    ids = floor.trace(size=(32, 32)).ids
    for view, other, again, truth in zip(
        plain.all_views(0), cached.all_views(0), cached.all_views(0), ids, strict=True
    ):
        for each in (other, again):
            assert torch.equal(view.pixels, each.pixels)
            assert torch.equal(view.labels, each.labels)
            assert view.looks == each.looks
        assert torch.equal((view.labels - len(BUILDING) + 1).clamp(min=0), truth)
        assert [look.kind for look in view.looks[len(BUILDING) :]] == [thing.kind for thing in floor.things]
    one, same = plain.read(0, 5), cached.read(0, 5)
    assert (one.name, one.position) == (same.name, 5)
    assert torch.equal(one.pixels, same.pixels)


def test_a_cell_is_of_what_fills_most_of_it() -> None:
    labels = torch.tensor([[1, 1, 2, 0], [1, 0, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]])
    label, share = cell_labels(labels, 2, 2)
    assert label.tolist() == [[1, 2], [3, 0]]
    assert share.tolist() == [[0.75, 0.75], [1.0, 1.0]]


def test_a_phrase_is_true_of_all_that_it_does_not_contradict() -> None:
    chair, other, wall = Look("chair", "red", "large", "matte"), Look("chair", "red", "small", "shiny"), BUILDING[0]
    codes = torch.tensor([encode_look(look) for look in (chair, other, wall)])
    told = torch.tensor([[True, True, False, False]] * 3)
    assert is_true(codes, codes[:1], told[:1])[:, 0].tolist() == [True, True, False]
    assert is_true(codes, codes[:1], torch.ones(1, 4, dtype=torch.bool))[:, 0].tolist() == [True, False, False]
    assert chair.phrase() == "large matte red chair"
    assert chair.phrase(("colour",)) == "red thing"
    assert {chair.phrase(), "red thing", "chair", "wall"} <= set(all_phrases())


def test_choice_and_loss_depend_on_positions_only() -> None:
    experiment = load_experiment(SMOKE)
    torch.manual_seed(0)
    task = AlignRegions(experiment.task).eval()
    source = RoomViewSource([3], (32, 32), ONE_ROOM)
    task.prepare(source)
    views = [source.read(0, position) for position in range(2)]
    first, second = task.choose(Pack(tuple(views)), 8, 8, 0), task.choose(Pack((views[1],)), 8, 8, 0)
    here = first.view == 1
    assert torch.equal(first.cell[here], second.cell)
    assert first.phrases[int((~here).sum()) :] == second.phrases
    labels = [cell_labels(view.labels, 8, 8)[0].flatten() for view in views]
    for view, cell, codes in zip(first.view.tolist(), first.cell.tolist(), first.codes.tolist(), strict=True):
        assert codes == encode_look(views[view].looks[int(labels[view][cell])])
    output = task(Pack(tuple(views)), 0, 0)
    assert output.loss.isfinite()
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in task.parameters())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run of the smoke config."""
    folder = tmp_path_factory.mktemp("regions") / "run"
    result = train(load_experiment(SMOKE, [f"run={folder}", f"data.cache={cache}", "train.threads=1"]))
    assert (result.status, result.step) == ("finished", 6)
    return folder


def test_the_smoke_config_previews(run: Path) -> None:
    (page,) = (run / "previews").rglob("places.png")
    colours = {colour for _, colour in Image.open(page).getcolors(1 << 24) or []}
    assert colours & {(255, 0, 0), (0, 255, 0)}  # frames, of what is wrong or right


def test_steps_cannot_be_accumulated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        train(load_experiment(SMOKE, [f"run={tmp_path / 'other'}", "data.pack=2"]))


def test_a_run_becomes_an_encoder_of_scenes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "FLOORS", 1)
    export.export_run(run, tmp_path / "encoder")
    encoder = WorldEncoder(WorldEncoderConfig(path=tmp_path / "encoder"))
    _, task = open_run(run, AlignRegions, "")
    assert "32 x 32 pixels" in encoder.card.domain
    assert encoder.card.scale == pytest.approx(task.loss.scale().item())
    assert encoder.card.made["step"] == 6
    assert {"cells/kind", "things/colour", "voxels/size"} < set(encoder.card.made["scores"])
    pixels = RoomViewSource([3], (32, 32), ONE_ROOM).read(0, 0).pixels
    torch.testing.assert_close(encoder(pixels), task.encoder.embed_cells(pixels[None])[0], atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="of task 'align_regions'; embedding needs 'align'"):
        Embedder.from_run(run)


def test_looks_are_numbers_and_back() -> None:
    looks = [*BUILDING, Look("chair", "red", "large", "matte")]
    assert [decode_look(encode_look(look)) for look in looks] == looks
    assert {look.phrase(("colour", "kind")) for look in looks} <= set(colour_phrases())


def test_the_encoder_that_comes_along_tells_colours_and_building() -> None:
    encoder = WorldEncoder(WorldEncoderConfig())
    floor = RoomViewSource([2_000_000_000], config=ONE_ROOM)
    views = floor.all_views(0)
    names = [look.kind for look in BUILDING]
    phrases = encoder.network.encode_texts([*names, "cabinet", "sofa", "table"])
    right = total = 0
    for view in views:
        features = encoder(view.pixels)
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(features.shape[:2]))
        label, share = cell_labels(view.labels, *features.shape[:2])
        sure = (label < len(names)) & (share == 1)
        right += int(((features @ phrases.T).argmax(dim=-1) == label)[sure].sum())
        total += int(sure.sum())
    assert right > 0.9 * total
    assert encoder(torch.zeros(3, 480, 640)).shape == (32, 42, encoder.width)
