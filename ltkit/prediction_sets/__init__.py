"""Sets of classes that have the true one with a wanted coverage: conformal prediction.

`conformal` calibrates scores and thresholds on val, and says what they come to for rare classes;
`predict_sets` applies the rule it gives. What each guarantees stands in `thresholds.PROMISES`.

Source:
    Angelopoulos and Bates, A Gentle Introduction to Conformal Prediction, arXiv:2107.07511; for
    long tails: Ding et al. 2023, arXiv:2306.09335, and 2025, arXiv:2507.06867.
"""

from ltkit.prediction_sets.calibrating import Conformal as Conformal
from ltkit.prediction_sets.calibrating import Wanted as Wanted
from ltkit.prediction_sets.calibrating import conformal as conformal
from ltkit.prediction_sets.calibrating import measure as measure
from ltkit.prediction_sets.sets import KIND as KIND
from ltkit.prediction_sets.sets import predict_sets as predict_sets
from ltkit.prediction_sets.sets import sets_of_logits as sets_of_logits

__all__ = ["KIND", "Conformal", "Wanted", "conformal", "measure", "predict_sets", "sets_of_logits"]
