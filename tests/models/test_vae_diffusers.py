import json

import pytest
import torch

from genworld.models.vae import DiffusersVAEConfig, Tiling, build_vae, flops_per_pixel

diffusers = pytest.importorskip("diffusers")


def wan(**changes) -> torch.nn.Module:
    statistics = {"latents_mean": [0.5, -1, 0, 2], "latents_std": [1, 2, 3, 4]}
    settings = {"base_dim": 4, "z_dim": 4, "num_res_blocks": 1} | statistics | changes
    return diffusers.AutoencoderKLWan(**settings)


def wan_2_2() -> torch.nn.Module:
    pixels = {"patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
    return wan(base_dim=8, decoder_base_dim=8, is_residual=True, **pixels)


def ltx() -> torch.nn.Module:
    network = diffusers.AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        patch_size=4,
        scaling_factor=2.0,
    )
    network.latents_mean.copy_(torch.arange(4.0))
    network.latents_std.fill_(3.0)
    return network


def cogvideox() -> torch.nn.Module:
    return diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2, scaling_factor=0.5
    )


def clips(frames: int, size: int) -> torch.Tensor:
    return torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("make", "strides"), [(wan, (4, 8)), (wan_2_2, (4, 16)), (ltx, (8, 32)), (cogvideox, (4, 8))])
@torch.no_grad()
def test_foreign_autoencoders_load_and_agree_with_the_library(make, strides, tmp_path):
    torch.manual_seed(0)
    network = make().eval()
    network.save_pretrained(tmp_path)
    vae = build_vae(DiffusersVAEConfig(path=tmp_path))
    time_stride, space_stride = strides
    assert (vae.time_stride, vae.space_stride, vae.latent_channels) == (time_stride, space_stride, 4)
    pixels = clips(1 + 2 * time_stride, 2 * space_stride)
    posterior = vae.encode(pixels)
    expected = network.encode(pixels).latent_dist
    torch.testing.assert_close(posterior.mean, expected.mean)
    torch.testing.assert_close(posterior.logvar, expected.logvar)
    assert posterior.mean.shape == (1, 4, 3, 2, 2)
    latents = vae.to_latents(pixels)
    shown = vae.to_pixels(latents)
    torch.testing.assert_close(shown, network.decode(expected.mean).sample.clamp(-1, 1), atol=1e-4, rtol=1e-4)
    assert shown.shape == pixels.shape
    with pytest.raises(ValueError, match="is not divisible by the spatial stride"):
        vae.to_latents(clips(1, space_stride + 1))


@torch.no_grad()
def test_latents_are_normalised_as_the_library_does(tmp_path):
    for make, mean, std in (
        (wan, [0.5, -1, 0, 2], [1, 2, 3, 4]),
        (ltx, [0, 1, 2, 3], [1.5] * 4),
        (cogvideox, [0] * 4, [2] * 4),
    ):
        make().save_pretrained(tmp_path / make.__name__)
        vae = build_vae(DiffusersVAEConfig(path=tmp_path / make.__name__))
        torch.testing.assert_close(vae.latent_mean, torch.tensor(mean).float())
        torch.testing.assert_close(vae.latent_std, torch.tensor(std).float())


@pytest.mark.parametrize("make", [wan, wan_2_2])
@torch.no_grad()
def test_wan_streams_and_two_streams_do_not_meet(make, tmp_path):
    make().save_pretrained(tmp_path)
    vae = build_vae(DiffusersVAEConfig(path=tmp_path))
    pixels = clips(13, 2 * vae.space_stride)
    latents = vae.to_latents(pixels)
    encoded = torch.cat(list(vae.encode_stream(vae.split_pixels(pixels, 2))), dim=2)
    torch.testing.assert_close(encoded, latents, atol=1e-4, rtol=0)
    streams = [vae.decode_stream(part.split(3, dim=2)) for part in (latents, -latents)]
    one, two = (torch.cat(parts, dim=2) for parts in zip(*zip(*streams, strict=True), strict=True))
    torch.testing.assert_close(one, vae.to_pixels(latents), atol=1e-4, rtol=0)
    torch.testing.assert_close(two, vae.to_pixels(-latents), atol=1e-4, rtol=0)


@torch.no_grad()
def test_tiles_are_blended(tmp_path):
    torch.manual_seed(0)
    cogvideox().save_pretrained(tmp_path)
    vae = build_vae(DiffusersVAEConfig(path=tmp_path))
    latents = torch.zeros(1, 4, 1, 10, 10)
    shown = vae.to_pixels(latents, Tiling(size=5, overlap=2))
    whole = vae.to_pixels(latents)
    assert shown.shape == whole.shape
    # A flat video has no structure of its own: any jump inside would be a seam.
    jumps = shown[..., 24:-24, 24:-24].diff(dim=-1).abs().max()
    assert jumps <= whole[..., 24:-24, 24:-24].diff(dim=-1).abs().max() + 0.01
    assert vae.to_latents(clips(5, 64), Tiling(size=4, overlap=2)).shape == (1, 4, 2, 8, 8)


def test_gradients_reach_the_weights(tmp_path):
    wan().save_pretrained(tmp_path)
    vae = build_vae(DiffusersVAEConfig(path=tmp_path))
    vae.decode(vae.encode(clips(5, 16)).mean).square().mean().backward()
    assert vae.last_layer.grad is not None
    assert vae.last_layer.shape[0] == 3


def test_on_the_meta_device_only_the_shape_is_built(tmp_path):
    wan().save_pretrained(tmp_path)
    with torch.device("meta"):
        vae = build_vae(DiffusersVAEConfig(path=tmp_path))
    assert all(parameter.is_meta for parameter in vae.parameters())
    assert flops_per_pixel(vae, num_frames=5, size=16)[0] > 0


def test_what_cannot_be_used_is_named(tmp_path):
    with pytest.raises(ValueError, match="must name the folder of one autoencoder"):
        build_vae(DiffusersVAEConfig(path=tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLMochi"}))
    with pytest.raises(ValueError, match=r"'AutoencoderKLMochi' are not supported, only \['AutoencoderKLCogVideoX'"):
        build_vae(DiffusersVAEConfig(path=tmp_path))
    settings = {"_class_name": "AutoencoderKLLTXVideo", "timestep_conditioning": True}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="timestep_conditioning"):
        build_vae(DiffusersVAEConfig(path=tmp_path))
