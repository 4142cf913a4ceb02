"""Predictions of classifiers, their scores and intervals, and comparisons of corrections."""

from ltkit.evaluation.choice import best, objective, run_accuracies
from ltkit.evaluation.comparison import compare
from ltkit.evaluation.confusion import confusion_table, group_confusions, most_confused
from ltkit.evaluation.entries import (
    Entry,
    entries_of,
    knobs,
    label,
    mean_heads,
    of_seeds,
    one_run,
    pick,
    settings_of,
    siblings,
)
from ltkit.evaluation.frontier import knob_of
from ltkit.evaluation.grouping import Grouping, grouping_of
from ltkit.evaluation.on_val import OnVal, on_val
from ltkit.evaluation.prediction import check_fit, predict, predict_classes, predict_scaled
from ltkit.evaluation.probabilities import mean_softmax
from ltkit.evaluation.scores import class_table, evaluate

__all__ = [
    "Entry",
    "Grouping",
    "OnVal",
    "best",
    "check_fit",
    "class_table",
    "compare",
    "confusion_table",
    "entries_of",
    "evaluate",
    "group_confusions",
    "grouping_of",
    "knob_of",
    "knobs",
    "label",
    "mean_heads",
    "mean_softmax",
    "most_confused",
    "objective",
    "of_seeds",
    "on_val",
    "one_run",
    "pick",
    "predict",
    "predict_classes",
    "predict_scaled",
    "run_accuracies",
    "settings_of",
    "siblings",
]
