"""The demo, on the files that the package carries."""

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ltkit import checkpoints
from ltkit.cli import app
from ltkit.cli.demo import STEPS
from ltkit.files import features as features_file

BUNDLED = Path(str(resources.files("ltkit"))) / "data" / "demo"


def test_bundled_files_are_small_and_belong_together():
    feats, network = BUNDLED / "feats.h5", BUNDLED / "resnet32.safetensors"
    assert feats.stat().st_size < 4_000_000
    assert network.stat().st_size < 1_000_000
    features = features_file.read(feats)
    sizes = {name: len(split) for name, split in features.splits.items()}
    assert sizes == {"train": 10_827, "val": 2_000, "test": 10_000}
    model = checkpoints.load(network)
    np.testing.assert_array_equal(model.head.weight, features.head.weight)
    assert model.trained_on["index_digest"] == features.settings["dataset"]["index_digest"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("demo")
    patch.chdir(folder)
    result = CliRunner().invoke(app, ["demo"], catch_exceptions=False)
    yield folder, result
    patch.undo()


def test_it_runs_and_prints_each_command(demo):
    folder, result = demo
    assert result.exit_code == 0, result.output
    for command, _ in STEPS:
        assert f"$ {command}\n" in result.stdout
    assert (folder / "ltkit-demo" / "feats.alphanet.h5").is_file()
    assert "open ltkit-demo/report.html in a browser" in result.stdout
    assert "</html>" in (folder / "ltkit-demo" / "report.html").read_text(encoding="utf-8")


def test_alphanet_raises_the_few_classes_by_more_than_the_spread_of_its_seeds(demo):
    _, result = demo
    number = r"(-?[\d.]+)"
    few = float(re.search(rf"^ ?baseline +{number}", result.stdout, re.MULTILINE)[1])
    row = re.search(
        rf"^ ?alphanet k 5 rho \S+ \* +{number} ± {number}", result.stdout, re.MULTILINE
    )
    mean, deviation = float(row[1]), float(row[2])
    assert mean - few > 3 * deviation


def test_a_second_run_asks_before_it_replaces(demo):
    again = CliRunner().invoke(app, ["demo"])
    assert "--overwrite" in str(again.exception)


@pytest.mark.more
def test_a_second_run_replaces(demo):
    assert CliRunner().invoke(app, ["demo", "--overwrite"]).exit_code == 0
