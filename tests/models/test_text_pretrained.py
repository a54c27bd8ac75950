import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genworld.config import decode
from genworld.models.text import CLIPTextConfig, T5TextConfig, TextConfig, UMT5TextConfig, build_text_encoder

TEXTS = ["a red cube", "", "a large blue sphere rolls to the left and then bounces", "cone", "a red cone"]
CONFIGS = {"t5": T5TextConfig, "umt5": UMT5TextConfig, "clip": CLIPTextConfig}


def save_tokenizer(folder: Path, kind: str) -> None:
    """A byte-level tokenizer in the layout of transformers, with the end token (and for CLIP the start) it adds."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "</s>": 1, "<s>": 2}
    vocabulary |= {byte: 3 + i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    single = "<s> $A </s>" if kind == "clip" else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 2), ("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


def make_network(kind: str):
    import transformers

    torch.manual_seed(0)
    if kind == "clip":
        return transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=259,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                bos_token_id=2,
                eos_token_id=1,
                pad_token_id=0,
            )
        )
    names = {"t5": ("T5Config", "T5EncoderModel"), "umt5": ("UMT5Config", "UMT5EncoderModel")}
    config_class, model_class = (getattr(transformers, name) for name in names[kind])
    return model_class(config_class(vocab_size=259, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))


@pytest.fixture(scope="module", params=CONFIGS)
def saved(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    make_network(request.param).save_pretrained(folder)
    save_tokenizer(folder, request.param)
    return request.param, folder


def reference(kind: str, folder: Path, text: str) -> Tensor:
    """What transformers itself makes of one prompt, unpadded."""
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder, local_files_only=True)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return make_network(kind).eval()(input_ids=ids).last_hidden_state[0]


def test_a_pack_holds_what_each_prompt_gives_alone(saved) -> None:
    kind, folder = saved
    encoder = build_text_encoder(CONFIGS[kind](path=folder))
    packed = encoder.encode(TEXTS)
    alone = [reference(kind, folder, text) for text in TEXTS]
    assert packed.segments.lengths == tuple(map(len, alone))
    assert min(packed.segments.lengths) >= 1
    torch.testing.assert_close(packed.features, torch.cat(alone), atol=1e-5, rtol=1e-4)
    assert packed.features.shape[1] == encoder.width == 16


def test_it_is_frozen(saved) -> None:
    kind, folder = saved
    encoder = build_text_encoder(CONFIGS[kind](path=folder)).train()
    assert not encoder.trainable
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.encode(TEXTS).features.requires_grad
    assert encoder.asset() is None


def test_from_a_config(saved) -> None:
    kind, folder = saved
    config = decode(TextConfig, {"kind": kind, "path": str(folder), "max_tokens": 60, "dtype": "bfloat16"})
    encoder = build_text_encoder(config)
    assert encoder.encode(["a"]).features.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"tokens, more than the 60 .*`max_tokens`"):
        encoder.tokenize(["z" * 80])


def test_without_memory_on_the_meta_device(saved) -> None:
    kind, folder = saved
    with torch.device("meta"):
        encoder = build_text_encoder(CONFIGS[kind](path=folder))
    assert all(parameter.is_meta for parameter in encoder.parameters())
    assert encoder.width == 16


def test_the_layout_of_a_pipeline(tmp_path) -> None:
    make_network("t5").save_pretrained(tmp_path / "text_encoder")
    save_tokenizer(tmp_path / "tokenizer", "t5")
    packed = build_text_encoder(T5TextConfig(path=tmp_path)).encode(["a red cube"])
    torch.testing.assert_close(packed.features, reference("t5", tmp_path / "tokenizer", "a red cube"))


def test_a_missing_folder(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no text encoder in .*nowhere: expected config.json.*no such folder"):
        build_text_encoder(T5TextConfig(path=tmp_path / "nowhere"))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"expected config.json, \*.safetensors.*found \['notes.txt'\]"):
        build_text_encoder(CLIPTextConfig(path=tmp_path))


def test_a_folder_of_another_kind_or_without_weights(tmp_path) -> None:
    make_network("umt5").save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "umt5")
    with pytest.raises(ValueError, match=r"holds a 'umt5' model, not 't5': use `kind: umt5`"):
        build_text_encoder(T5TextConfig(path=tmp_path))
    weights = next(tmp_path.glob("*.safetensors"))
    weights.unlink()
    with pytest.raises(ValueError, match=r"no \.safetensors weights"):
        build_text_encoder(UMT5TextConfig(path=tmp_path))


def test_incomplete_weights(tmp_path) -> None:
    make_network("t5").save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "t5")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 3}))
    with pytest.raises(ValueError, match=r"missing or mis-shaped are .*block\.2\."):
        build_text_encoder(T5TextConfig(path=tmp_path))


def test_clip_has_only_so_many_positions(tmp_path) -> None:
    make_network("clip").save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "clip")
    with pytest.raises(ValueError, match=r"max_tokens is 100, but the encoder in .* has 77 positions"):
        build_text_encoder(CLIPTextConfig(path=tmp_path, max_tokens=100))
