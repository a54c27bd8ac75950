from dataclasses import replace

import pytest
import torch
from dit_cases import CHANNELS, FPS, GRID, SHAPES, TEXT_WIDTH, condition, inputs, tiny_dit

from genworld.config import ConfigError, decode
from genworld.models.dit import DiTConfig, VideoDiT
from genworld.ops.ragged import unpack

BACKENDS = ["auto", "math", "sdpa", "segments"]


def gradients(model, outputs):
    model.zero_grad()
    sum((i + 1) * out.square().sum() for i, out in enumerate(outputs)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shapes", [SHAPES, [SHAPES[0]] * 3], ids=["ragged", "equal"])
def test_packed_equals_one_by_one(backend, shapes):
    model = tiny_dit(attention=backend)
    latents, levels, texts = inputs(shapes=shapes)
    video, text = condition(latents, levels, texts)
    together = unpack(model(video, text), video.segments)
    alone = [
        model(*condition([x], [level], [words], [fps]))
        for x, level, words, fps in zip(latents, levels, texts, FPS, strict=False)
    ]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    grads = gradients(model, together), gradients(model, alone)
    for name in grads[0]:
        scale = grads[1][name].abs().max() + 1e-6
        assert (grads[0][name] - grads[1][name]).abs().max() < 1e-4 * scale + 1e-6, name


def test_order_of_segments_does_not_matter():
    model = tiny_dit()
    latents, levels, texts = inputs()
    order = [2, 0, 3, 1]
    video, text = condition(latents, levels, texts)
    out = unpack(model(video, text), video.segments)
    picked = [[items[i] for i in order] for items in (latents, levels, texts, FPS)]
    video, text = condition(*picked)
    for i, x in zip(order, unpack(model(video, text), video.segments), strict=True):
        torch.testing.assert_close(x, out[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shapes", [SHAPES, [SHAPES[0]] * 3], ids=["ragged", "equal"])
def test_nothing_leaks_between_samples(backend, shapes):
    model = tiny_dit(attention=backend)
    latents, levels, texts = inputs(shapes=shapes)
    for x in [*latents, *texts]:
        x.requires_grad_()
    video, text = condition(latents, levels, texts)
    unpack(model(video, text), video.segments)[1].sum().backward()
    for i, (x, words) in enumerate(zip(latents, texts, strict=True)):
        assert (x.grad.abs().max() > 0) == (words.grad.abs().max() > 0) == (i == 1)


def test_frame_rate_matters_and_only_for_moving_pictures():
    model = tiny_dit()
    latents, levels, texts = inputs(shapes=[(3, 4, 6), (1, 4, 6)])

    def at(fps):
        video, text = condition(latents, levels, texts, [fps, fps])
        return unpack(model(video, text), video.segments)

    (slow, image), (fast, same) = at(8.0), at(16.0)
    assert (slow - fast).abs().max() > 1e-3
    assert torch.equal(image, same)


def test_levels_per_token_equal_levels_per_segment():
    model = tiny_dit()
    latents, levels, texts = inputs()
    grids = [torch.full((t, h // 2, w // 2), float(x)) for (t, h, w), x in zip(SHAPES, levels, strict=True)]
    outs = [model(*condition(latents, x, texts)) for x in (levels, grids)]
    assert torch.equal(*outs)
    # A token of another level in the first video splits the runs, and must not touch the other videos.
    grids[0][0, 0, 0] = 0.0
    video, text = condition(latents, grids, texts)
    first, *rest = unpack(model(video, text), video.segments)
    expected = unpack(outs[0], video.segments)
    assert (first - expected[0]).abs().max() > 1e-3
    for a, b in zip(rest, expected[1:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_fresh_model_is_zero_and_its_blocks_do_nothing():
    torch.manual_seed(0)
    model = VideoDiT(DiTConfig(width=32, depth=1, num_heads=2), CHANNELS, 2, TEXT_WIDTH)
    video, text = condition(*inputs())
    assert (model(video, text) == 0).all()
    seen = []
    model.blocks[0].register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    model(video, text)
    assert torch.equal(*seen[0])


def test_checkpointing_changes_nothing():
    video, text = condition(*inputs())
    results = []
    for checkpointing in (False, True):
        model = tiny_dit(checkpointing=checkpointing)
        results.append(gradients(model, [model(video, text)]))
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name])


def test_bf16_autocast_stays_near_float32_in_values_and_gradients():
    model = tiny_dit()
    video, text = condition(*inputs())
    exact = model(video, text)
    exact_grads = gradients(model, [exact])
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(video, text)
    assert (rough.float() - exact).norm() < 0.02 * exact.norm()
    rough_grads = gradients(model, [rough.float()])
    vectors = [torch.cat([g.flatten() for g in grads.values()]) for grads in (exact_grads, rough_grads)]
    assert torch.cosine_similarity(*vectors, dim=0) > 0.999


def test_bf16_weights_without_autocast():
    model = tiny_dit().bfloat16()
    out = model(*condition(*inputs()))
    assert out.dtype == torch.bfloat16
    exact = tiny_dit()(*condition(*inputs()))
    assert (out.float() - exact).norm() < 0.05 * exact.norm()


def rays_for(video, known=1.0, seed=0):
    rays = torch.randn(len(video.tokens), 13, generator=torch.Generator().manual_seed(seed))
    return torch.cat([rays[:, :12] * known, torch.full((len(rays), 1), known)], dim=1)


def test_a_fresh_camera_changes_nothing_and_can_learn():
    torch.manual_seed(0)
    with_camera = VideoDiT(DiTConfig(width=64, depth=2, num_heads=2, camera=True), CHANNELS, 2, TEXT_WIDTH)
    assert (with_camera.camera_in.out.weight == 0).all()
    model = tiny_dit(mlp_width=None)
    missing, unexpected = with_camera.load_state_dict(model.state_dict(), strict=False)
    assert (missing, unexpected) == (["camera_in.out.weight", "camera_change_in.out.weight"], [])
    video, text = condition(*inputs())
    out = with_camera(replace(video, rays=rays_for(video)), text)
    assert torch.equal(out, model(video, text))
    assert gradients(with_camera, [out])["camera_in.out.weight"].abs().min() > 0


def test_rays_move_their_own_video_only():
    model = tiny_dit(camera=True)
    video, text = condition(*inputs())
    rays = rays_for(video)
    changed = rays.clone()
    changed[: video.segments.lengths[0], :12] += 0.5
    one, two = (unpack(model(replace(video, rays=x), text), video.segments) for x in (rays, changed))
    assert (one[0] - two[0]).abs().max() > 1e-3
    for a, b in zip(one[1:], two[1:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_unknown_rays_are_no_rays():
    """Whether a video without a camera is packed beside one with a camera must not matter."""
    model = tiny_dit(camera=True)
    video, text = condition(*inputs())
    out = model(video, text)
    assert torch.equal(out, model(replace(video, rays=rays_for(video, known=0.0)), text))
    assert (gradients(model, [out])["camera_in.out.weight"] == 0).all()


def test_rays_are_refused_where_they_cannot_be_used():
    video, text = condition(*inputs())
    with pytest.raises(ValueError, match="trained without cameras: leave the camera out"):
        tiny_dit()(replace(video, rays=rays_for(video)), text)
    with pytest.raises(ValueError, match="tokens need rays of 13 features each"):
        tiny_dit(camera=True)(replace(video, rays=rays_for(video)[:, :6]), text)


def test_meta_device():
    with torch.device("meta"):
        model = VideoDiT(DiTConfig(), 16, 2, 512)
    latents, levels, texts = inputs()
    latents = [torch.empty(16, *x.shape[1:], device="meta") for x in latents]
    texts = [torch.empty(len(x), 512, device="meta") for x in texts]
    video, text = condition(latents, levels, texts)
    assert model(video, text).shape == (video.segments.total, 64)


@pytest.mark.parametrize("camera", [False, True])
def test_flops_count_what_runs(camera):
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny_dit(attention="segments", camera=camera)
    latents, levels, texts = inputs(shapes=[SHAPES[0]] * 2, words=(4, 4))
    video, text = condition(latents, levels, texts)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(video, text)
    assert model.flops(video.segments.lengths, text.segments.lengths) == pytest.approx(
        counter.get_total_flops(), rel=1e-6
    )


@pytest.mark.parametrize(("width", "heads", "hint"), [(1152, 16, "use"), (100, 3, "multiple of 16"), (64, 1, None)])
def test_head_widths(width, heads, hint):
    if hint is None:
        assert DiTConfig(width=width, num_heads=heads).head_width == 64
        return
    with pytest.raises(ConfigError, match=hint):
        decode(DiTConfig, {"width": width, "num_heads": heads})


def test_wrong_inputs_are_named():
    model = tiny_dit()
    latents, levels, texts = inputs()
    video, _ = condition(latents, levels, texts)
    with pytest.raises(ValueError, match="4 videos need as many texts, got 3"):
        model(video, condition(latents[:3], levels[:3], texts[:3])[1])
    with pytest.raises(ValueError, match="text of 24 features, got 16 and 8"):
        model(video, condition(latents, levels, [x[:, :8] for x in texts])[1])


@pytest.mark.compile
def test_compiled_blocks_agree_at_several_sizes():
    model, compiled = tiny_dit(), tiny_dit()
    compiled.compile_blocks()
    for shapes in (SHAPES, SHAPES[:2], [SHAPES[0]] * 3):
        video, text = condition(*inputs(shapes=shapes))
        a, b = model(video, text), compiled(video, text)
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        grads = gradients(model, [a]), gradients(compiled, [b])
        for name, plain in zip(grads[0], grads[0].values(), strict=True):
            torch.testing.assert_close(grads[1][name], plain, atol=1e-3, rtol=1e-3)


def test_grid_of_the_cases_is_the_models():
    assert tiny_dit().patch == GRID.patch
