"""Connectors: parity with transformers, masks, orders, counts and errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.config import decode
from genworld.models.connector_parts import QFormer
from genworld.models.connectors import (
    ColoursConfig,
    Connector,
    ConnectorConfig,
    LinearConfig,
    MLPConfig,
    NormConfig,
    PointBatch,
    Positions3DConfig,
    QFormerConfig,
    ResamplerConfig,
)
from genworld.models.point_batch import thin
from genworld.ops.positions import with_positions
from genworld.types import PointSet

WIDTH, OUT = 24, 20
QFORMER = QFormerConfig(width=16, depth=3, num_heads=2, num_queries=5)
FOURIER = Positions3DConfig(style="fourier")


def make_scene(count: int, seed: int = 0, width: int = WIDTH) -> PointSet:
    chance = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=chance) * 6 - 2
    return PointSet(
        features=torch.randn(count, width, generator=chance),
        points=points,
        colours=torch.rand(count, 3, generator=chance),
        voxels=((points + 2) / 6 * 256).long(),
    )


def make(*parts, **changes) -> Connector:
    torch.manual_seed(0)
    return Connector(ConnectorConfig(parts=parts, **changes), WIDTH, OUT).eval()


CONNECTORS = {
    "3d-llm": (Positions3DConfig(), QFORMER, LinearConfig()),
    "every block looks": (FOURIER, replace(QFORMER, cross_every=1), LinearConfig()),
    "tokens": (Positions3DConfig(style="tokens"), QFORMER, LinearConfig()),
    "channels": (Positions3DConfig(style="channels"), QFORMER, LinearConfig()),
    "colours": (NormConfig(), ColoursConfig(), QFORMER, MLPConfig()),
    "resampler": (FOURIER, ResamplerConfig(width=16, depth=2, num_heads=2, num_queries=5), LinearConfig()),
    "points are tokens": (Positions3DConfig(style="fourier", of="metres"), MLPConfig()),
}


@pytest.fixture(params=CONNECTORS)
def connector(request) -> Connector:
    return make(*CONNECTORS[request.param])


@torch.no_grad()
def test_padding_and_company_change_nothing(connector) -> None:
    scenes = [make_scene(7, 1), make_scene(40, 2), make_scene(1, 3)]
    together = connector(connector.stack(scenes))
    for row, scene in enumerate(scenes):
        alone = connector(connector.stack([scene]))
        assert alone.keep.sum() == connector.num_tokens(len(scene)) == together.keep[row].sum()
        torch.testing.assert_close(together.x[row, together.keep[row]], alone.x[alone.keep], atol=1e-5, rtol=1e-5)
        assert alone.x.shape[-1] == OUT


@torch.no_grad()
def test_what_padding_holds_is_never_seen(connector) -> None:
    batch = connector.stack([make_scene(7, 1), make_scene(12, 2)])
    real = batch.keep[..., None]
    noise = torch.randn_like(batch.features) * 50
    spoiled = replace(batch, features=torch.where(real, batch.features, noise), colours=batch.colours + ~real)
    before, after = connector(batch), connector(spoiled)
    torch.testing.assert_close(before.x[before.keep], after.x[after.keep], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_order_of_points_changes_nothing() -> None:
    for name, parts in CONNECTORS.items():
        if name == "points are tokens":
            continue
        connector = make(*parts)
        for parameter in connector.parameters():
            parameter.mul_(2)  # at first a Q-Former looks everywhere alike, and sees no order because it sees nothing
        scene = make_scene(30)
        turned = scene.map(lambda x: x[torch.randperm(30, generator=torch.Generator().manual_seed(1))])
        before, after = (connector(connector.stack([s])).x for s in (scene, turned))
        torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3, msg=name)
        moved = replace(scene, features=scene.features.flip(0))
        change = (connector(connector.stack([moved])).x - before).abs().max()
        if name == "tokens":  # where a thing is stands in another token than what it is: nobody can tell
            assert change < 1e-4
        else:
            assert change > 4 * (after - before).abs().max(), name


@torch.no_grad()
def test_qformer_is_that_of_transformers() -> None:
    connector = make(QFORMER, LinearConfig())
    part = connector.parts[0]
    assert isinstance(part, QFormer)
    torch.nn.init.normal_(part.queries)
    scenes = [make_scene(9, 1), make_scene(4, 2)]
    found = connector(connector.stack(scenes))
    for row, scene in enumerate(scenes):
        hidden = part.qformer(query_embeds=part.queries, encoder_hidden_states=scene.features[None]).last_hidden_state
        torch.testing.assert_close(found.x[row], connector.parts[1].network(hidden)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cross_every", [1, 2])
@torch.no_grad()
def test_every_cross_attention_of_the_qformer_honours_the_mask(cross_every) -> None:
    part = make(replace(QFORMER, depth=4, cross_every=cross_every), LinearConfig()).parts[0]
    assert isinstance(part, QFormer)
    looks = [layer for layer in part.qformer.encoder.layer if layer.has_cross_attention]
    assert len(looks) == 4 // cross_every
    batch = PointBatch.stack([make_scene(3, 1), make_scene(8, 2)])
    sizes = []

    def compare(module, args, kwargs, output) -> None:
        states = kwargs["encoder_hidden_states"].clone()
        states[0, 3:] = torch.randn(5, WIDTH) * 100
        again = type(module).forward(module, *args, **(kwargs | {"encoder_hidden_states": states}))[0]
        torch.testing.assert_close(output[0], again)
        unmasked = kwargs | {"encoder_hidden_states": states, "encoder_attention_mask": None}
        assert not torch.allclose(output[0][0], type(module).forward(module, *args, **unmasked)[0][0], atol=1e-4)
        sizes.append(len(states))

    for layer in looks:
        layer.crossattention.attention.register_forward_hook(compare, with_kwargs=True)
    part.qformer(
        query_embeds=torch.randn(2, 5, 16),
        encoder_hidden_states=batch.features,
        encoder_attention_mask=batch.keep.long(),
    )
    assert sizes == [2] * len(looks)


@torch.no_grad()
def test_positions_are_those_of_3dllm() -> None:
    scene = make_scene(6)
    for style in ("add", "tokens", "channels"):
        connector = make(Positions3DConfig(style=style), LinearConfig())
        found = connector(connector.stack([scene]))
        expected = connector.parts[1].network(with_positions(scene.features, scene.voxels, style))
        torch.testing.assert_close(found.x[0], expected)


@torch.no_grad()
def test_fourier_positions_tell_points_apart_but_not_where_the_scene_is() -> None:
    connector = make(Positions3DConfig(style="fourier", of="metres"), LinearConfig())
    scene = make_scene(6)
    same = replace(scene, features=scene.features[:1].expand(6, -1))
    rows = connector(connector.stack([same])).x[0]
    assert torch.pdist(rows).min() > 1e-3
    shifted = replace(same, points=same.points + torch.tensor([3.0, -8.0, 0.5]))
    torch.testing.assert_close(connector(connector.stack([shifted])).x[0], rows, atol=1e-4, rtol=1e-4)
    by_cells = make(Positions3DConfig(style="fourier", of="cells"), LinearConfig())
    assert torch.equal(*(by_cells(by_cells.stack([s])).x for s in (same, shifted)))


def test_every_weight_has_a_gradient(connector) -> None:
    tokens = connector(connector.stack([make_scene(7, 1), make_scene(12, 2)]))
    tokens.x[tokens.keep].square().sum().backward()
    assert not [name for name, p in connector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_thinning_is_a_function_of_the_scene() -> None:
    scene = make_scene(400)
    some = thin(scene, 100)
    assert len(some) == 100
    assert torch.equal(some.points, thin(scene, 100).points)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(2))
    turned = thin(scene.map(lambda x: x[order]), 100)
    rows = [{tuple(row) for row in s.points.tolist()} for s in (some, turned)]
    assert rows[0] == rows[1]
    assert rows[0] < {tuple(row) for row in thin(scene, 101).points.tolist()}
    assert thin(scene, 400) is scene
    # Evenly: each half of the room keeps about its share.
    share = (some.points[:, 0] > 1).float().mean() - (scene.points[:, 0] > 1).float().mean()
    assert abs(share) < 0.15


def test_limit() -> None:
    connector = make(Positions3DConfig(style="tokens"), LinearConfig(), limit=10)
    assert connector.num_tokens(7) == 14
    assert connector.num_tokens(70) == 20
    assert connector(connector.stack([make_scene(70)])).keep.sum() == 20
    strict = make(LinearConfig(), limit=10, beyond="error")
    with pytest.raises(ValueError, match=r"scene 1 of 2 has 11 points, more than the limit of 10: .*beyond: thin"):
        strict.stack([make_scene(10), make_scene(11)])


def test_points_outside_the_codec() -> None:
    scene = make_scene(5)
    for style in ("add", "tokens", "channels", "fourier"):
        connector = make(Positions3DConfig(style=style, cells=64), LinearConfig())
        with pytest.raises(
            ValueError, match=r"cells \d+ to \d+ of their codec, but these positions know cells 0 to 63"
        ):
            connector(connector.stack([scene]))
        below = replace(scene, voxels=scene.voxels.clamp(max=60) - 61)
        with pytest.raises(ValueError, match=r"cells -\d+ to"):
            connector(connector.stack([below]))


def test_scenes_that_cannot_be_used() -> None:
    connector = make(LinearConfig())
    with pytest.raises(ValueError, match="scene 1 of 2 holds no points"):
        connector.stack([make_scene(3), make_scene(0)])
    with pytest.raises(ValueError, match=r"features of width 10, but the connector takes 24"):
        connector.stack([make_scene(3, width=10)])
    with pytest.raises(ValueError, match=r"rows that do not belong together: .*'voxels': 2"):
        connector.stack([replace(make_scene(3), voxels=torch.zeros(2, 3, dtype=torch.long))])
    with pytest.raises(ValueError, match="at least one scene"):
        connector.stack([])


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"parts\[1\] .* positions3d, .* after qformer tokens are no longer points"):
        make(QFORMER, Positions3DConfig(), LinearConfig())
    with pytest.raises(ValueError, match=r"ends with qformer of width 16, but what listens has width 20"):
        make(QFORMER)
    with pytest.raises(ValueError, match="width 16 is not divisible by num_heads 3"):
        replace(QFORMER, num_heads=3)


def test_weights_of_another_connector() -> None:
    connector, other = make(*CONNECTORS["3d-llm"]), make(*CONNECTORS["3d-llm"])
    torch.nn.init.normal_(other.parts[1].queries)
    connector.take(other.state_dict())
    assert torch.equal(connector.parts[1].queries, other.parts[1].queries)
    wider = Connector(ConnectorConfig(parts=CONNECTORS["3d-llm"]), WIDTH + 6, OUT)
    with pytest.raises(
        ValueError, match=r"takes features of width 24 .* width 20; .*key.weight has shape \(16, 30\), e"
    ):
        connector.take(wider.state_dict())


def test_from_a_config() -> None:
    text = {
        "parts": [
            {"kind": "positions3d", "style": "add"},
            {"kind": "qformer", "width": 16, "depth": 2, "num_heads": 2},
            {"kind": "linear"},
        ],
        "limit": 100,
    }
    connector = Connector(decode(ConnectorConfig, text), WIDTH, OUT)
    assert connector.num_tokens(9) == 32
