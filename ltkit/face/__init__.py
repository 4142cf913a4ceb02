"""The commands as functions, for notebooks and scripts: the public API of ``import ltkit``.

Features and corrections are records in memory; tables are pandas data frames, and each keeps the
whole document that ``--json`` would print under ``frame.attrs["document"]``. Arrays may be NumPy's,
lists, or tensors. Nothing is printed, and nothing is written but where an output is named.
"""

from ltkit.evaluation.ensemble import ensemble
from ltkit.face.advice import adapt, diagnose, recommend
from ltkit.face.arrays import read_correction
from ltkit.face.fixing import Model, fix
from ltkit.face.inputs import extract, features, read
from ltkit.face.losses import loss
from ltkit.face.outputs import export, save
from ltkit.face.pages import report, study
from ltkit.face.tables import compare, evaluate, nearest
from ltkit.files.bases import with_base

__all__ = [
    "Model", "adapt", "compare", "diagnose", "ensemble", "evaluate", "export", "extract",
    "features", "fix", "loss", "nearest", "read", "read_correction", "recommend", "report", "save",
    "study", "with_base",
]  # fmt: skip
