"""What classifiers predict, how good that is, how sure, and how corrections compare."""

from ltkit.evaluation.choice import best, objective, run_accuracies
from ltkit.evaluation.comparison import compare
from ltkit.evaluation.entries import Entry, knobs, label, labels, settings_of, siblings
from ltkit.evaluation.prediction import check_fit, predict, predict_classes
from ltkit.evaluation.scores import Grouping, evaluate

__all__ = [
    "Entry",
    "Grouping",
    "best",
    "check_fit",
    "compare",
    "evaluate",
    "knobs",
    "label",
    "labels",
    "objective",
    "predict",
    "predict_classes",
    "run_accuracies",
    "settings_of",
    "siblings",
]
