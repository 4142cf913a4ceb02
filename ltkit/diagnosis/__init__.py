"""What a rare class's error is made of: the prior, its row, frequent neighbours, the features.

`diagnose` compares three heads on a split, in folds that they were not fitted to, and says how much
of the error each lack causes, with intervals, and which corrections can mend it. Nothing is read of
the test split unless it is named.

Source:
    ltkit's own, after Theorem 2 of the unified perspective on classifier bias: at the boundary of
    two classes the log odds are 0, wherever a prior moves it.
"""

from ltkit.diagnosis.answers import MEANING as MEANING
from ltkit.diagnosis.answers import conclusion as conclusion
from ltkit.diagnosis.diagnosing import Diagnosis as Diagnosis
from ltkit.diagnosis.diagnosing import diagnose as diagnose

__all__ = ["MEANING", "Diagnosis", "conclusion", "diagnose"]
