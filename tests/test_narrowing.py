"""What a narrower type does not hold is refused, and nothing else."""

import made
import numpy as np
import pytest

from ltkit.errors import FormatError, InputError
from ltkit.files import features, hdf5
from ltkit.files.features_writer import FeaturesWriter
from ltkit.narrowing import as_float32, first_lost


def rows(scale=1.0, dtype=np.float32):
    return (np.random.default_rng(0).normal(size=(50, 8)) * scale).astype(dtype)


@pytest.mark.parametrize(
    ("values", "stored", "lost"),
    [
        (rows(), "float16", False), (rows(1e-3), "float16", False),
        (rows(1e-8), "float16", True), (rows(1e-6), "float16", True),
        (rows(1e-50, np.float64), "float32", True), (rows(1e-43, np.float64), "float32", True),
        (rows(1e-30, np.float64), "float32", False), (rows(1e-45), "float32", False),
        (np.zeros((3, 4)), "float16", False), (np.arange(12).reshape(3, 4), "float16", False),
        (np.full((2, 3), (1 << 53) + 1), "float32", False), (np.zeros((0, 3)), "float16", False),
        (rows(1e-50, np.longdouble), "float64", False),
    ],
)  # fmt: skip
def test_what_is_lost(values, stored, lost):
    assert (first_lost(values, values.astype(stored)) is not None) == lost


def test_one_lost_row_is_named():
    values = rows()
    values[17] *= 1e-9
    assert first_lost(values, values.astype(np.float16)) == 17


def test_large_values_do_not_hide_the_others():
    values = rows(1e-9)
    values[:, 0] = 1000
    assert first_lost(values, values.astype(np.float16)) == 0
    values = rows()  # a few small ones among large ones are no loss
    values[:, :3] *= 1e-9
    assert first_lost(values, values.astype(np.float16)) is None


@pytest.mark.parametrize(("scale", "dtype"), [(1e-8, "float16"), (1e-50, "float32")])
def test_features_that_vanish_are_not_stored(tmp_path, scale, dtype):
    plan = made.plan(dtype=dtype)
    with FeaturesWriter(tmp_path / "f.h5", plan, command="x", resume=False) as writer:
        made.refused(
            lambda: writer.append("train", rows(scale, np.float64)),
            "train: row 0: values of", f"lose more than 0.4 % in {dtype}", error=InputError,
        )  # fmt: skip


def test_weights_that_vanish_are_refused():
    for values, said in (
        (rows(1e-50, np.float64), "a: weight: row 0: values of at"),
        (rows(1e-50, np.float64)[0], "a: weight: values of at"),
    ):
        made.refused(lambda v=values: as_float32(v, "a: weight", "mend it"), said, "; mend it")
    np.testing.assert_array_equal(as_float32(rows(1e-20, np.float64), "w"), rows(1e-20))


def test_features_of_doubles_are_read_as_float32_or_refused(tmp_path):
    """Of other programs; ltkit itself stores at most float32."""
    plan, path = made.plan(), tmp_path / "f.h5"
    for scale, fits in ((1.0, True), (1e-50, False), (1e50, False)):
        sound = plan.arrays() | {
            f"{s}/features": v.astype(float) * scale for s, v in made.features(plan).items()
        }
        made.crafted(path, hdf5.FEATURES, sound, plan.attributes())
        split = features.read(path).split("train")
        if fits:
            assert split.features[3:9].dtype == np.float32
        else:
            made.refused(lambda s=split: s.features[3:9], "train/features: row 3", error=InputError)


def test_a_head_of_doubles_that_vanishes_in_a_file(tmp_path):
    plan, path = made.plan(), tmp_path / "f.h5"
    sound = plan.arrays() | {f"{s}/features": v for s, v in made.features(plan).items()}
    small = plan.head.weight.astype(float) * 1e-50
    made.crafted(path, hdf5.FEATURES, sound, plan.attributes(), **{"head/weight": small})
    made.refused(lambda: features.read(path), "head/weight", "vanish", error=FormatError)
