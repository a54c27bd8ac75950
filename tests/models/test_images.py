import json
from pathlib import Path

import pytest
import torch
from torch import nn

from genworld.models.images import EncodedViews, RandomEncoderConfig, ViTEncoder, ViTEncoderConfig, build_image_encoder
from genworld.types import View

MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}


def picture(*size: int) -> torch.Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def save(model: nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": DEVIATION}))
    return folder


def tiny(family: str) -> tuple[nn.Module, nn.Module]:
    """A model as it is saved, and the vision tower in it."""
    import transformers as t

    torch.manual_seed(0)
    if family == "clip":
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        whole = t.CLIPModel(t.CLIPConfig(vision_config={**TINY, "intermediate_size": 32}, text_config=text))
        return whole, whole.vision_model
    if family == "blip-2":
        former = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "encoder_hidden_size": 32}
        words = {
            "model_type": "opt",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "ffn_dim": 16,
        }
        config = t.Blip2Config(
            vision_config={**TINY, "intermediate_size": 32},
            qformer_config={**former, "intermediate_size": 16},
            text_config={**words, "vocab_size": 64, "word_embed_proj_dim": 16},
        )
        whole = t.Blip2ForConditionalGeneration(config)
        return whole, whole.model.vision_model if hasattr(whole, "model") else whole.vision_model
    model = t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**TINY, num_register_tokens=4))
    return model, model


@pytest.mark.parametrize(("family", "specials"), [("clip", 1), ("dinov2", 5), ("blip-2", 1)])
def test_patches_of_a_transformers_tower_are_its_hidden_states(family, specials, tmp_path):
    whole, tower = tiny(family)
    encoder = ViTEncoder(ViTEncoderConfig(path=save(whole, tmp_path / family)))
    pixels = picture(28, 28)
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
    with torch.no_grad():
        hidden = tower.eval()(pixel_values=(((pixels + 1) / 2 - mean) / deviation)[None]).last_hidden_state[0]
    assert hidden.shape == (16 + specials, 32)
    features = encoder(pixels)
    assert features.shape == (4, 4, 32)
    assert encoder.width == 32
    torch.testing.assert_close(features.flatten(0, 1), hidden[specials:], atol=1e-5, rtol=1e-4)
    assert encoder(picture(56, 84)).shape == (4, 6, 32)  # the shorter side at the size it was trained at


def test_patches_of_a_timm_tower_are_its_hidden_states(tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **settings)
    known = {"input_size": [3, 32, 32], "mean": MEAN, "std": DEVIATION, "num_classes": 0}
    about = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "model_args": settings, "pretrained_cfg": known}
    (tmp_path / "config.json").write_text(json.dumps(about))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = ViTEncoder(ViTEncoderConfig(path=tmp_path))
    pixels = picture(32, 32)
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
    with torch.no_grad():
        hidden = model.eval().forward_features((((pixels + 1) / 2 - mean) / deviation)[None])[0]
    torch.testing.assert_close(encoder(pixels).flatten(0, 1), hidden[1:], atol=1e-5, rtol=1e-4)
    assert encoder(picture(40, 64)).shape == (4, 6, 24)


def test_a_random_encoder_is_one_matrix_per_patch():
    encoder = build_image_encoder(RandomEncoderConfig(patch=4, width=512))
    pixels = picture(8, 12)
    features = encoder(pixels)
    assert features.shape == (2, 3, 512)
    moved = encoder(pixels.roll(4, dims=2))
    torch.testing.assert_close(moved[:, 1:], features[:, :-1])
    patch = pixels[:, :4, :4]
    assert 0.7 < features[0, 0].norm() / patch.norm() < 1.3
    assert torch.equal(features, build_image_encoder(RandomEncoderConfig(patch=4, width=512))(pixels))
    assert not torch.equal(features, build_image_encoder(RandomEncoderConfig(patch=4, width=512, seed=1))(pixels))
    table = EncodedViews(encoder)(0, View(pixels, None, torch.eye(4), torch.eye(3)))
    assert torch.equal(table.rows[table.index], features)


def test_a_folder_that_lacks_something_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Nothing is downloaded"):
        ViTEncoder(ViTEncoderConfig(path=tmp_path / "nowhere"))
    model, _ = tiny("dinov2")
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"preprocessor_config.json"):
        ViTEncoder(ViTEncoderConfig(path=tmp_path / "bare"))
    from safetensors.torch import load_file, save_file

    folder = save(model, tmp_path / "less")
    state = load_file(folder / "model.safetensors")
    state.popitem()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="do not fill Dinov2WithRegistersModel"):
        ViTEncoder(ViTEncoderConfig(path=folder))
