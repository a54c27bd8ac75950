import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from genworld.config import ConfigError, decode
from genworld.models.vae import CausalVAE, CausalVAEConfig, RunVAEConfig, Tiling, VAEConfig, build_vae, flops_per_pixel
from genworld.nn.conv3d import Memory

STRIDE_8 = CausalVAEConfig(patch=2, widths=(8, 12, 16), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1))
STRIDE_16 = CausalVAEConfig(patch=4, widths=(8, 12, 16), encoder_blocks=(1, 0, 1), decoder_blocks=(1, 1, 1))
FOLDED_TIME = CausalVAEConfig(patch=4, patch_frames=2, widths=(8, 12), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
CONFIGS = [STRIDE_8, STRIDE_16, FOLDED_TIME]


def make(config: CausalVAEConfig) -> CausalVAE:
    """With last layers that are not zero, so that the residual counts."""
    torch.manual_seed(0)
    vae = CausalVAE(config)
    for head in (vae.encoder.head, vae.decoder.head):
        nn.init.normal_(head.linear.weight, std=0.4)
    vae.latent_mean.normal_()
    vae.latent_std.uniform_(0.5, 2.0)
    return vae.eval()


def clips(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_chunks_equal_the_whole(config):
    vae, pixels = make(config), clips(2, 3, 21, 32, 48)
    latents = vae.to_latents(pixels)
    whole = vae.to_pixels(latents)
    assert latents.shape == (2, 16, 6, 32 // config.space_stride, 48 // config.space_stride)
    assert whole.shape == pixels.shape
    for frames in range(1, 7):
        encoded = torch.cat(list(vae.encode_stream(vae.split_pixels(pixels, frames))), dim=2)
        decoded = torch.cat(list(vae.decode_stream(latents.split(frames, dim=2))), dim=2)
        torch.testing.assert_close(encoded, latents, atol=1e-4, rtol=0)
        torch.testing.assert_close(decoded, whole, atol=1e-4, rtol=0)


@torch.no_grad()
def test_uneven_chunks_and_interleaved_streams():
    vae, one, two = make(STRIDE_8), clips(1, 3, 17, 16, 16), clips(1, 3, 17, 16, 16).flip(2)
    streams = [vae.encode_stream(iter(pixels.split([5, 4, 8], dim=2))) for pixels in (one, two)]
    encoded = [torch.cat(parts, dim=2) for parts in zip(*zip(*streams, strict=True), strict=True)]
    torch.testing.assert_close(encoded[0], vae.to_latents(one), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoded[1], vae.to_latents(two), atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_causal(config):
    vae, pixels = make(config), clips(1, 3, 9, 16, 16)
    changed = pixels.clone()
    changed[:, :, 5:] = -changed[:, :, 5:]
    before, after = vae.to_latents(pixels), vae.to_latents(changed)
    torch.testing.assert_close(before[:, :, :2], after[:, :, :2])
    assert (before[:, :, 2] - after[:, :, 2]).abs().max() > 0.01
    shown = vae.decode(before), vae.decode(after)
    torch.testing.assert_close(shown[0][:, :, :5], shown[1][:, :, :5])


@torch.no_grad()
def test_an_image_is_the_first_frame_of_a_clip():
    vae, pixels = make(STRIDE_8), clips(2, 3, 9, 16, 16)
    latents = vae.to_latents(pixels)
    torch.testing.assert_close(vae.to_latents(pixels[:, :, :1]), latents[:, :, :1], atol=1e-4, rtol=0)
    image = vae.to_pixels(latents[:, :, :1])
    assert image.shape == (2, 3, 1, 16, 16)
    torch.testing.assert_close(image, vae.to_pixels(latents)[:, :, :1], atol=1e-4, rtol=0)


@torch.no_grad()
def test_memory_does_not_grow():
    vae, memory, sizes = make(STRIDE_8), Memory(), set()
    for frame in clips(1, 16, 6, 2, 2).split(1, dim=2):
        vae.decode_chunk(frame, memory)
        sizes.add(memory.num_bytes)
    assert len(sizes) == 1


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_tiles_have_no_seams(config):
    vae = make(config)
    stride = config.space_stride
    pixels = clips(1, 3, 5, 11 * stride, 8 * stride)
    tiling = Tiling(size=3, frames=1)
    latents = vae.to_latents(pixels)
    torch.testing.assert_close(vae.to_latents(pixels, tiling), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.to_pixels(latents, tiling), vae.to_pixels(latents), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (1, 3, 5, 20, 16), (1, 3, 5, 16, 12), (1, 1, 5, 16, 16)])
def test_sizes_that_do_not_fit_are_refused(shape):
    vae = make(STRIDE_8)
    with pytest.raises(ValueError, match=r"use \d+ or \d+|expected pixels of shape"):
        vae.to_latents(torch.zeros(shape))


def test_later_chunks_need_whole_blocks():
    vae = make(STRIDE_8)
    with pytest.raises(ValueError, match="expected 4 n"):
        list(vae.encode_stream([torch.zeros(1, 3, 5, 16, 16), torch.zeros(1, 3, 5, 16, 16)]))


def smooth_clips(count: int) -> list[torch.Tensor]:
    """Moving sinusoids: far fewer degrees of freedom than pixels."""
    generator = torch.Generator().manual_seed(0)
    time, row, column = torch.meshgrid(torch.arange(9.0), torch.arange(24.0), torch.arange(24.0), indexing="ij")
    waves = []
    for _ in range(count):
        a, b, c, *phases = (torch.rand(6, generator=generator) * torch.tensor([0.6, 0.3, 0.3, 6, 6, 6])).tolist()
        waves.append(torch.stack([torch.sin(a * time + b * row + c * column + phase) for phase in phases]))
    return waves


@torch.no_grad()
def test_principal_components_start_it():
    torch.manual_seed(0)
    vae, data = CausalVAE(STRIDE_8), smooth_clips(40)

    def error() -> float:
        batch = torch.stack(data[30:])
        return (vae.to_pixels(vae.to_latents(batch)) - batch).square().mean().item()

    before = error()
    vae.fit(data[:30], 30, torch.Generator().manual_seed(0))
    after = error()
    latents = vae.encode(torch.stack(data)).mean
    assert after < 0.05 * before
    assert 0.5 < latents.std(dim=(0, 2, 3, 4)).mean() < 1.5
    vae.linear.up.weight[:, :, [0, 2]] = 0.0  # without its neighbours a block is reconstructed worse
    assert error() > 1.05 * after


@torch.no_grad()
@pytest.mark.parametrize("spectrum", [0.0, 0.6])
def test_normalised_latents_keep_as_much_of_their_spectrum_as_asked(spectrum):
    torch.manual_seed(0)
    vae, data = CausalVAE(replace(STRIDE_8, spectrum=spectrum)), torch.stack(smooth_clips(40))
    vae.fit(list(data), 30, torch.Generator().manual_seed(0))
    latents = vae.to_latents(data)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4)), vae.latent_weight, atol=0.02, rtol=0.02)
    content = 1 / vae.linear.down.weight.norm(dim=1)
    torch.testing.assert_close(vae.latent_weight, (content / content.max()) ** spectrum)
    torch.testing.assert_close(vae.denormalize(latents), vae.encode(data).mean)


def test_principal_components_need_data():
    with pytest.raises(ValueError, match="need more than"):
        CausalVAE(STRIDE_8).fit([clips(3, 1, 8, 8)], 4, torch.Generator())


def test_bfloat16_is_close():
    vae, pixels = make(STRIDE_8), clips(2, 3, 9, 16, 16)
    results, gradients = [], []
    for enabled in (False, True):
        vae.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            other = vae.decode(vae.encode(pixels).mean)
        (other.float() - pixels).square().mean().backward()
        results.append(other.detach().float())
        gradients.append(torch.cat([p.grad.flatten() for p in vae.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0], results[1], atol=0.1, rtol=0.05)
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.99


def test_posterior_divergence_and_sample():
    vae = make(STRIDE_8)
    posterior = vae.encode(clips(1, 3, 5, 16, 16))
    normal = torch.distributions.Normal(posterior.mean, torch.exp(0.5 * posterior.logvar))
    standard = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(posterior.kl(), torch.distributions.kl_divergence(normal, standard))
    noise = torch.ones_like(posterior.mean)
    torch.testing.assert_close(posterior.sample(noise), normal.mean + normal.stddev)


def test_configs_decode_and_refuse_what_cannot_be_built():
    assert decode(VAEConfig, {"kind": "run", "path": "runs/vae"}) == RunVAEConfig(path=Path("runs/vae"))
    config = decode(VAEConfig, {"kind": "causal", "patch": 4, "widths": [8, 8, 8]})
    assert config.space_stride == 16
    assert CausalVAEConfig().space_stride == 8
    assert STRIDE_8.frame_steps == (2, 2)
    assert dataclasses.replace(STRIDE_8, time_stride=2).frame_steps == (1, 2)
    for wrong in ({"widths": [8]}, {"patch": 3}, {"time_stride": 64}):
        with pytest.raises(ConfigError):
            decode(VAEConfig, {"kind": "causal", **wrong})


def test_default_costs_less_than_half_of_wan():
    with torch.device("meta"):
        encode, decode_ = flops_per_pixel(build_vae(CausalVAEConfig()))
    assert encode < 0.5 * 5.1e6
    assert decode_ < 0.5 * 8.5e6
