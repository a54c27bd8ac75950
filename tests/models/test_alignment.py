"""The towers: what they must not depend on, what they must, and the encoder that comes with genworld."""

import logging
import re

import pytest
import torch
from torch import Tensor

from genworld.models.alignment import (
    DualEncoder,
    DualEncoderConfig,
    EncoderCard,
    load_encoder,
    load_world_clip,
    save_encoder,
)
from genworld.models.alignment_video import Standard, VideoTowerConfig, spread_frames
from genworld.models.text import WordsTextConfig

TEXTS = ["a red ball", "A small shiny blue cube rolls to the left.", "green cone"]


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    torch.manual_seed(0)
    config = DualEncoderConfig(
        width=16,
        video=VideoTowerConfig(size=32, stem=(16, 32), depth=1, num_heads=2, max_frames=5),
        text=WordsTextConfig(width=16, depth=1, num_heads=2, vocabulary=300),
    )
    encoder = DualEncoder(config)
    for name, parameter in encoder.named_parameters():
        if re.search(r"blocks\.\d+\.(out|down)\.weight", name) or name.endswith("attend.weight"):
            torch.nn.init.normal_(parameter, std=0.2)  # they start as the identity, and as the mean
    encoder.fit(TEXTS, [videos(4, 5), videos(3, 1)])
    return encoder.eval()


def videos(num: int, frames: int, height: int = 32, width: int = 32) -> Tensor:
    noise = torch.Generator().manual_seed(num * 100 + frames)
    return torch.rand(num, 3, frames, height, width, generator=noise) * 2 - 1


def test_features_are_unit_vectors_and_deterministic(encoder: DualEncoder) -> None:
    for features in (encoder.encode_videos(videos(3, 5)), encoder.encode_texts(TEXTS)):
        assert features.shape == (3, encoder.width)
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
        assert not features.requires_grad
    assert torch.equal(encoder.encode_videos(videos(3, 5)), encoder.encode_videos(videos(3, 5)))


def test_an_image_is_a_video_of_one_frame(encoder: DualEncoder) -> None:
    images = videos(3, 1)
    assert torch.equal(encoder.encode_images(images[:, :, 0]), encoder.encode_videos(images))


def test_a_still_video_of_any_length_is_its_image(encoder: DualEncoder) -> None:
    image = videos(2, 1)
    expected = encoder.encode_videos(image)
    for length in (2, 3, 4, 9):
        torch.testing.assert_close(
            encoder.encode_videos(image.expand(-1, -1, length, -1, -1)), expected, atol=1e-5, rtol=0
        )


def test_batch_and_order_do_not_matter(encoder: DualEncoder) -> None:
    batch, texts = videos(5, 3), [*TEXTS, "a red ball", "cone"]
    together = encoder.encode_videos(batch)
    torch.testing.assert_close(
        torch.cat([encoder.encode_videos(one[None]) for one in batch]), together, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(encoder.encode_videos(batch.flip(0)), together.flip(0), atol=1e-5, rtol=0)
    words = encoder.encode_texts(texts)
    torch.testing.assert_close(torch.cat([encoder.encode_texts([text]) for text in texts]), words, atol=1e-5, rtol=0)
    assert torch.equal(words[0], words[3])


def test_the_order_of_frames_matters(encoder: DualEncoder) -> None:
    batch = videos(2, 3)
    assert not torch.allclose(encoder.encode_videos(batch.flip(2)), encoder.encode_videos(batch), atol=1e-3)


def test_long_videos_are_looked_at_in_spread_frames(encoder: DualEncoder) -> None:
    batch = videos(2, 17)
    assert spread_frames(17, 5) == [0, 4, 8, 12, 16]
    assert spread_frames(2, 5) == [0, 1]
    assert torch.equal(encoder.encode_videos(batch), encoder.encode_videos(batch[:, :, [0, 4, 8, 12, 16]]))


def test_any_size_is_taken(encoder: DualEncoder) -> None:
    """A picture enlarged by repeating pixels is nearly the same picture; a wide one keeps its sides."""
    batch = torch.nn.functional.interpolate(videos(2, 1, 4, 4)[:, :, 0], scale_factor=8)[:, :, None]
    large = batch.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)
    likeness = encoder.encode_videos(batch) @ encoder.encode_videos(large).T
    assert likeness.diagonal().min() > max(0.9, likeness[0, 1], likeness[1, 0])
    wide = videos(1, 1, 32, 56)
    changed = wide.clone()
    changed[..., :8] = 1
    assert not torch.allclose(encoder.encode_videos(wide), encoder.encode_videos(changed), atol=1e-4)
    assert encoder.encode_videos(videos(1, 1, 7, 300)).isfinite().all()


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 1, 32, 32), torch.zeros(2, 3, 0, 32, 32), videos(1, 1).byte()],
)
def test_what_is_no_batch_of_videos(encoder: DualEncoder, pixels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected floating-point pixels \[B 3 F H W\] in \[-1, 1\], got"):
        encoder.encode_videos(pixels)
    with pytest.raises(ValueError, match=r"\[n 3 H W\]"):
        encoder.encode_images(pixels.flatten(0, 1))


def test_foreign_words_and_long_texts_are_logged(encoder: DualEncoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        encoder.encode_texts(["a red giraffe"])
        encoder.encode_texts(["red giraffe"])
        encoder.encode_texts(["red ball " * 40])
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].endswith("never say giraffe")
    assert len(messages) == 2  # a word is told once
    assert "is cut to the 64" in messages[1]


def test_standard_takes_away_what_inputs_have_in_common() -> None:
    standard = Standard(3)
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 0.1, 0.0]) + 7
    standard.fit(x)
    y = standard(x, dim=1)
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(y.std(dim=0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-3, rtol=0)


def test_saved_and_loaded(encoder: DualEncoder, tmp_path) -> None:
    save_encoder(tmp_path, encoder, EncoderCard(20.0, "noise", {"seed": 0}))
    loaded, card = load_encoder(tmp_path)
    assert (card.scale, card.domain, card.made) == (20.0, "noise", {"seed": 0})
    assert not loaded.training
    assert loaded.words == encoder.words
    torch.testing.assert_close(
        loaded.encode_videos(videos(2, 3)), encoder.encode_videos(videos(2, 3)), atol=0.02, rtol=0
    )
    torch.testing.assert_close(loaded.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=0.02, rtol=0)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"depth": 1', '"depth": 2'))
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit config\.json"):
        load_encoder(tmp_path)
    (tmp_path / "words.txt").unlink()
    with pytest.raises(ValueError, match=r"no encoder in .*: words\.txt not found"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": ()}, "at least one number of channels"),
        ({"stem": (16, 30)}, "divisible by num_heads 4"),
        ({"size": 60}, "a multiple of the stem's stride 16"),
        ({"max_frames": 0}, "max_frames must be at least 1"),
    ],
)
def test_configs_that_cannot_be_built(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoTowerConfig(**changes)


# ---- the encoder that comes with genworld ----


def test_the_encoder_of_the_world_names_fresh_renders() -> None:
    from genworld.eval.retrieval import accuracy, class_features
    from genworld.eval.retrieval_world import CLASSES, encode
    from genworld.types import ClipShape
    from genworld.world import WorldConfig, sample_clip

    encoder = load_world_clip()
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    shape, world = ClipShape(5, 64, 64, 2.0), WorldConfig(max_objects=1, occluders=0.0)
    clips = [sample_clip(seed, world, shape) for seed in range(2_000_000_000, 2_000_000_024)]
    labels = torch.tensor([CLASSES.index(clip.scene.objects[0].name) for clip in clips])
    features = encode(encoder, clips)
    assert features.shape == (24, encoder.width)
    assert accuracy(features, class_features(encoder, CLASSES), labels) >= 22 / 24
