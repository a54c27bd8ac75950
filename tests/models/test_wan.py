import pytest
import torch
from dit_cases import CHANNELS, GRID, TEXT_WIDTH, condition, inputs, tiny_dit
from safetensors.torch import save_file

from genworld.models.condition import unpack_video
from genworld.models.dit import VideoDiT
from genworld.models.keymaps.wan import WAN_1_3B, WAN_5B, WAN_14B, diffusers_rules, original_rules, wan_rules
from genworld.models.weights import load_foreign, read_safetensors, to_ours, to_theirs

TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}


@pytest.fixture(scope="module")
def wan():
    from diffusers import WanTransformer3DModel

    torch.manual_seed(1)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=32, in_channels=CHANNELS,
        out_channels=CHANNELS, text_dim=TEXT_WIDTH, ffn_dim=96, num_layers=2,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15 if parameter.ndim > 1 else 0.3)
    return model.eval()


@pytest.fixture
def ours(wan):
    model = tiny_dit()
    load_foreign(model, wan.state_dict(), diffusers_rules(GRID.patch))
    return model


def velocities(model, latents, levels, texts):
    video, text = condition(latents, levels, texts, [16.0] * len(latents))
    return unpack_video(model(video, text), video.segments, [tuple(x.shape[1:]) for x in latents], GRID.patch)


def test_one_level_per_video(wan, ours):
    latents, levels, texts = inputs(shapes=[(3, 4, 6)] * 3, words=(5, 5, 5))
    expected = wan(torch.stack(latents), 1000 * torch.stack(levels), torch.stack(texts)).sample
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(torch.stack(velocities(ours, latents, levels, texts)), expected, **TOLERANCE)


def test_one_level_per_token(wan, ours):
    latents, _, texts = inputs(shapes=[(3, 4, 6)] * 2, words=(5, 5))
    levels = torch.rand(2, 3, 2, 3)
    levels[:, 0] = 0
    expected = wan(torch.stack(latents), 1000 * levels.flatten(1), torch.stack(texts)).sample
    torch.testing.assert_close(torch.stack(velocities(ours, latents, list(levels), texts)), expected, **TOLERANCE)


def test_ragged_pack_equals_wan_one_by_one(wan, ours):
    latents, levels, texts = inputs()
    for found, x, level, words in zip(velocities(ours, latents, levels, texts), latents, levels, texts, strict=True):
        expected = wan(x[None], 1000 * level[None], words[None]).sample[0]
        torch.testing.assert_close(found, expected, **TOLERANCE)


def test_gradients_are_wans(wan, ours):
    latents, levels, texts = inputs(shapes=[(3, 4, 6)] * 2, words=(5, 5))
    wan.zero_grad()
    wan(torch.stack(latents), 1000 * torch.stack(levels), torch.stack(texts)).sample.square().mean().backward()
    torch.stack(velocities(ours, latents, levels, texts)).square().mean().backward()
    expected, _ = to_ours({name: p.grad for name, p in wan.named_parameters()}, diffusers_rules(GRID.patch))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-3)


def test_key_map_round_trip(wan, ours):
    theirs, unexpected = to_theirs(ours.state_dict(), diffusers_rules(GRID.patch))
    assert unexpected == []
    assert theirs.keys() == wan.state_dict().keys()
    assert all(torch.equal(x, theirs[name]) for name, x in wan.state_dict().items())


def test_original_format_loads_from_a_folder(ours, tmp_path):
    theirs, unexpected = to_theirs(ours.state_dict(), original_rules(GRID.patch))
    assert unexpected == []
    assert {"blocks.0.self_attn.q.weight", "blocks.1.norm3.bias", "head.modulation", "time_projection.1.bias"} <= set(
        theirs
    )
    assert theirs["head.head.weight"].shape == (CHANNELS * 4, 64)
    save_file(theirs, tmp_path / "diffusion_pytorch_model.safetensors")
    state = read_safetensors(tmp_path)
    again = tiny_dit(seed=5)
    load_foreign(again, state, wan_rules(state, GRID.patch))
    for name, x in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], x), name


@pytest.mark.parametrize(("config", "billions"), [(WAN_1_3B, 1.42), (WAN_5B, 5.0), (WAN_14B, 14.3)])
def test_published_sizes(config, billions):
    with torch.device("meta"):
        model = VideoDiT(config, 16, 2, 4096)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(billions * 1e9, rel=0.01)


def test_weights_of_another_size_are_refused(wan):
    with pytest.raises(ValueError, match="of the wrong shape") as caught:
        load_foreign(tiny_dit(mlp_width=64, depth=3), wan.state_dict(), diffusers_rules(GRID.patch))
    assert "blocks.2.mlp.up.weight" in str(caught.value)
    assert "blocks.0.mlp.up.weight: expected (64, 64), got (96, 64)" in str(caught.value)
