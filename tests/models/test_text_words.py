import time
import unicodedata

import pytest
import torch

from genworld.config import ConfigError, decode
from genworld.models.text import TextConfig, WordsEncoder, WordsTextConfig, build_text_encoder

CAPTIONS = [
    f"A {size} {colour} {shape} {motion} on the floor."
    for size in ("small", "large")
    for colour in ("red", "green", "blue", "yellow")
    for shape in ("sphere", "cube", "cylinder", "cone")
    for motion in ("bounces", "rolls to the left", "stays still")
]


def make_encoder(captions=CAPTIONS, **changes) -> WordsEncoder:
    torch.manual_seed(0)
    config = WordsTextConfig(**{"width": 32, "vocabulary": 400, "max_tokens": 32} | changes)
    encoder = build_text_encoder(config)
    encoder.fit(captions)
    for block in encoder.blocks:  # blocks start as the identity, where nothing could leak
        torch.nn.init.normal_(block.out.weight, std=0.2)
        torch.nn.init.normal_(block.down.weight, std=0.2)
    return encoder


def spell(encoder: WordsEncoder, ids: torch.Tensor) -> str:
    """The text that token ids stand for, without the end."""
    from tokenizers import Tokenizer, decoders

    tokenizer = Tokenizer.from_str(encoder.asset())
    tokenizer.decoder = decoders.ByteLevel()
    assert ids[-1] == 0
    return tokenizer.decode([i - 1 for i in ids.tolist()[:-1]], skip_special_tokens=False)


def test_packed_is_one_by_one() -> None:
    encoder = make_encoder()
    texts = [CAPTIONS[0], "", "blue cube", CAPTIONS[7], "x" * 20]
    together = encoder.encode(texts)
    alone = [encoder.encode([text]) for text in texts]
    assert together.segments.lengths == tuple(one.segments.total for one in alone)
    torch.testing.assert_close(together.features, torch.cat([one.features for one in alone]))
    assert together.features.shape[1] == encoder.width


def test_every_token_sees_its_whole_prompt_and_no_other() -> None:
    encoder = make_encoder()
    base = encoder.encode(["a red cube", "a blue cone"])
    first, second = base.features.split(base.segments.lengths)
    other = encoder.encode(["a red cube", "a blue sphere"])
    assert torch.equal(other.features[: len(first)], first)
    assert not torch.isclose(other.features[len(first)], second[0]).all()


def test_order_of_words_matters() -> None:
    encoder = make_encoder()
    a, b = encoder.encode(["red cube blue cone"]).features, encoder.encode(["blue cube red cone"]).features
    assert not torch.isclose(a[-1], b[-1], atol=1e-3).all()


def test_gradients_reach_everything_used() -> None:
    encoder = make_encoder()
    encoder.encode(CAPTIONS[:3]).features.square().mul(torch.randn(encoder.width)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "text", ["", "   ", "A Zebra, 3.5 m away!", "ein blauer Würfel", "红色的球 🎈", "<end> <pad>", "\n\ttabs"]
)
def test_no_word_is_unknown(text) -> None:
    encoder = make_encoder(max_tokens=64)
    (ids,) = encoder.tokenize([text])
    assert len(ids) >= 1
    assert ids.max() < 400
    assert spell(encoder, ids).strip() == unicodedata.normalize("NFC", text.strip().lower())


def test_spelling_does_not_matter_but_letters_do() -> None:
    encoder = make_encoder()
    lower, upper, composed, decomposed, other = encoder.tokenize(
        ["a red café", " A Red CAFÉ ", "a red caf\u00e9", "a red cafe\u0301", "a red cafe"]
    )
    for same in (upper, composed, decomposed):
        assert torch.equal(lower, same)
    assert not torch.equal(lower, other)


def test_words_of_the_captions_become_short() -> None:
    (ids,) = make_encoder().tokenize(["A small green cylinder stays still on the floor."])
    assert len(ids) <= 12


def test_the_vocabulary_depends_on_the_captions_only() -> None:
    encoder = make_encoder()
    assert make_encoder(list(reversed(CAPTIONS)) + CAPTIONS[:5]).asset() == encoder.asset()
    assert make_encoder(CAPTIONS[:8]).asset() != encoder.asset()


def test_the_vocabulary_is_saved_and_loaded() -> None:
    encoder, fresh = make_encoder(), WordsEncoder(WordsTextConfig(width=32, vocabulary=400, max_tokens=32))
    assert fresh.asset() is None
    fresh.load_asset(encoder.asset())
    fresh.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(fresh.encode(CAPTIONS[:2]).features, encoder.encode(CAPTIONS[:2]).features)
    assert fresh.asset() == encoder.asset()
    with pytest.raises(ValueError, match="vocabulary of 257"):
        WordsEncoder(WordsTextConfig(width=32, vocabulary=257)).load_asset(encoder.asset())


def test_the_smallest_vocabulary_is_bytes() -> None:
    encoder = make_encoder(vocabulary=257)
    (ids,) = encoder.tokenize(["red"])
    assert len(ids) == 5  # a space, three letters, the end
    assert spell(encoder, ids) == " red"


def test_errors() -> None:
    encoder = make_encoder(max_tokens=16)
    with pytest.raises(ValueError, match=r"has 22 tokens, more than the 16 .* shorten it, or .*`max_tokens`"):
        encoder.tokenize(["a red cube", "z" * 20])
    with pytest.raises(ValueError, match="no vocabulary yet"):
        WordsEncoder(WordsTextConfig()).tokenize(["a"])
    with pytest.raises(ValueError, match="all captions are empty"):
        WordsEncoder(WordsTextConfig()).fit(["", " "])
    with pytest.raises(ConfigError, match=r"text: width 100 is not divisible by num_heads 8"):
        decode(TextConfig, {"kind": "words", "width": 100, "num_heads": 8}, "text")
    with pytest.raises(ConfigError, match="at least 257"):
        decode(TextConfig, {"kind": "words", "vocabulary": 100})


def test_bfloat16_autocast_and_meta() -> None:
    encoder = make_encoder()
    exact = encoder.encode(CAPTIONS[:4]).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder.encode(CAPTIONS[:4]).features
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.05)
    with torch.device("meta"):
        empty = build_text_encoder(WordsTextConfig(vocabulary=50_000))
    assert empty.words.weight.is_meta


def test_it_learns_to_tell_colours_apart() -> None:
    """Trained with a linear head, the last token knows the colour of a caption it has not seen."""
    encoder = make_encoder(CAPTIONS)
    head = torch.nn.Linear(encoder.width, 4)
    colours = ["red", "green", "blue", "yellow"]
    labels = torch.tensor([next(i for i, c in enumerate(colours) if c in text) for text in CAPTIONS])
    train = torch.arange(len(CAPTIONS)) % 3 > 0
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)

    def logits(keep):
        packed = encoder.encode([text for text, kept in zip(CAPTIONS, keep, strict=True) if kept])
        return head(packed.features[packed.segments.offsets()[1:].long() - 1])

    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(logits(train), labels[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits(~train).argmax(1) == labels[~train]).float().mean() > 0.9


@pytest.mark.slow
def test_it_is_quick() -> None:
    encoder = make_encoder(width=192, max_tokens=64)
    tokens = encoder.tokenize(CAPTIONS[:24])
    encoder(tokens)
    start = time.process_time()
    for _ in range(10):
        encoder(tokens)
    assert (time.process_time() - start) / 10 < 0.03
