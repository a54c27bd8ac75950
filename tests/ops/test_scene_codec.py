import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genworld.ops.scene_codec import SceneCodec, tokens_in_text, tokens_per_point, tokens_to_text

ROOM = SceneCodec.from_bounds((-1.0, 0.0, -0.1), (5.0, 4.0, 2.6))
LONG = SceneCodec.from_bounds((-1.0, 0.0, -0.1), (5.0, 4.0, 2.6), cubic=False, cells=50)
TURNED = SceneCodec(ROOM.centroid, (3.0, 2.0, 4.0), ROOM.lower, ROOM.upper, axes=("+y", "-z", "-x"), cells=64)
CODECS = {"cubic": ROOM, "per axis": LONG, "turned": TURNED}


def cloud(codec: SceneCodec, number: int = 500, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return codec.denormalize(2 * torch.rand(number, 3, generator=generator, dtype=torch.float64) - 1)


def half_cells(codec: SceneCodec, cells: int) -> torch.Tensor:
    """Half a cell along the scene's axes, by hand."""
    half = [0.0, 0.0, 0.0]
    for scale, name in zip(codec.scale, codec.axes, strict=True):
        half["xyz".index(name[1])] = scale / cells
    return torch.tensor(half, dtype=torch.float64)


@pytest.mark.parametrize("name", CODECS)
def test_what_comes_back_is_at_most_half_a_cell_away(name):
    codec = CODECS[name]
    points = cloud(codec)
    torch.testing.assert_close(codec.denormalize(codec.normalize(points)), points)
    off = (codec.metres(codec.voxels(points)) - points).abs()
    assert (off <= half_cells(codec, codec.cells) + 1e-12).all()
    for style, cells in (("axis", codec.cells), ("flat32", 32)):
        back = codec.points(codec.tokens(points, style), style)
        assert ((back - points).abs() <= half_cells(codec, cells) + 1e-12).all()


@pytest.mark.parametrize("name", CODECS)
def test_cells_and_tokens_come_back_exactly(name):
    codec = CODECS[name]
    voxels = torch.randint(0, codec.cells, (300, 3), generator=torch.Generator().manual_seed(1))
    assert torch.equal(codec.voxels(codec.metres(voxels)), voxels)
    assert torch.equal(codec.tokens(codec.points(voxels)), voxels)
    flat = torch.arange(32**3)[:, None]
    assert torch.equal(codec.tokens(codec.points(flat, "flat32"), "flat32"), flat)


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.floats(-50, 50)] * 3), st.tuples(*[st.floats(0, 30)] * 3), st.integers(2, 300), st.booleans())
def test_any_bounds_hold_their_corners(low, size, cells, cubic):
    high = [a + b for a, b in zip(low, size, strict=True)]
    codec = SceneCodec.from_bounds(low, high, cubic=cubic, cells=cells)
    corners = torch.tensor([low, high], dtype=torch.float64)
    assert codec.inside(corners).all()
    back = codec.points(codec.tokens(corners))
    assert ((back - corners).abs() <= torch.tensor(codec.cell_size, dtype=torch.float64) / 2 + 1e-7).all()


def test_one_token_of_a_cube_of_32_is_its_row_major_number():
    codec = SceneCodec.from_bounds((0, 0, 0), (32, 32, 32))
    point = torch.tensor([[3.5, 7.2, 31.9]])
    assert codec.tokens(point, "flat32").tolist() == [[3 * 1024 + 7 * 32 + 31]]
    assert codec.points(torch.tensor([[4191]]), "flat32").tolist() == [[4.5, 2.5, 31.5]]  # 4 * 1024 + 2 * 32 + 31
    assert codec.num_tokens("flat32") == 32768
    assert codec.num_tokens() == 256


def test_3dllm_voxels_are_its_own_formula_and_never_256():
    points = torch.randn(400, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 + 5
    codec = SceneCodec.from_points_3dllm(points)
    unit = points - points.mean(dim=0)
    unit = unit / unit.norm(dim=-1).max()
    expected = (unit * 128 + 128).int()
    assert (codec.voxels(points) == expected.clamp(max=255)).all()
    axis = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    edge = SceneCodec.from_points_3dllm(axis).voxels(axis)
    assert edge.tolist() == [[255, 128, 128], [0, 128, 128], [128, 255, 128], [128, 0, 128]]
    assert math.isclose(codec.cell_size[0], codec.scale[0] / 128)


@pytest.mark.parametrize("style", ["axis", "flat32"])
@pytest.mark.parametrize("name", CODECS)
def test_boxes_are_two_corners(name, style):
    codec = CODECS[name]
    ends = torch.stack([cloud(codec, 60, 3), cloud(codec, 60, 4)])
    lower, upper = ends.amin(0), ends.amax(0)
    tokens = codec.box_tokens(lower, upper, style)
    assert tokens.shape == (60, 2 * tokens_per_point(style))
    if style == "axis":
        assert (tokens[:, :3] <= tokens[:, 3:]).all()  # in the codec's own axes
    low, high = codec.boxes(tokens, style)
    half = half_cells(codec, codec.cells if style == "axis" else 32)
    thick = (upper - lower > 2 * half).all(dim=-1)
    assert thick.sum() > 20
    assert ((low - lower).abs() <= half + 1e-9)[thick].all()
    assert ((high - upper).abs() <= half + 1e-9)[thick].all()


def test_a_thin_box_does_not_come_back_flat():
    codec = SceneCodec.from_bounds((0, 0, 0), (256, 256, 256))
    lower, upper = torch.tensor([[10.2, 3.0, 7.4]]), torch.tensor([[40.7, 9.0, 7.6]])
    low, high = codec.boxes(codec.box_tokens(lower, upper))
    assert low.tolist() == [[10.5, 3.5, 7.25]]
    assert high.tolist() == [[40.5, 9.5, 7.75]]


def test_tokens_in_a_text():
    tokens = ROOM.tokens(torch.tensor([2.0, 2.0, 1.25]))
    text = tokens_to_text(tokens)
    assert text == "<loc128><loc128><loc128>"
    assert tokens_in_text(f"the sofa is at {text} , and I at <loc7>.") == [128, 128, 128, 7]
    assert tokens_in_text("no <loc> here") == []


def test_a_codec_survives_json():
    for codec in CODECS.values():
        assert SceneCodec.from_json(codec.to_json()) == codec
    with pytest.raises(ValueError, match="not a codec"):
        SceneCodec.from_json('{"middle": 3}')


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"1 of 2 points, the first at \[2000.*lie outside"):
        ROOM.tokens(torch.tensor([[1.0, 1.0, 1.0], [2000.0, 1000.0, 1300.0]]))  # millimetres
    assert ROOM.voxels(torch.tensor([2000.0, 1000.0, 1300.0])).max() == 255
    with pytest.raises(ValueError, match="cells run from 0 to 255, got 3 to 256"):
        ROOM.points(torch.tensor([3, 4, 256]))
    with pytest.raises(ValueError, match="has 3 tokens a point, got 2"):
        ROOM.points(torch.tensor([3, 4]))
    with pytest.raises(ValueError, match="a box has 2 tokens in style 'flat32', got 6"):
        ROOM.boxes(torch.arange(6), "flat32")
    with pytest.raises(ValueError, match="axes of a codec"):
        SceneCodec((0, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 1), axes=("+x", "-x", "+z"))
    with pytest.raises(ValueError, match="positive scale"):
        SceneCodec((0, 0, 0), (1, 0, 1), (0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match="finite"):
        SceneCodec.from_points_3dllm(torch.tensor([[float("inf"), 0, 0]]))
    with pytest.raises(ValueError, match="from low to high"):
        SceneCodec.from_bounds((0, 0, 3), (1, 1, 1))
