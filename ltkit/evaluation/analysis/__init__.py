"""What corrections change: by neighbour distance, as flows, over rho, class by class.

An analysis a file. Each has functions of predictions, labels and neighbours, whose results are
small and made for figures, and, where there is a command, ``analyze_...``: the document that the
command prints and the report draws. Accuracies and shares are fractions in 0..1, changes of
accuracy in -1..1; what is not defined is NaN in arrays and None in documents. Beside the dimensions
of `ltkit.records`: `P` points of a curve; `A` statuses; `M` neighbours of a class over all runs;
`W` classes that a class is mistaken for.

Source:
    Chang et al., AlphaNet, arXiv:2008.07073, figures 1, 3, 4, 5 and 6.
"""

from ltkit.evaluation.analysis.attributes import analyze_attributes, nearest_images
from ltkit.evaluation.analysis.coefficients import ClassChange, class_changes
from ltkit.evaluation.analysis.confusion import analyze_confusion
from ltkit.evaluation.analysis.deltas import RhoCurve, analyze_deltas, curve_row, rho_curves
from ltkit.evaluation.analysis.distance import (
    ByDistance,
    analyze_distance,
    by_distance,
    distance_rows,
    spearman,
    thirds,
)
from ltkit.evaluation.analysis.flows import (
    SIDES,
    STATUSES,
    Flow,
    Kind,
    analyze_flows,
    flow,
    flow_rows,
    kind_by_features,
    kinds_by_wordnet,
    pairs_of,
    pairs_within,
    statuses,
)
from ltkit.evaluation.analysis.norms import analyze_norms, norm_summary, row_norms
from ltkit.evaluation.analysis.subject import Case, Subject, cases, mean_and_std, observe

__all__ = [
    "SIDES",
    "STATUSES",
    "ByDistance",
    "Case",
    "ClassChange",
    "Flow",
    "Kind",
    "RhoCurve",
    "Subject",
    "analyze_attributes",
    "analyze_confusion",
    "analyze_deltas",
    "analyze_distance",
    "analyze_flows",
    "analyze_norms",
    "by_distance",
    "cases",
    "class_changes",
    "curve_row",
    "distance_rows",
    "flow",
    "flow_rows",
    "kind_by_features",
    "kinds_by_wordnet",
    "mean_and_std",
    "nearest_images",
    "norm_summary",
    "observe",
    "pairs_of",
    "pairs_within",
    "rho_curves",
    "row_norms",
    "spearman",
    "statuses",
    "thirds",
]
