"""Apply trained networks to classes that they may never have seen."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ltkit.alphanet.networks import alphas_of, combine, network_inputs
from ltkit.alphanet.study import study_of_groups
from ltkit.errors import InputError
from ltkit.neighbors import nearest_classes
from ltkit.records import Classifier, Correction, FeatureSet, Neighbors
from ltkit.settings import NeighborSettings


def apply(correction: Correction, base: Classifier, neighbors: Neighbors) -> Correction:
    """Correct classes with trained networks, which may never have seen them.

    A network reads the neighbours' rows (and the class's own, where it was trained so) and nothing
    else, so a class needs only its mean feature and its row, no further samples.

    Args:
        correction: from `fit`, with its networks.
        base: the classifier to correct.
        neighbors: neighbours of the classes to correct, as many as in the fit, in the same order.

    Returns:
        A correction of ``neighbors.few_class`` with the same runs; biases are the base's.

    Raises:
        InputError: when the correction has no networks, or they take other inputs.
    """
    parameters = [
        torch.from_numpy(np.array(correction.extra[name], np.float32))
        for name in sorted(
            (n for n in correction.extra if n.startswith("network.")),
            key=lambda name: int(name.partition(".")[2]),
        )
    ]
    if not parameters:
        raise InputError(f"{correction.method}: holds no network to apply; fit it again")
    run = correction.runs[0]
    inputs = network_inputs(base, neighbors, str(run["network_input"]))
    expected = (parameters[0].shape[2], parameters[-1].shape[1])
    if (inputs.shape[1], neighbors.k) != expected:
        raise InputError(
            f"alphanet: found {inputs.shape[1]} inputs and {neighbors.k} neighbours per class, the "
            f"networks take {expected[0]} and {expected[1]}; give features of the same model and k"
        )
    alpha = alphas_of(inputs, parameters, run["activation"]).numpy()
    shape = (len(correction.runs), len(neighbors.few_class))
    return Correction(
        correction.method,
        neighbors.few_class,
        combine(base, neighbors, alpha),
        np.broadcast_to(base.bias[neighbors.few_class], shape).copy(),
        correction.runs,
        base.normalize_features,
        {"alpha": alpha, "neighbor": np.repeat(neighbors.base_class[None], shape[0], axis=0)},
    )


def apply_features(
    correction: Correction,
    features: FeatureSet,
    *,
    of: Sequence[int] | None = None,
    bins: Sequence[int] | None = None,
    source: str = "fit",
    note: Callable[[str], None] = lambda message: None,
) -> Correction:
    """Correct classes of a features file that a fit left out, as ``ltkit alphanet apply`` does.

    Args:
        correction: from a fit, with its networks.
        features: with a head, and training samples of the classes to correct.
        of: their ids; None: the rare classes with training images that the fit does not correct.
        bins: bounds of the medium shot group; neighbours are base classes.
        source: name of the fit in messages.
        note: called with a note on rare classes without training images, where `of` is None.

    Raises:
        InputError: when the correction has no networks or takes other inputs, when there is no
            class to correct, and as `ltkit.alphanet.study.study_of_groups`.
    """
    if "network.0" not in correction.extra:
        raise InputError(
            f"{source}: was not written by alphanet fit, so it has no networks; name a fit"
        )
    told = {"note": note} if of is None else {}
    wanted, _ = study_of_groups(features, bins=bins, **told)
    ids = np.setdiff1d(wanted.of, correction.class_id) if of is None else np.unique(of)
    if not len(ids):
        raise InputError(
            f"{source}: corrects all {len(wanted.of)} rare classes of {features.source}; name "
            "others"
        )
    run = correction.runs[0]
    settings = NeighborSettings(run["k"], run["metric"], run["seed"])
    near = nearest_classes(features, wanted.means, ids, wanted.among, settings)
    return apply(correction, features.classifier(), near)
