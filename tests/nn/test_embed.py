import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps

from genworld.nn.embed import LevelEmbedding, sinusoids


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
