import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps

from genworld.nn.embed import LevelEmbedding, RayEmbedding, sinusoids


def test_sinusoids_are_diffusers():
    values = torch.tensor([0.0, 1.5, 999.0])
    expected = Timesteps(32, flip_sin_to_cos=True, downscale_freq_shift=0)(values)
    torch.testing.assert_close(sinusoids(values, 32), expected, atol=1e-4, rtol=1e-4)


def test_level_embedding_is_diffusers_and_ignores_autocast():
    mine, theirs = LevelEmbedding(16), TimestepEmbedding(256, 16)
    theirs.linear_1.load_state_dict(mine.up.state_dict())
    theirs.linear_2.load_state_dict(mine.down.state_dict())
    levels = torch.tensor([0.0, 0.2505, 0.251, 1.0])
    expected = theirs(Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)(1000 * levels))
    torch.testing.assert_close(mine(levels), expected, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mine(levels), mine(levels))
        assert mine(levels).dtype == torch.float32


def test_rays_are_told_apart_that_differ_by_a_degree():
    """The point of the waves: one frame's turn of a slow pan is small in numbers and large in features."""
    turn = torch.deg2rad(torch.tensor([0.0, 1.0]))
    rays = torch.stack([turn.sin(), 0 * turn, turn.cos(), 0 * turn, 0 * turn, 0 * turn, 1 + 0 * turn], dim=1)
    width = RayEmbedding(1).out.in_features
    embedding = RayEmbedding(width)
    torch.nn.init.eye_(embedding.out.weight)  # shows the features themselves
    one, two = embedding(rays).detach()
    assert (one - two).norm() > 20 * (rays[0] - rays[1]).norm()


def test_unknown_rays_add_nothing_and_autocast_changes_nothing():
    embedding = RayEmbedding(16)
    rays = torch.randn(5, 7)
    rays[:, 6] = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    out = embedding(rays)
    assert (out[1::2] == 0).all()
    assert (out[::2] != 0).all()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(embedding(rays).float(), out, atol=0.05, rtol=0.05)
