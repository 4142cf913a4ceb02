"""The commands as functions, for notebooks and scripts: the public API of ``import ltkit``.

Features and corrections are records in memory; tables are pandas data frames, and each keeps the
whole document that ``--json`` would print under ``frame.attrs["document"]``. Arrays may be NumPy's,
lists, or tensors. Nothing is printed, and nothing is written but where an output is named.
"""

from ltkit.evaluation.ensemble import ensemble
from ltkit.face.abstaining import rejects, risk_coverage
from ltkit.face.advice import adapt, diagnose, recommend
from ltkit.face.arrays import read_correction
from ltkit.face.fixing import Model, fix
from ltkit.face.inputs import extract, features, read
from ltkit.face.losses import loss
from ltkit.face.outputs import export, save
from ltkit.face.pages import report, study
from ltkit.face.sets import conformal, predict_sets
from ltkit.face.shipping import bundle, check
from ltkit.face.tables import compare, evaluate, nearest
from ltkit.face.unknowns import novelty
from ltkit.files.bases import with_base

__all__ = [
    "Model", "adapt", "bundle", "check", "compare", "conformal", "diagnose", "ensemble", "evaluate",
    "export", "extract", "features", "fix", "loss", "nearest", "novelty", "predict_sets", "read",
    "read_correction", "recommend", "rejects", "report", "risk_coverage", "save", "study",
    "with_base",
]  # fmt: skip
