"""Abstention as calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ltkit.abstention import Abstention, Asked, Rejections, rejections, rejections_of_logits
from ltkit.abstention import risk_coverage as _risk_coverage
from ltkit.errors import InputError
from ltkit.evaluation.named import classifier_of
from ltkit.face.arrays import COMMAND, Array, numbers
from ltkit.files import rules
from ltkit.files.atomic import check_output
from ltkit.files.bases import Start, with_base
from ltkit.records import FeatureSet, Rule
from ltkit.settings import FOLDS, Rejection, RiskOf


def risk_coverage(
    features: FeatureSet,
    classifier: Start | None = None,
    *,
    budget: float | None = None,
    risk: float | None = None,
    of: RiskOf = "balanced",
    method: Rejection = "plug-in",
    split: str = "val",
    bins: Sequence[int] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    run: Mapping[str, float] | None = None,
    base: Start | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
) -> Abstention:
    """Return the error among the answers by how much is handed over, and a rejector.

    Args:
        features: with val, on which the rejector is found.
        classifier: whose answers are judged, a correction, or its file; None: the head.
        budget: the share of samples that the rejector hands over.
        risk: the wanted error among the answers instead.
        of: which error that is.
        method: how the rejector ranks samples.
        split: whose curves are shown.
        bins: bounds of the medium shot group; None: the file's own.
        folds: parts of val.
        seed: of the folds.
        run: of a correction with several runs, the settings of the one that is meant.
        base: a classifier in the place of the head, or its file.
        output: the rejector's rule file; None: it is not written.
        overwrite: whether the output may be replaced.

    Returns:
        ``.document`` is what ``ltkit analyze risk-coverage --json`` prints; ``.rule`` the rejector
        for `rejects`, None where neither budget nor risk was said.

    Raises:
        InputError: for settings out of range, without val, or where no budget reaches the error.
    """
    features = with_base(features, base)
    judged, notes = classifier_of(features, classifier, run)
    if output is not None:
        check_output(Path(output), overwrite=overwrite)
    asked = Asked(budget, risk, of, method, folds, seed)
    found = _risk_coverage(features, judged, asked, split=split, bins=bins)
    found.document["notes"] = [*notes, *found.document["notes"]]
    if output is not None and found.rule is not None:
        rules.write(Path(output), found.rule, command=COMMAND)
    return found


def rejects(
    features: FeatureSet | Array,
    rule: Rule | Abstention | str | Path,
    classifier: Start | None = None,
    *,
    split: str = "test",
    run: Mapping[str, float] | None = None,
    base: Start | None = None,
) -> Rejections:
    """Say which samples a rejector hands over, and what is answered to the others.

    Args:
        features: of the network that it was made for, whose labels are not read; or (N, C) logits
            of the classifier that it is for, of which only the number of classes can be checked.
        rule: of `risk_coverage`, or its file.
        classifier: as it was made with; None: the head.
        split: of the features.
        run: of a correction with several runs, the settings of the one that is meant.
        base: a classifier in the place of the head, or its file.

    Returns:
        ``.rejected`` (N,) whether a sample is handed over; ``.answers`` (N,) the class that is
        answered else; ``.scores`` (N,).

    Raises:
        FormatError: when the file is not a sound rule file.
        InputError: when the rule is of another kind, or for other classes or another classifier,
            when there is none, or for logits that do not fit it.

    Example:
        >>> content = {"groups": ["few", "many"], "group_of_class": [1, 0], "alpha": [1.0, 1.0],
        ...            "mu": [0.0, 0.0], "threshold": 0.3}
        >>> done = rejects([[2.0, 0.0], [0.0, 0.1]], Rule("rejector", content, "", 2))
        >>> done.rejected.tolist(), done.answers.tolist()
        ([False, True], [0, 1])
    """
    found = rule.rule if isinstance(rule, Abstention) else rule
    if found is None:
        raise InputError("rule: found curves without a rejector; say a budget or a risk")
    read = found if isinstance(found, Rule) else rules.read(Path(found), "rejector")
    if not isinstance(features, FeatureSet):
        if classifier is not None or base is not None:
            raise InputError("classifier: found one beside logits, which are its own; leave it out")
        return rejections_of_logits(numbers(features), read)
    features = with_base(features, base)
    return rejections(features, read, classifier_of(features, classifier, run)[0], split)
