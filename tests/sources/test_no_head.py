"""Features alone, of a model whose last layer is for other classes."""

import numpy as np
import torch

from ltkit import architectures
from ltkit.files import features as features_file


def test_a_head_of_other_classes_is_left_out(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architectures.build("digits_net", 37).eval()
    state = {k.removeprefix("backbone."): v for k, v in network.state_dict().items()}
    torch.save({k.replace("head.", "fc."): v for k, v in state.items()}, "m.pt")
    words = [
        "extract",
        "m.pt",
        "--data",
        "digits_lt:val=none",
        "--mean",
        "0.5",
        "--std",
        "0.5",
        "-o",
    ]
    code, _, said = ltkit(*words, "f.h5")
    assert code == 2
    assert "found 37 classes, expected 10" in said
    assert "--no-head takes features alone" in said
    code, _, said = ltkit(*words, "f.h5", "--no-head")
    assert code == 0
    assert "accuracy of the model's own head" not in said
    found = features_file.read(tmp_path / "f.h5")
    assert found.head is None
    assert found.settings["no_head"] is True
    assert ltkit("posthoc", "ncm", "f.h5")[0] == 0
    code, out, _ = ltkit("evaluate", "f.h5", "--json", "--replicates", "100")
    assert code == 0
    assert '"name": "ncm"' in out
    assert np.isfinite(found.split("train").features[:]).all()
    code, _, said = ltkit("export", "f.ncm.h5", "--into", "m.pt", "-o", "x.pt")
    assert code == 2
    assert "--to npz" in said
