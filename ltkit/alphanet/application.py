"""Apply trained networks to classes that they may never have seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ltkit.alphanet.composition import COMPOSED, composed, head_of, log_prior_of
from ltkit.alphanet.networks import alphas_of, combine, network_inputs
from ltkit.alphanet.study import study_of_groups
from ltkit.errors import InputError, SettingError
from ltkit.files.bases import Start
from ltkit.neighbors import nearest_classes
from ltkit.records import Base, Classifier, Correction, FeatureSet, Neighbors
from ltkit.settings import NeighborSettings

MEMORY = "in memory"
"""In the place of a digest of a head that is in no file."""


def apply(correction: Correction, base: Classifier, neighbors: Neighbors) -> Correction:
    """Correct classes with trained networks, which may never have seen them.

    A network reads the neighbours' rows (and the class's own, where it was trained so) and nothing
    else, so a class needs only its mean feature and its row, no further samples.

    Args:
        correction: from `fit`, with its networks.
        base: the classifier to correct.
        neighbors: neighbours of the classes to correct, as many as in the fit, in the same order.

    Returns:
        A correction of ``neighbors.few_class`` with the same runs; biases are the base's. Of a
        composition it is what the networks give, not composed.

    Raises:
        InputError: when the correction has no networks, or they take other inputs.
    """
    learned = correction.learned
    parameters = [
        torch.from_numpy(np.array(learned[name], np.float32))
        for name in sorted(
            (n for n in learned if n.startswith("network.")),
            key=lambda name: int(name.partition(".")[2]),
        )
    ]
    if not parameters:
        raise InputError(f"{correction.method}: holds no network to apply; fit it again")
    run = correction.runs[0]
    runs = tuple({k: v for k, v in r.items() if k not in COMPOSED} for r in correction.runs)
    inputs = network_inputs(base, neighbors, str(run["network_input"]))
    expected = (parameters[0].shape[2], parameters[-1].shape[1])
    if (inputs.shape[1], neighbors.k) != expected:
        raise InputError(
            f"alphanet: found {inputs.shape[1]} inputs and {neighbors.k} neighbours per class, the "
            f"networks take {expected[0]} and {expected[1]}; give features of the same model and k"
        )
    alpha = alphas_of(inputs, parameters, run["activation"]).numpy()
    shape = (len(runs), len(neighbors.few_class))
    return Correction(
        correction.method,
        neighbors.few_class,
        combine(base, neighbors, alpha),
        np.broadcast_to(base.bias[neighbors.few_class], shape).copy(),
        runs,
        base.normalize_features,
        {"alpha": alpha, "neighbor": np.repeat(neighbors.base_class[None], shape[0], axis=0)},
    )


def apply_features(
    correction: Correction,
    features: FeatureSet,
    *,
    of: Sequence[int] | None = None,
    bins: Sequence[int] | None = None,
    onto: Start | None = None,
    source: str = "fit",
    note: Callable[[str], None] = lambda message: None,
) -> Correction:
    """Correct classes of a features file that a fit left out, as ``ltkit alphanet apply`` does.

    What a composition learned is composed again, with each run's own scale and prior offset: the
    new classes get their part of the correction, every class the offset, and the classes that the
    composition corrected are those of the head it was composed with.

    Args:
        correction: from a fit, with its networks.
        features: with a head, and training samples of the classes to correct.
        of: their ids; None: the rare classes with training images that the fit does not correct.
        bins: bounds of the medium shot group; neighbours are base classes.
        onto: the head that a composition was composed with, where it was not the base.
        source: name of the fit in messages.
        note: called with a note on rare classes without training images, where `of` is None.

    Raises:
        InputError: when the correction has no networks or takes other inputs, when there is no
            class to correct, without the right head to compose with, and as
            `ltkit.alphanet.study.study_of_groups`.
    """
    if "network.0" not in correction.learned:
        raise InputError(
            f"{source}: was not written by alphanet fit, so it has no networks; name a fit"
        )
    head = _head(correction, features, onto, source)
    wanted, _ = study_of_groups(
        features, bins=bins, note=note if of is None else lambda message: None
    )
    ids = np.setdiff1d(wanted.of, correction.learned_class) if of is None else np.unique(of)
    if not len(ids):
        raise InputError(
            f"{source}: corrects all {len(wanted.of)} rare classes of {features.source}; name "
            "others"
        )
    run = correction.runs[0]
    means = wanted.raw_means if run["metric"] == "raw" else wanted.means
    settings = NeighborSettings(run["k"], run["metric"], run["seed"])
    near = nearest_classes(features, means, ids, wanted.among, settings)
    applied = apply(correction, features.classifier(), near)
    return _composed_alike(applied, correction, features, head, note)


def _head(
    correction: Correction, features: FeatureSet, onto: Start | None, source: str
) -> Base | None:
    """Return the head that a composition was composed with; None for the base, or without one."""
    wanted = correction.runs[0]["onto"] if correction.composed else None
    if wanted is None:
        if onto is not None:
            raise SettingError("onto", f"{source} was composed with no other head; leave it out")
        return None
    if onto is None:
        raise SettingError(
            "onto",
            f"absent, {source} was composed with the head {wanted[:12] or MEMORY}; name its file",
        )
    found = head_of(features, onto)
    if wanted and (found is None or found.digest != wanted):
        digest = found.digest[:12] if found is not None else ""
        raise SettingError(
            "onto",
            f"found the head {digest or MEMORY}, expected {wanted[:12]}, which {source} was "
            "composed with; name its file",
        )
    return found


def _composed_alike(
    applied: Correction, correction: Correction, features: FeatureSet, head: Base | None,
    note: Callable[[str], None],
) -> Correction:  # fmt: skip
    """Compose what was applied as the correction was, if it was."""
    if not correction.composed:
        return applied
    scales, offsets = (
        np.array([run[name] for run in correction.runs]) for name in ("scale", "prior_offset")
    )
    log_prior = log_prior_of(features, note) if offsets.any() else None
    found = composed(applied, features.classifier(), head, scales, offsets, log_prior)
    return replace(found, method=correction.method)
