r"""Whether samples can differ from validation data in how often classes occur, and in no more.

Under such a shift any statistic's mean is that of the classes, mixed by their shares:

.. math:: g = \frac1N \sum_i s(x_i) - \sum_c q_c \, E[s(x) | c] = 0

The shares are learned from the probabilities alone, so statistics that these do not determine are
free to contradict it: `ltkit.adaptation.likelihoods.STATISTICS`, of which a blurred or darker
picture, another preprocessing, or a class never seen moves at least one. What moves features within
the span of the classes as another mix of them would, nothing can tell from such a mix.

The covariance of g is that over draws of both samples, with the shares found anew in each; the test
is Hotelling's. benchmarks/adaptation.py has its size and power.

Source:
    ltkit's own; Hansen, Econometrica 50, 1982 (tests of overidentifying restrictions).
"""

from dataclasses import dataclass

import numpy as np

from ltkit.adaptation.estimators import Drawn
from ltkit.adaptation.likelihoods import STATISTICS, Doubles, Likelihoods
from ltkit.adaptation.validation import ValDraws

ROUNDING = 1e-5
"""Added, as a deviation, to that of each statistic; these are computed in float32."""


@dataclass(frozen=True, eq=False)
class ShiftTest:
    """Whether the shift is one of classes' shares alone.

    p: chance of as large a difference under such a shift.
    z: by statistic, its difference in standard deviations.
    """

    p: float
    z: dict[str, float]

    @property
    def most(self) -> str:
        """The statistic that differs most."""
        return max(self.z, key=lambda name: abs(self.z[name]))


def test(
    target: Likelihoods, columns: Drawn, val: ValDraws, shares: Doubles, drawn: Doubles
) -> ShiftTest:
    """Compare the samples' statistics with those of validation samples mixed by the shares.

    Args:
        target: N samples.
        columns: R draws of them.
        val: R draws of validation samples.
        shares: (C,) that were learned.
        drawn: (C, R) that were learned of the draws.
    """
    found, totals, size = np.zeros(len(STATISTICS)), np.zeros((len(drawn[0]), len(STATISTICS))), 0.0
    for start, p, s in target.blocks():
        w = columns.weights(start, len(p))
        found += s.sum(axis=0, dtype=np.float64)
        totals += np.transpose(w) @ s.astype(np.float64)
        size = size + np.sum(w, axis=0)
    apart = found / len(target) - shares @ val.means
    draws = totals / np.maximum(size, 1)[:, None] - np.einsum("cr,rcd->rd", drawn, val.drawn)
    return hotelling(apart, draws)


def hotelling(apart: Doubles, draws: Doubles) -> ShiftTest:
    """Return the test of a mean of 0, from (d,) values and (R, d) draws of them.

    A difference is at least rounding, so that a statistic which never varies, such as the length of
    normalised features, counts where it differs and only there.

    Example:
        >>> draws = np.random.default_rng(0).normal(size=(500, 4))
        >>> near, far = (hotelling(np.full(4, x), draws).p for x in (0.1, 3.0))
        >>> near > 0.5, far < 1e-4
        (True, True)
    """
    from scipy.stats import f

    deviation = np.sqrt(draws.var(axis=0, ddof=1) + ROUNDING**2)
    z, noise = apart / deviation, (draws - draws.mean(axis=0)) / deviation
    correlation = noise.T @ noise / (len(draws) - 1) + np.diag((ROUNDING / deviation) ** 2)
    square = float(z @ np.linalg.solve(correlation, z))
    freedom, count = len(apart), len(draws)
    scaled = square * (count - freedom) / (freedom * (count - 1))
    named = dict(zip(STATISTICS, z.tolist(), strict=True))
    return ShiftTest(float(f.sf(scaled, freedom, count - freedom)), named)
