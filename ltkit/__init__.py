"""ltkit: long-tailed classification on cached features.

    import ltkit

    f = ltkit.read("feats.h5")         # or ltkit.features(train=(x, y), test=(x, y), weight=w)
    c = ltkit.posthoc.blend(f)         # parameters are chosen on validation data
    ltkit.evaluate(f, c)["accuracy"]   # a data frame

The functions here do what the commands do (docs/python.md); the modules below take and return
arrays (docs/architecture.md). Modules are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ltkit.version import __version__

FUNCTIONS = (
    "Model", "adapt", "bundle", "check", "compare", "conformal", "diagnose", "ensemble", "evaluate",
    "export", "extract", "features", "fix", "loss", "nearest", "novelty", "predict_sets", "read",
    "read_correction", "recommend", "rejects", "report", "risk_coverage", "save", "study",
    "with_base",
)  # fmt: skip
ELSEWHERE = {"import_arrays": "ltkit.sources.arrays"}
"""Functions that the face has no other form of."""

PACKAGES = (
    "alphanet", "datasets", "estimators", "losses", "posthoc", "prefit", "records", "training",
)  # fmt: skip

__all__ = ["__version__", *ELSEWHERE, *FUNCTIONS, *PACKAGES]

if TYPE_CHECKING:
    from ltkit import alphanet as alphanet
    from ltkit import datasets as datasets
    from ltkit import estimators as estimators
    from ltkit import losses as losses
    from ltkit import posthoc as posthoc
    from ltkit import prefit as prefit
    from ltkit import records as records
    from ltkit import training as training
    from ltkit.face import Model as Model
    from ltkit.face import adapt as adapt
    from ltkit.face import bundle as bundle
    from ltkit.face import check as check
    from ltkit.face import compare as compare
    from ltkit.face import conformal as conformal
    from ltkit.face import diagnose as diagnose
    from ltkit.face import ensemble as ensemble
    from ltkit.face import evaluate as evaluate
    from ltkit.face import export as export
    from ltkit.face import extract as extract
    from ltkit.face import features as features
    from ltkit.face import fix as fix
    from ltkit.face import loss as loss
    from ltkit.face import nearest as nearest
    from ltkit.face import novelty as novelty
    from ltkit.face import predict_sets as predict_sets
    from ltkit.face import read as read
    from ltkit.face import read_correction as read_correction
    from ltkit.face import recommend as recommend
    from ltkit.face import rejects as rejects
    from ltkit.face import report as report
    from ltkit.face import risk_coverage as risk_coverage
    from ltkit.face import save as save
    from ltkit.face import study as study
    from ltkit.face import with_base as with_base
    from ltkit.sources.arrays import import_arrays as import_arrays


def __getattr__(name: str) -> Any:
    """Import an attribute on first use."""
    if name in FUNCTIONS:
        return getattr(importlib.import_module("ltkit.face"), name)
    if name in ELSEWHERE:
        return getattr(importlib.import_module(ELSEWHERE[name]), name)
    if name in PACKAGES:
        return importlib.import_module(f"ltkit.{name}")
    raise AttributeError(f"module 'ltkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
