"""What a CUDA device must give: the same as the CPU, up to rounding. Run by `make gpu`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ltkit.training.run import train
from test_alphanet import QUICK, made, neighbors_of

from ltkit import alphanet, checkpoints, datasets
from ltkit.files import features
from ltkit.losses import ce
from ltkit.settings import ExtractSettings, TrainSettings
from ltkit.sources import extraction

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_alphanet_fits_the_same():
    base, train_split, val = made()
    near = neighbors_of(train_split)
    runs = [replace(QUICK, rho=rho, seed=seed) for rho in (0.5, 2.0) for seed in (0, 1)]
    on_cpu = alphanet.fit(base, near, train_split, val, runs)
    on_gpu = alphanet.fit(base, near, train_split, val, runs, device="cuda")
    np.testing.assert_array_equal(on_cpu.extra["epoch"], on_gpu.extra["epoch"])
    np.testing.assert_allclose(on_cpu.extra["alpha"], on_gpu.extra["alpha"], atol=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("amp", "compiled"), [("off", False), ("bf16", False), ("fp16", False), ("bf16", True)]
)
def test_trains_and_extracts(tmp_path, amp, compiled):
    dataset = datasets.load("digits_lt")
    settings = TrainSettings(
        epochs=5, batch_size=32, schedule="onecycle", amp=amp, compile=compiled
    )
    path = tmp_path / "m.pt"
    train(dataset, "digits_net", ce.loss, settings, path, method="ce", device="cuda")
    found = {}
    for device in ("cpu", "cuda"):
        output: Path = tmp_path / f"{device}.h5"
        model = checkpoints.load(path)
        extraction.extract(model, dataset, ["test"], output, ExtractSettings(), device=device)
        found[device] = features.read(output).split("test")
    np.testing.assert_allclose(found["cpu"].features[:], found["cuda"].features[:], atol=1e-3)
