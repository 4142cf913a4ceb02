"""Abstention: which samples are handed over to a person, for the balanced error.

Source:
    Narasimhan et al., Learning to Reject Meets Long-Tail Learning, ICLR 2024; the baseline is
    Chow, IEEE Transactions on Information Theory 16, 1970, on the max softmax.
"""

from ltkit.abstention.abstaining import Abstention as Abstention
from ltkit.abstention.abstaining import Asked as Asked
from ltkit.abstention.abstaining import Rejections as Rejections
from ltkit.abstention.abstaining import rejections as rejections
from ltkit.abstention.abstaining import rejections_of_logits as rejections_of_logits
from ltkit.abstention.abstaining import risk_coverage as risk_coverage

__all__ = [
    "Abstention", "Asked", "Rejections", "rejections", "rejections_of_logits", "risk_coverage",
]  # fmt: skip
