import copy
import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from genworld.eval.perceptual import PerceptualDistance
from genworld.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from genworld.models.vae import CausalVAEConfig
from genworld.tasks.autoencode import AdversarialConfig, Autoencode, AutoencodeConfig, PerceptualConfig
from genworld.types import ClipInfo, ClipShape, Pack, Pick, Sample

TINY = CausalVAEConfig(patch=4, patch_frames=2, widths=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
ADVERSARIAL = AdversarialConfig(start=2, weight=0.5, discriminator=DiscriminatorConfig(widths=(8, 8)))
SHAPES = [ClipShape(5, 16, 16, 8.0), ClipShape(1, 16, 24, 1.0), ClipShape(5, 16, 16, 8.0), ClipShape(9, 16, 16, 8.0)]


class Blobs:
    """A clip source of soft moving blobs."""

    def __len__(self) -> int:
        return 100

    def info(self, index: int) -> ClipInfo:
        return ClipInfo("", 9, 16, 16, 8.0)

    def read(self, pick: Pick) -> Sample:
        frames, height, width, _ = pick.shape
        x, y, dx, colour = torch.rand(4, generator=torch.Generator().manual_seed(pick.index)).tolist()
        time, row, column = torch.meshgrid(*(torch.arange(float(n)) for n in (frames, height, width)), indexing="ij")
        distance = ((row - 16 * y) / 4) ** 2 + ((column - 16 * x - dx * time) / 4) ** 2
        blob = torch.exp(-distance)
        pixels = torch.stack([colour * blob, (1 - colour) * blob, 0.2 + 0 * blob]) * 2 - 1
        return Sample(pick.position, pick.shape, "", pixels=pixels)


def picks(count: int) -> list[Pick]:
    return [Pick(i, i, SHAPES[i % len(SHAPES)], 0.0) for i in range(count)]


def make_pack(count: int = 4) -> Pack:
    return Pack(tuple(Blobs().read(pick) for pick in picks(count)))


def make_task(**changes) -> Autoencode:
    torch.manual_seed(0)
    task = Autoencode(AutoencodeConfig(vae=TINY, **changes))
    task.prepare(Blobs(), picks(40))
    return task


def gradients(module: torch.nn.Module) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def test_units_are_latent_positions():
    assert make_task().units(make_pack()) == 2 * 4 + 6 + 2 * 4 + 3 * 4


def test_losses_are_sums_over_units_and_do_not_depend_on_the_company():
    task = make_task().eval()
    pack = make_pack()
    together = task(pack, seed=0, step=0)
    alone = [task(Pack((sample,)), seed=0, step=0) for sample in pack]
    torch.testing.assert_close(together.loss, sum(output.loss for output in alone))
    for name, value in together.logs.items():
        torch.testing.assert_close(value, sum(output.logs[name] for output in alone))
    assert task(pack, seed=1, step=0).loss != together.loss


def test_training_reduces_the_loss():
    task, pack = make_task(), make_pack()
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3, weight_decay=0.0)
    losses = []
    for step in range(20):
        optimizer.zero_grad()
        loss = task(pack, seed=0, step=step).loss / task.units(pack)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses


def test_latents_are_measured_before_and_during_training():
    task = make_task()
    pixels = [Blobs().read(pick).pixels[None] for pick in picks(40)]

    def normalized() -> torch.Tensor:
        return torch.cat([task.vae.to_latents(clip).flatten(2) for clip in pixels], dim=2)

    with torch.no_grad():
        torch.testing.assert_close(normalized().mean(dim=(0, 2)), torch.zeros(16), atol=1e-3, rtol=0)
        torch.testing.assert_close(normalized().std(dim=(0, 2)), task.vae.latent_weight, atol=1e-2, rtol=0)
        task.vae.linear.down.weight *= 3.0  # as if training had changed the encoder
        task.vae.linear.down.bias += 32.0
        task.config = dataclasses.replace(task.config, statistics_momentum=0.2)
        everything = Pack(tuple(Blobs().read(pick) for pick in picks(40)))
        for _ in range(30):
            task(everything, seed=0, step=0)
        assert normalized().mean(dim=(0, 2)).abs().max() < 0.1
        torch.testing.assert_close(normalized().std(dim=(0, 2)), task.vae.latent_weight, atol=0.1, rtol=0)
        measured = task.vae.latent_mean.clone()
        task.eval()(make_pack(), seed=0, step=0)
        torch.testing.assert_close(task.vae.latent_mean, measured, atol=0, rtol=0)


def test_a_broken_pack_does_not_reach_the_statistics():
    task, pack = make_task(), make_pack()
    measured = task.vae.latent_mean.clone()
    pack.samples[0].pixels[0] = torch.nan
    task(pack, seed=0, step=0)
    assert torch.equal(task.vae.latent_mean, measured)


def test_one_backward_pass_gives_each_network_its_own_gradients():
    task, pack = make_task(adversarial=ADVERSARIAL), make_pack(1)
    pixels = pack.samples[0].pixels[None]
    twin = copy.deepcopy(task)
    output = task(pack, seed=0, step=5)
    output.loss.backward()
    # The discriminator: its own hinge loss on a reconstruction cut off from the graph, and nothing else.
    posterior, other = twin._reconstruct(pixels, pack.samples, 0, 5)
    on_real, on_other = twin.discriminator(pixels), twin.discriminator(other.detach())
    hinge = 0.5 * (torch.relu(1 - on_real).mean() + torch.relu(1 + on_other).mean())
    (hinge * twin.units(pack)).backward()
    torch.testing.assert_close(gradients(task.discriminator), gradients(twin.discriminator))
    # The autoencoder: both of its losses, balanced at the last layer.
    twin.zero_grad()
    error = other - pixels
    reconstruction = 4.0 * error.square().mean()
    generated = -twin.discriminator(other).mean()
    last = twin.vae.last_layer
    lengths = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, generated)]
    balance = lengths[0] / (lengths[1] + 1e-4)
    torch.testing.assert_close(output.logs["balance"] / twin.units(pack), balance)
    total = reconstruction + 1e-4 * posterior.kl().mean() + 0.5 * balance * generated
    (total * twin.units(pack)).backward()
    torch.testing.assert_close(gradients(task.vae), gradients(twin.vae), atol=1e-6, rtol=1e-4)


def test_the_second_phase_starts_at_its_step_and_not_in_validation():
    task, pack = make_task(adversarial=ADVERSARIAL), make_pack()
    assert "adversarial" not in task(pack, seed=0, step=1).logs
    assert "adversarial" in task(pack, seed=0, step=2).logs
    with torch.no_grad():
        assert "adversarial" not in task(pack, seed=0, step=2).logs
    assert set(task.networks()) == {"vae", "discriminator"}
    assert set(make_task().networks()) == {"vae"}


def test_a_discriminator_sees_two_frames_back_per_level_and_refuses_odd_sizes():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(DiscriminatorConfig(widths=(4, 4)))
    pixels = torch.randn(1, 3, 8, 8, 12)
    changed = pixels.clone()
    changed[:, :, 1] += 1.0
    differs = (discriminator(pixels) != discriminator(changed)).any(dim=(0, 2, 3)).tolist()
    assert differs == [False, True, True, True, True, True, False, False]
    with pytest.raises(ValueError, match=r"2 levels needs a height and width divisible by 4, got 8x10"):
        discriminator(pixels[..., :10])


def test_a_frozen_encoder_gets_no_gradient():
    task, pack = make_task(freeze_encoder_at=3), make_pack()
    task(pack, seed=0, step=3).loss.backward()
    encoder = [*task.vae.encoder.parameters(), *task.vae.linear.down.parameters()]
    assert all(parameter.grad is None for parameter in encoder)
    assert all(parameter.grad is not None for parameter in task.vae.decoder.head.linear.parameters())
    task(pack, seed=0, step=2).loss.backward()
    assert all(parameter.grad is not None for parameter in task.vae.encoder.head.linear.parameters())


def test_bfloat16_gives_nearly_the_same_losses():
    task, pack = make_task(adversarial=ADVERSARIAL), make_pack()
    full = task(pack, seed=0, step=5)
    with torch.autocast("cpu", torch.bfloat16):
        half = task(pack, seed=0, step=5)
    torch.testing.assert_close(half.logs["mse"], full.logs["mse"], rtol=0.02, atol=0)
    half.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in task.parameters())


def test_perceptual_distance_from_a_local_file(tmp_path):
    import torchvision

    torch.manual_seed(0)
    weights = torchvision.models.squeezenet1_1(weights=None).state_dict()
    save_file(weights, tmp_path / "squeeze.safetensors")
    perceptual = PerceptualConfig(path=tmp_path / "squeeze.safetensors", backbone="squeeze", frames=2)
    task = Autoencode(AutoencodeConfig(vae=TINY, perceptual=perceptual))
    pack = Pack(tuple(Blobs().read(Pick(i, i, ClipShape(5, 32, 32, 8.0), 0.0)) for i in range(2)))
    output = task(pack, seed=0, step=0)
    assert output.logs["perceptual"] > 0
    output.loss.backward()
    assert all(parameter.grad is None for parameter in task.distance.parameters())
    with pytest.raises(ValueError, match="holds no torchvision weights of 'vgg'"):
        Autoencode(AutoencodeConfig(perceptual=dataclasses.replace(perceptual, backbone="vgg"), vae=TINY))
    torch.save(weights, tmp_path / "squeeze.pth")
    with pytest.raises(ValueError, match=r"pickles .* are not read"):
        PerceptualDistance(tmp_path / "squeeze.pth", "squeeze")


def test_pictures(tmp_path):
    files = make_task().preview([make_pack()], tmp_path / "new", seed=0)
    assert len(files) == 4
    assert all(file.stat().st_size > 0 for file in files)


def test_latents_instead_of_pixels_are_refused():
    sample = Sample(0, SHAPES[0], "", latents=torch.zeros(16, 2, 2, 2))
    with pytest.raises(ValueError, match="needs pixels"):
        make_task()(Pack((sample,)), seed=0, step=0)
