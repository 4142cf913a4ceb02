"""The appendix's table against what evaluate says of the same fits."""

from importlib import resources

import numpy as np
import pytest
from made import refused
from studies.short import appendix_points

import ltkit
from ltkit.alphanet.study import fit_features
from ltkit.studies import alphanet_appendix


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    bundled = resources.files("ltkit") / "data" / "demo" / "feats.h5"
    path = tmp_path_factory.mktemp("demo") / "feats.h5"
    path.write_bytes(bundled.read_bytes())
    return ltkit.read(path)


@pytest.fixture(scope="module")
def found(features, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        appendix_points(patch)
        output = tmp_path_factory.mktemp("o") / "o"
        return ltkit.study("alphanet-appendix", features, output=output)


@pytest.fixture(scope="module")
def scored(features):
    """Rows of evaluate for the Euclidean fits, by rho."""
    fitted = fit_features(features, k=5, rhos=alphanet_appendix.RHOS, seeds=2)
    document = ltkit.evaluate(features, fitted, topk=[1, 5]).attrs["document"]
    own, *rows = document["rows"]
    return own, {row["settings"]["rho"]: row for row in rows}


def euclidean(found, top):
    own = found[(found["metric"] == "euclidean") & (found["top"] == top)]
    return own[~own["of"].str.startswith("class ")]


def test_changes_are_those_of_evaluate(found, scored):
    own, rows = scored
    for row in euclidean(found, 1).itertuples():
        assert row.change == pytest.approx(rows[row.rho]["difference"][row.of], abs=1e-9)
    for row in euclidean(found, 5).itertuples():
        expected = rows[row.rho]["top5"][row.of] - own["top5"][row.of]
        assert row.change == pytest.approx(expected, abs=1e-9)


def test_intervals_are_about_those_of_one_seed_and_its_images(found):
    """Every interval has its change in it, and is not longer than that of few images may be."""
    grouped = found[~found["of"].str.startswith("class ")]
    assert (grouped["low"] <= grouped["change"]).all()
    assert (grouped["change"] <= grouped["high"]).all()


def test_classes_come_to_their_groups(found, features):
    own = found[(found["metric"] == "euclidean") & (found["top"] == 1) & (found["rho"] == 0.5)]
    by_class = own[own["of"].str.startswith("class ")].set_index("of")["change"]
    few = [f"class {c}" for c in features.groups(None).few]
    expected = own[own["of"] == "few"]["change"].item()
    assert by_class[few].mean() == pytest.approx(expected, abs=1e-9)
    assert len(by_class) == 100


def test_what_it_says(found):
    said = dict(found.attrs["document"]["sentences"])
    few = found[(found["of"] == "few") & (found["top"] == 1)]
    first = 100 * few[few["rho"] == 0.25]["change"].mean()
    assert f"at ρ 0.25 few gains {first:+.1f} points" in said["rho"]
    assert "k 5" in said["k"]
    assert "2 seeds a setting" in said["how"]


def test_a_file_without_rare_test_samples_is_refused(features, tmp_path):
    test, train, head = features.split("test"), features.split("train"), features.classifier()
    keep = ~np.isin(test.labels, features.groups(None).few)
    without = ltkit.features(
        train=(train.features[:], train.labels), test=(test.features[:][keep], test.labels[keep]),
        weight=head.weight, bias=head.bias, train_counts=features.classes.train_count,
    )  # fmt: skip
    output = tmp_path / "o"
    refused(
        lambda: ltkit.study("alphanet-appendix", without, output=output),
        "test: found no sample of a few-shot class",
    )
    assert not output.exists()


def test_of_few_base_classes_as_many_neighbours_as_there_are(features, tmp_path):
    from ltkit.studies import Given

    given = Given("small", 0, tmp_path, features)
    assert {point["k"] for point in alphanet_appendix.points(given)} == set(range(1, 11))
