"""A CLIP of transformers too small to be any good, whose weights are noise: for what must hold whatever they are."""

from __future__ import annotations

from pathlib import Path

import torch


def make_clip(folder: Path) -> Path:
    """Write model, image processor and tokenizer as `save_pretrained` does."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {"vocab_size": 259, "max_position_embeddings": 24, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=tower | words, vision_config=tower | {"image_size": 16, "patch_size": 8}, projection_dim=8
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16).save_pretrained(folder)
    vocabulary = {"<pad>": 0, "</s>": 1, "<s>": 2}
    vocabulary |= {byte: 3 + i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = [("<s>", 2), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>"
    ).save_pretrained(folder)
    return folder
