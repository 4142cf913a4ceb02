"""Contrastive methods on a CUDA device. Run by `make gpu`."""

import pytest
import torch
from contrastive import CONTRASTIVE, UNLABELLED, built, plain_views
from trained import fit, log

from ltkit import checkpoints, datasets
from ltkit.settings import TrainSettings
from ltkit.training.teachers import teacher_of

DEVICES = [
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
    pytest.param("cpu", marks=pytest.mark.more),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_teacher_teaches_in_every_precision(tmp_path, amp, device):
    dataset = datasets.load("digits_lt")
    settings = TrainSettings(epochs=12, batch_size=32, schedule="onecycle", amp=amp)
    fit(dataset, tmp_path / "teacher.pt", settings, device=device)
    method = built("distill", dataset.classes.train_count)
    teacher = teacher_of(tmp_path / "teacher.pt", dataset)
    fit(
        dataset, tmp_path / "net.pt", settings, loss=method, method="distill", device=device,
        teacher=teacher,
    )  # fmt: skip
    assert log(tmp_path / "net.pt")[-1]["val"]["balanced"] > 0.3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("name", CONTRASTIVE)
def test_they_train_in_every_precision(tmp_path, name, amp, device):
    """With views, keys and queues on the device."""
    dataset = datasets.load("digits_lt")
    settings = TrainSettings(epochs=12, batch_size=32, schedule="onecycle", amp=amp)
    method = built(name, dataset.classes.train_count, **plain_views(name))
    fit(dataset, tmp_path / "net.pt", settings, loss=method, method=name, device=device)
    lines = log(tmp_path / "net.pt")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["val"]["balanced"] > (0.2 if name in UNLABELLED else 0.3)  # chance: 0.1
    head = checkpoints.load(tmp_path / "net.pt").head
    assert head is not None
    assert head.num_classes == 10
