import logging

import pytest
import torch

from genworld.ops import segment_attention
from genworld.ops.attention import (
    CausalSegments,
    CrossSegments,
    FrameCausalSegments,
    SelfSegments,
    attention,
    dense_mask,
    resolve_backend,
)
from genworld.ops.ragged import Segments

RAGGED, EQUAL = Segments((3, 8, 1, 5)), Segments((6, 6, 6))
MASKS = {
    "self ragged": SelfSegments(RAGGED),
    "self equal": SelfSegments(EQUAL),
    "cross ragged": CrossSegments(RAGGED, Segments((2, 7, 4, 1))),
    "cross equal": CrossSegments(EQUAL, Segments((4, 4, 4))),
    "cross equal queries": CrossSegments(EQUAL, Segments((4, 3, 5))),
    "cross far keys": CrossSegments(EQUAL, Segments((1, 1, 40))),
    "causal ragged": CausalSegments(RAGGED),
    "causal equal": CausalSegments(EQUAL),
    "frames ragged": FrameCausalSegments(RAGGED, Segments((1, 2, 4, 4, 1, 5))),
    "frames equal": FrameCausalSegments(EQUAL, Segments((2, 2, 2, 3, 3, 6))),
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TOLERANCE = {torch.float32: {"atol": 2e-5, "rtol": 2e-5}, torch.bfloat16: {"atol": 3e-2, "rtol": 3e-2}}


def tensors(mask, dtype, device, width=16):
    generator = torch.Generator().manual_seed(0)
    sizes = (mask.queries.total, mask.keys.total, mask.keys.total, mask.queries.total)
    q, k, v, grad = (torch.randn(n, 2, width, generator=generator).to(device, dtype) for n in sizes)
    return [x.requires_grad_() for x in (q, k, v)], grad


def run(mask, dtype, device, backend, gradients=True):
    inputs, grad = tensors(mask, dtype, device)
    with torch.set_grad_enabled(gradients):
        out = attention(*inputs, mask=mask, backend=backend)
        grads = torch.autograd.grad(out, inputs, grad) if gradients else ()
    return out, *grads


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("backend", ["auto", "sdpa", "segments", "varlen", "flex", "xformers"])
def test_backend_agrees_with_math_or_says_why_not(backend, name, dtype, device):
    mask = MASKS[name]
    gradients = not (backend == "flex" and device == "cpu")  # tested below: it says that it has none
    try:
        found = run(mask, dtype, device, backend, gradients)
    except ValueError as error:
        assert backend in ("varlen", "xformers"), f"{backend} must run here"
        assert "use " in str(error) or "pip install" in str(error)  # noqa: PT017
        return
    expected = run(mask, dtype, device, "math", gradients)
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == dtype
        torch.testing.assert_close(x, y, **TOLERANCE[dtype])


@pytest.mark.parametrize("name", MASKS)
def test_math_equals_a_loop_over_segments_and_tokens(name):
    mask = MASKS[name]
    (q, k, v), _ = tensors(mask, torch.float32, "cpu")
    seen = dense_mask(mask, "cpu")
    out = attention(q, k, v, mask=mask, backend="math")
    for row in range(len(q)):
        keys, values = k[seen[row]], v[seen[row]]
        weights = torch.softmax(torch.einsum("nk,snk->ns", q[row], keys) / 4, dim=-1)
        torch.testing.assert_close(out[row], torch.einsum("ns,snk->nk", weights, values), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_long_segments_do_not_keep_their_scores(name, monkeypatch):
    expected = run(MASKS[name], torch.bfloat16, "cpu", "math")
    monkeypatch.setattr(segment_attention, "SCORE_LIMIT", 0)
    for x, y in zip(run(MASKS[name], torch.bfloat16, "cpu", "segments"), expected, strict=True):
        torch.testing.assert_close(x, y, **TOLERANCE[torch.bfloat16])


def test_what_masks_mean():
    segments = Segments((2, 3))
    blocks = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert dense_mask(SelfSegments(segments), "cpu").int().tolist() == blocks
    causal = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert dense_mask(CausalSegments(segments), "cpu").int().tolist() == causal
    frames = FrameCausalSegments(segments, Segments((1, 1, 2, 1)))
    by_frame = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert dense_mask(frames, "cpu").int().tolist() == by_frame
    cross = CrossSegments(Segments((1, 2)), Segments((2, 1)))
    assert dense_mask(cross, "cpu").int().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize("name", MASKS)
def test_nothing_leaks_between_segments(name):
    mask = MASKS[name]
    inputs, _ = tensors(mask, torch.float32, "cpu")
    out = attention(*inputs, mask=mask)
    first = mask.queries.lengths[0]
    grads = torch.autograd.grad(out[:first].square().sum(), inputs)
    for grad, segments in zip(grads, (mask.queries, mask.keys, mask.keys), strict=True):
        assert (grad[segments.lengths[0] :] == 0).all()
        assert (grad[: segments.lengths[0]] != 0).any()


def test_autocast_reaches_every_backend():
    mask = MASKS["self ragged"]
    inputs, _ = tensors(mask, torch.float32, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        for backend in ("math", "sdpa", "segments"):
            assert attention(*inputs, mask=mask, backend=backend).dtype == torch.bfloat16


def test_errors_are_clear():
    mask = MASKS["self equal"]
    inputs, _ = tensors(mask, torch.float32, "cpu")
    with pytest.raises(
        ValueError, match=r"varlen runs in float16 or bfloat16 on a CUDA device, got torch\.float32 on cpu"
    ):
        attention(*inputs, mask=mask, backend="varlen")
    with pytest.raises(ValueError, match="flex has no gradient on cpu"):
        attention(*inputs, mask=mask, backend="flex")
    with pytest.raises(ValueError, match="describes 17 queries"):
        attention(*inputs, mask=MASKS["self ragged"])
    with pytest.raises(ValueError, match="2 segments of queries cannot attend to 1"):
        CrossSegments(Segments((1, 2)), Segments((3,)))
    with pytest.raises(ValueError, match="do not divide segments"):
        FrameCausalSegments(Segments((2, 3)), Segments((3, 2)))


def test_auto_is_decided_and_logged_once(caplog):
    resolve_backend.cache_clear()
    with caplog.at_level(logging.INFO, logger="genworld"):
        for _ in range(3):
            run(MASKS["self equal"], torch.float32, "cpu", "auto")
    assert [record.getMessage() for record in caplog.records] == ["attention on cpu in torch.float32: segments"]
    assert resolve_backend("cuda", torch.bfloat16) == "varlen"
    assert resolve_backend("cuda", torch.bfloat16, frame_causal=True) == "flex"
    assert resolve_backend("cuda", torch.float32) == "segments"
