"""Which correction to ship: chosen by cross-validation inside the validation split, or none.

`recommend` fits the family of corrections, chooses method and setting on validation data, estimates
the gain in folds that the choice was not made in, and returns the correction with a document that
says what it gains, what it costs and how sure that is. The test split is never read.
"""

from ltkit.recommendation.answers import answer as answer
from ltkit.recommendation.answers import ship as ship
from ltkit.recommendation.documents import summary as summary
from ltkit.recommendation.recommending import Recommendation as Recommendation
from ltkit.recommendation.recommending import recommend as recommend
from ltkit.recommendation.wanted import Wanted as Wanted

__all__ = ["Recommendation", "Wanted", "answer", "recommend", "ship", "summary"]
