r"""The costs of a rejector for the balanced error at a budget, found on labelled samples.

For a fixed share of handed-over samples, the balanced error of `ltkit.abstention.risks` is
stationary at

.. math::
    \alpha_g \propto \bar n_g^{\tau} a_g, \qquad \mu_g = m_g / \alpha_g, \qquad m_g = e_g

with :math:`a_g` the answered share of group g and :math:`e_g` its error there: a sample's loss is
weighed against what answering it does to the denominators. :math:`\bar n_g^\tau`, from the mean
training count of the group's classes, is the prior that the posteriors have: τ is 1 for a head
trained on the long tail, 0 for one that is corrected already. Both sides depend on the rejector, so
the equations are solved by repetition for each τ, and then :math:`m` is moved a little, for the
error is no convex function of it. The best on the samples at hand is kept, by errors to which one
wrong answer a group is added: else a group of which two are answered, both right, would win. The
max softmax is among what is tried, and wins ties.

Source:
    Narasimhan et al., Learning to Reject Meets Long-Tail Learning, ICLR 2024, algorithm 1: α by
    repetition, μ by search. That the stationary point gives a start for μ is worked out here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ltkit.abstention.posteriors import Floats, Groups, Posteriors
from ltkit.abstention.rejectors import Costs, threshold_for
from ltkit.abstention.risks import Sample
from ltkit.records import Ints

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
RISING, STEPS, FEW_STEPS = 5, 8, 2
"""Repetitions for a τ in which the budget rises to what is wanted, with those after it, and for a
changed m. At a large budget at once the rare classes are soon handed over altogether."""

MOVES = (0.0, -0.2, 0.2)
"""Changes of m of each group."""

LEAST = 1e-3
"""Answered share of a group, at least, in its α."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Costs that were tried, what they came to, and what the next ones follow from.

    risk: the balanced error, with one more wrong answer a group.
    answered, errors: (G,) of each group.
    """

    costs: Costs
    risk: float
    answered: Floats
    errors: Floats


def mean_counts(train_counts: Ints, groups: Groups) -> Floats:
    """Return (G,) the mean training count of each group's classes, of at least one image."""
    sums = np.bincount(groups.of_class, train_counts, len(groups))
    sizes = np.bincount(groups.of_class, minlength=len(groups))
    return np.maximum(sums / np.maximum(sizes, 1), 1.0)


def fit(found: Posteriors, sample: Sample, counts: Floats, budget: float) -> Costs:
    """Return the costs with the least balanced error among the answers at a budget.

    Args:
        found: posteriors of N samples.
        sample: their labels.
        counts: (G,) of `mean_counts`.
        budget: the share of samples that may be handed over.
    """
    size = len(sample.names)
    best = _tried(found, sample, Costs.none(size), budget)
    settled = []
    for tau in TAUS:
        trials = _repeated(found, sample, counts**tau, budget, None, STEPS)
        settled.append(min(trials, key=_risk))
        best = min(best, settled[-1], key=_risk)
    place = int(np.argmin([_risk(trial) for trial in settled]))
    for moves in product(MOVES, repeat=size):
        if len(set(moves)) > 1:  # one move for all is a threshold's
            wanted = np.clip(settled[place].errors + moves, 0, 1)
            scale = counts ** TAUS[place] * settled[place].answered.clip(LEAST)
            trials = _repeated(found, sample, scale, budget, wanted, FEW_STEPS)
            best = min(best, *trials, key=_risk)
    return best.costs


def _risk(trial: Trial) -> float:
    """Return a trial's error, to the digits that do not depend on the order of a sum."""
    return round(trial.risk, 12)


def _tried(found: Posteriors, sample: Sample, costs: Costs, budget: float) -> Trial:
    """Return what costs come to at a budget."""
    scores = costs.scores(found)
    kept = scores <= threshold_for(scores, budget)
    errors = sample.errors(kept, costs.answers(found) != sample.labels)
    answered, sizes = sample.answered(kept), np.bincount(sample.group, minlength=len(errors))
    more = 1 / np.maximum(sizes, 1)
    cautious = (errors * answered + more) / (answered + more)
    return Trial(costs, float(cautious @ sample.share), answered, errors)


def _repeated(
    found: Posteriors, sample: Sample, scale: Floats, budget: float, wanted: Floats | None,
    steps: int,
) -> Sequence[Trial]:  # fmt: skip
    """Return trials that follow from each other; a group without samples is answered like others.

    Args:
        found: posteriors.
        sample: their labels.
        scale: (G,) of α, where all is answered.
        budget: the share that may be handed over.
        wanted: (G,) m; None: the errors of the trial before, with a budget that rises first.
        steps: how many, those among them in which it rises.
    """
    answered, errors, trials = np.ones(len(scale)), np.zeros(len(scale)), list[Trial]()
    for step in range(steps):
        alpha = scale * answered
        alpha = alpha / np.exp(np.log(alpha).mean())
        m = errors if wanted is None else wanted
        part = 1.0 if wanted is not None else min((step + 1) / RISING, 1.0)
        trials.append(_tried(found, sample, Costs(alpha, m / alpha), part * budget))
        there = sample.share > 0
        last = trials[-1].answered.clip(LEAST)
        answered = np.where(there, (answered + last) / 2, last[there].mean())
        errors = np.where(there, trials[-1].errors, trials[-1].errors[there].mean())
    return trials if wanted is not None else trials[RISING - 1 :]
