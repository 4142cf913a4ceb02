"""Methods of several experts on a CUDA device. Run by `make gpu`."""

import pytest
import torch
from contrastive import built
from trained import fit, log

from ltkit import checkpoints, datasets
from ltkit.settings import LoadSettings, TrainSettings
from ltkit.training.starts import start_of
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

COSINE = {"arch": "digits_net_3experts_reduced", "cosine": True, "scale": 30.0}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_they_train_in_every_precision(tmp_path, amp, device):
    """From the experts to their student, their routers and their weights."""
    dataset = datasets.load("digits_lt")
    settings = TrainSettings(
        epochs=8, batch_size=32, schedule="onecycle", amp=amp, augment="rotation", nesterov=True
    )
    counts, more = dataset.classes.train_count, {"device": device, **COSINE}
    for name in ("ride", "sade"):
        output = tmp_path / f"{name}.pt"
        fit(dataset, output, settings, loss=built(name, counts), method=name, **more)
        assert log(output)[-1]["val"]["balanced"] > 0.4  # chance: 0.1
    teacher = teacher_of(tmp_path / "ride.pt", dataset)
    taught = tmp_path / "taught.pt"
    fit(dataset, taught, settings, loss=built("ride", counts), teacher=teacher, **more)
    assert log(taught)[-1]["val"]["balanced"] > 0.4
    start = start_of(tmp_path / "sade.pt", keep_head=True)
    for name, head in (("router", "router"), ("expert-weights", "weighted")):
        output = tmp_path / f"{name}.pt"
        fit(dataset, output, settings, loss=built(name, counts), method=name, start=start, **more)
        assert log(output)[-1]["val"]["balanced"] > 0.4
        assert checkpoints.load(output, LoadSettings(head=head)).head.num_classes == 10
