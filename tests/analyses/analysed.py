"""What tests of ``ltkit analyze`` and ``ltkit alphanet show`` share."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

import ltkit
from ltkit.cli import app
from ltkit.errors import InputError, SettingError
from ltkit.files import classifiers
from ltkit.settings import flag

DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"
FEW, BASE = range(70, 100), range(70)
RHOS, SEEDS = (0.5, 1.0), 2


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)))
    if code == 0:
        assert result.exception is None, result.exception
    return result


def refused(*words):
    result = run(*words, code=2)
    assert isinstance(result.exception, InputError), result.exception
    message = _as_printed(result.exception)
    assert "\n" not in message
    return message


def _as_printed(error):
    """What the command line says of an error: the option in the place of the setting."""
    return f"{flag(error.name)}: {error.said}" if isinstance(error, SettingError) else str(error)


def nearest(means, class_id, among, k):
    gaps = [(float(np.linalg.norm(means[class_id] - means[b])), b) for b in among if b != class_id]
    return sorted(gaps)[:k]


def accuracy(known, predicted, class_id):
    return float((predicted[known["labels"] == class_id] == class_id).mean())


def one_rho(path, out, rho=0.5, digest=None):
    """Write the runs of one rho of a fit to another file."""
    correction, inputs = classifiers.read(Path(path))
    rows = [n for n, r in enumerate(correction.runs) if r["rho"] == rho]
    part = replace(
        correction, weight=correction.weight[rows], bias=correction.bias[rows],
        runs=tuple(correction.runs[n] for n in rows),
        extra={name: values[rows] for name, values in correction.extra.items()},
    )  # fmt: skip
    inputs = inputs if digest is None else {"features": digest}
    classifiers.write(Path(out), part, settings={}, inputs=inputs, command="")
