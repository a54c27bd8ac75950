"""CLIP scores against plain sums, and against torchmetrics through a tiny CLIP."""

import json
import logging
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_clip import make_clip
from torch import Tensor
from torch.nn.functional import cosine_similarity

from genworld.eval.clip_score import CLIPScore, PretrainedCLIP

TEXTS = ["a red cube", "a large blue sphere rolls to the left", "cone"]


class Linear:
    """A fixed random encoder; it counts the images it has seen at once."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def encode_images(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return images.flatten(1) @ torch.randn(images[0].numel(), 5, generator=torch.Generator().manual_seed(0))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[len(text), text.count("e"), text.count("a"), 1.0, 3.0] for text in texts])


def videos(num: int, frames: int, size: int = 4) -> Tensor:
    return torch.rand(num, 3, frames, size, size, generator=torch.Generator().manual_seed(num + frames)) * 2 - 1


def oracle(clips: list[Tensor], texts: list[str]) -> dict[str, float]:
    """Frame by frame, from the definitions."""
    encoder, cosines, consistency = Linear(), [], []
    for clip, text in zip(clips, texts, strict=True):
        frames = [encoder.encode_images(frame[None])[0] for frame in clip.unbind(1)]
        prompt = encoder.encode_texts([text])[0]
        cosines.append([cosine_similarity(frame, prompt, dim=0).item() for frame in frames])
        near = [cosine_similarity(*pair, dim=0).item() for pair in pairwise(frames)]
        consistency += [sum(near) / len(near)] if near else []
    every = [cosine for video in cosines for cosine in video]
    return {
        "clip_score[linear]": max(100 * sum(every) / len(every), 0),
        "clipsim[linear]": sum(sum(video) / len(video) for video in cosines) / len(cosines),
        "frame_consistency[linear]": sum(consistency) / len(consistency),
    }


def as_floats(result: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in result.items()}


def test_each_convention_is_its_definition() -> None:
    """Videos of five and of two frames weigh the same in clipsim, and by their frames in clip_score."""
    metric, long, short = CLIPScore(Linear(), "linear"), videos(3, 5), videos(2, 2)
    metric.update(long, TEXTS)
    metric.update(short, TEXTS[:2])
    expected = oracle([*long, *short], [*TEXTS, *TEXTS[:2]])
    assert as_floats(metric.compute()) == pytest.approx(expected, abs=1e-5)
    assert metric.per_video()["num_frames"].tolist() == [5, 5, 5, 2, 2]


def test_only_the_mean_is_clamped_and_only_in_one_convention() -> None:
    encoder = Linear()
    metric, clip = CLIPScore(encoder, "linear"), videos(1, 1)
    sign = cosine_similarity(encoder.encode_images(clip[:, :, 0]), encoder.encode_texts(TEXTS[:1])).sign()
    metric.update(-sign * clip, TEXTS[:1])
    result = metric.compute()
    assert result["clip_score[linear]"] == 0 > result["clipsim[linear]"]
    assert "frame_consistency[linear]" not in result
    before = metric.per_video()["cosine"]
    metric.update(sign * clip, TEXTS[:1])
    assert metric.per_video()["cosine"].tolist() == [before.item(), -before.item()]
    assert metric.compute()["clip_score[linear]"] == pytest.approx(0, abs=1e-5)


def test_order_chunks_and_merging_do_not_matter() -> None:
    clips, texts, encoder = videos(4, 6), [*TEXTS, "cone"], Linear()
    metric, parts = CLIPScore(Linear(), "linear"), [CLIPScore(encoder, "linear", 5), CLIPScore(Linear(), "linear", 5)]
    metric.update(clips, texts, positions=range(4))
    for part, order in zip(parts, ([3, 1], [2, 0]), strict=True):
        part.update(clips[order], [texts[i] for i in order], positions=order)
    assert encoder.seen == [5, 5, 2]
    parts[0].merge_state(parts[1])
    assert as_floats(parts[0].compute()) == pytest.approx(as_floats(metric.compute()), abs=1e-6)
    for name, column in metric.per_video().items():
        torch.testing.assert_close(parts[0].per_video()[name], column, atol=1e-6, rtol=0)
    metric.reset()
    with pytest.warns(UserWarning, match="before the"), pytest.raises(ValueError, match="CLIPScore has seen no videos"):
        metric.compute()


def test_without_prompts_there_is_only_the_consistency_of_frames() -> None:
    clips = videos(3, 4)
    told, silent = CLIPScore(Linear(), "x"), CLIPScore(Linear(), "x")
    told.update(clips, ["a", "bb", "ccc"])
    silent.update(clips, None)
    assert as_floats(silent.compute()) == {"frame_consistency[x]": as_floats(told.compute())["frame_consistency[x]"]}


def test_prompts_of_others_are_kept_beside_their_own() -> None:
    clips = videos(3, 4)
    metric, other = CLIPScore(Linear(), "x"), CLIPScore(Linear(), "x")
    metric.update(clips, ["a", "bb", "ccc"], range(3), others=["bb", "ccc", "a"])
    other.update(clips, ["bb", "ccc", "a"], range(3))
    torch.testing.assert_close(metric.per_video()["other"], other.per_video()["cosine"])


def test_bad_input() -> None:
    metric = CLIPScore(Linear(), "linear")
    with pytest.raises(ValueError, match="3 videos need as many prompts, got 2"):
        metric.update(videos(3, 2), TEXTS[:2])
    with pytest.raises(ValueError, match=r"cosine of the videos \[1\] is not finite"):
        metric.update(torch.stack([videos(1, 2)[0], videos(1, 2)[0] * torch.nan]), TEXTS[:2])


# Through transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


def torchmetrics_score(folder: Path):
    """torchmetrics' own metric on that folder; it expects plain tensors, which transformers 5 wraps."""
    import transformers
    from torchmetrics.multimodal import CLIPScore as Reference

    network = transformers.CLIPModel.from_pretrained(folder)
    images = transformers.AutoImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = SimpleNamespace(
        config=network.config,
        get_image_features=lambda pixels: network.get_image_features(pixels).pooler_output,
        get_text_features=lambda ids, keep: network.get_text_features(ids, attention_mask=keep).pooler_output,
    )
    model.to = lambda device: model

    def processor(text=None, images=None, **settings):
        return tokenizer(text, **settings) if images is None else image_processor(images, return_tensors="pt")

    image_processor = images
    parts: Any = (model, processor)
    return Reference(lambda: parts)


def test_parity_with_torchmetrics(folder) -> None:
    texts = ["a red cube", "a blue sphere rolls", "cone"]
    clips = videos(3, 4, size=20)
    levels = ((clips + 1) * 127.5).round().to(torch.uint8)
    metric, reference = CLIPScore(PretrainedCLIP(folder), "tiny"), torchmetrics_score(folder)
    metric.update(clips, texts)
    for video, text in zip(levels, texts, strict=True):
        reference.update(list(video.unbind(1)), [text] * 4)
    expected = reference.compute()
    assert expected != 0
    torch.testing.assert_close(metric.compute()["clip_score[tiny]"], expected.detach(), atol=1e-4, rtol=1e-5)


def test_long_prompts_are_cut_at_their_end_with_a_warning(folder, caplog) -> None:
    clip, text = PretrainedCLIP(folder), "a long prompt that goes on and on"
    with caplog.at_level(logging.WARNING):
        features = clip.encode_texts([text])
    assert "a prompt of 35 tokens is cut to the 24" in caplog.text
    torch.testing.assert_close(features, clip.encode_texts([text[:22]]))
    torch.testing.assert_close(clip.encode_texts([text, "cone"])[1:], clip.encode_texts(["cone"]), atol=1e-5, rtol=1e-5)


def test_a_loaded_clip_is_frozen(folder) -> None:
    clip = PretrainedCLIP(folder).train()
    assert not any(module.training for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())


def test_bad_folders(folder, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"there is no such folder\. Nothing is downloaded"):
        PretrainedCLIP(tmp_path / "none")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"lacks preprocessor_config\.json"):
        PretrainedCLIP(copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no \.safetensors weights"):
        PretrainedCLIP(copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "clip_text_model"}))
    with pytest.raises(ValueError, match="holds a 'clip_text_model' model"):
        PretrainedCLIP(copy)
