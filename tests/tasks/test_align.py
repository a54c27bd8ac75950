"""Contrastive losses against plain numpy, temperature, duplicates, and two processes against one."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from align_process import CAPTIONS, SHARES, joined_pack, make_task, step
from safetensors.torch import load_file
from torch.nn.functional import normalize

from genworld.tasks.align import (
    Align,
    AlignConfig,
    CLIPLoss,
    CLIPLossConfig,
    Rows,
    SigLIPLoss,
    SigLIPLossConfig,
    keep_below,
)
from genworld.types import ClipInfo, Pack, Pick

PROGRAM = Path(__file__).parent / "align_process.py"
ROOT = Path(__file__).parents[2]


def rows(same: torch.Tensor | None = None, num: int = 6, width: int = 5) -> Rows:
    noise = torch.Generator().manual_seed(num)
    videos, texts = (normalize(torch.randn(num, width, generator=noise, dtype=torch.float64), dim=-1) for _ in "vt")
    return Rows(videos, texts, videos, texts, torch.eye(num, dtype=torch.bool) if same is None else same)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def test_clip_loss_is_the_symmetric_cross_entropy_of_the_paper() -> None:
    given = rows()
    logits = given.videos.numpy() @ given.texts.numpy().T / 0.07
    both = [-np.diag(log_softmax(each)).sum() for each in (logits, logits.T)]
    assert CLIPLoss(CLIPLossConfig())(given).item() == pytest.approx(sum(both) / 2, rel=1e-6)


def test_siglip_loss_is_the_sum_over_all_pairs() -> None:
    given = rows()
    cosines = given.videos.numpy() @ given.texts.numpy().T
    signs = 2 * np.eye(6) - 1
    expected = np.log1p(np.exp(-signs * (10 * cosines - 10))).sum()
    assert SigLIPLoss(SigLIPLossConfig())(given).item() == pytest.approx(expected, rel=1e-6)


def test_equal_captions_are_not_pushed_apart() -> None:
    """Samples 0 and 3 say the same: the loss is 0 where they share their probability, and it is no loss to do so."""
    same = torch.eye(4, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    corners = torch.eye(4, dtype=torch.float64)
    corners[3] = corners[0]
    perfect = Rows(corners, corners, corners, corners, same)
    assert CLIPLoss(CLIPLossConfig(temperature=0.01))(perfect).item() == pytest.approx(0, abs=1e-7)
    assert CLIPLoss(CLIPLossConfig(temperature=0.01))(rows(torch.eye(4, dtype=torch.bool), 4)).item() > 1
    ignoring = Rows(corners, corners, corners, corners, torch.eye(4, dtype=torch.bool))
    assert CLIPLoss(CLIPLossConfig(temperature=0.01))(ignoring).item() == pytest.approx(2 * math.log(2), abs=1e-6)


def test_divergence_has_the_gradients_of_soft_cross_entropy() -> None:
    same = torch.eye(6, dtype=torch.bool)
    same[1, 2] = same[2, 1] = True
    given, loss = rows(same), CLIPLoss(CLIPLossConfig())
    videos = given.videos.clone().requires_grad_()
    loss(Rows(videos, given.texts, videos, given.texts, same)).backward()
    ours, videos.grad = videos.grad, None
    target = same / same.sum(dim=1, keepdim=True)
    logits = videos @ given.texts.T / 0.07
    plain = -(target * (logits.log_softmax(1) + logits.T.log_softmax(1))).sum() / 2
    plain.backward()
    torch.testing.assert_close(ours, videos.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("loss", [CLIPLoss(CLIPLossConfig()), SigLIPLoss(SigLIPLossConfig())])
def test_scale_starts_as_published_and_stays_below_a_hundred(loss: CLIPLoss | SigLIPLoss) -> None:
    expected = 1 / 0.07 if isinstance(loss, CLIPLoss) else 10
    assert loss.scale().item() == pytest.approx(expected, rel=1e-6)
    with torch.no_grad():
        loss.log_scale.fill_(7.0)
    assert loss.scale().item() == pytest.approx(100, rel=1e-6)


def test_a_scale_that_is_too_large_can_come_back_but_not_go_on() -> None:
    x = torch.tensor([1.0, 3.0, 3.0, 2.0], requires_grad=True)
    y = keep_below(x, 2.0)
    assert y.tolist() == [1.0, 2.0, 2.0, 2.0]
    (y * torch.tensor([-1.0, -1.0, 1.0, -1.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-1.0, 0.0, 1.0, -1.0]  # descent goes against the gradient


def test_accuracy_counts_equal_captions_as_right() -> None:
    task = make_task("clip").eval()
    with torch.no_grad():
        output = task(joined_pack(), 0, 0)
        videos, texts = task.features(joined_pack())
    keys = [" ".join(text.lower().split()) for text in CAPTIONS]
    found = [(videos @ texts.T).argmax(1).tolist(), (texts @ videos.T).argmax(1).tolist()]
    right = sum(keys[i] == keys[j] for best in found for i, j in enumerate(best)) / 2
    assert output.logs["accuracy"].item() == right
    assert output.logs["scale"].item() == pytest.approx(len(CAPTIONS) / 0.07, rel=1e-5)
    assert task.units(joined_pack()) == len(CAPTIONS)


def test_order_and_shapes_in_a_pack_do_not_matter() -> None:
    task, pack = make_task("clip").eval(), joined_pack()
    order = [6, 0, 5, 3, 1, 4, 2]
    with torch.no_grad():
        videos, texts = task.features(pack)
        others = task.features(Pack(tuple(pack.samples[i] for i in order)))
        torch.testing.assert_close(others[0], videos[order], atol=1e-6, rtol=0)
        torch.testing.assert_close(others[1], texts[order], atol=1e-6, rtol=0)
        assert task(pack, 0, 0).loss.item() == pytest.approx(
            task(Pack(tuple(pack.samples[i] for i in order)), 0, 0).loss.item(), rel=1e-5
        )


def test_two_processes_are_one_with_the_joined_batch(tmp_path: Path) -> None:
    """Uneven shares; captions that repeat across ranks; both losses; values and gradients."""
    words = [sys.executable, str(PROGRAM)]
    processes = [
        subprocess.Popen(
            [*words, str(rank), str(tmp_path / "store"), str(tmp_path)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(len(SHARES))
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    for kind in ("clip", "siglip"):
        expected = step(make_task(kind), joined_pack(), 1)
        assert len(expected) > 20
        for rank in range(len(SHARES)):
            found = load_file(tmp_path / f"{kind}_{rank}.safetensors")
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                rounding = 1e-5 * max(value.abs().max().item(), 1.0)  # terms are larger than their float32 sums
                torch.testing.assert_close(found[name], value, atol=rounding, rtol=0, msg=f"{kind} {rank}: {name}")


class Captions:
    """A source of captions without pixels."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def info(self, index: int) -> ClipInfo:
        return ClipInfo(self.texts[index], 1, 16, 16, 1.0, f"clip_{index}.mp4")

    def read(self, pick: Pick):
        return joined_pack().samples[pick.index]


def test_captions_that_cannot_be_aligned() -> None:
    task = Align(AlignConfig(encoder=make_task("clip").config.encoder))
    picks = [Pick(0, 0, joined_pack().samples[0].shape, 0.0)]
    with pytest.raises(ValueError, match=r"1 of 3 clips have no caption, the first is clip_1\.mp4"):
        task.prepare(Captions(["a red ball", " ", "a cube"]), picks)
    with pytest.raises(ValueError, match=r"the caption of clip clip_1\.mp4: .* more than the 64"):
        task.prepare(Captions(["a red ball", "x y " * 60]), picks)
    task.prepare(Captions(["a red ball", "a cube"]), picks)
    assert task.encoder.words == {"a", "red", "ball", "cube"}
