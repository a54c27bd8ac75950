"""Tiny random networks in folders, as a user would put the public ones there."""

from __future__ import annotations

import json
from pathlib import Path

from tests.models.scene_llm_cases import save_llm


def save_vit(folder: Path) -> Path:
    """A vision transformer of 32 features, patches of 7 pixels, pictures of 28."""
    import torch
    import transformers

    torch.manual_seed(2)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
    transformers.Dinov2Model(transformers.Dinov2Config(**size)).save_pretrained(folder)
    look = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(look))
    return folder


def save_weights(folder: Path) -> Path:
    """What configs/scene/3dllm_*.yaml look for in `weights`."""
    save_vit(folder / "vit")
    save_llm(folder / "flan_t5", "t5")
    return folder
