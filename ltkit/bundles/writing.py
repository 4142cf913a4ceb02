"""Making a bundle: what is shipped goes into one folder, and is measured once more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltkit.bundles.card import card
from ltkit.bundles.contents import (
    CARD,
    CLASSIFIER,
    KIND,
    MANIFEST,
    RULES,
    Bundle,
    check_free,
    digest_of,
    head_digest,
    read,
)  # fmt: skip
from ltkit.bundles.measuring import class_shares, measure
from ltkit.errors import InputError
from ltkit.exports import checkpoint as checkpoints
from ltkit.files import classifiers, rules
from ltkit.files import features as features_file
from ltkit.files.atomic import replacing
from ltkit.records import Correction, FeatureSet, Rule, classifier_digest
from ltkit.settings import LoadSettings
from ltkit.version import __version__

HEAD = "head.safetensors"


@dataclass(frozen=True, eq=False)
class Wanted:
    """What goes into a bundle.

    correction: of one run, on the features' head or base.
    settings: of the file that it is from, which say what it was chosen on.
    rules: how its answers are used.
    split: whose samples it is measured on.
    checkpoint: the model that the corrected head is written into; None: the head goes alone.
    load: how the checkpoint is read.
    bins: bounds of the medium shot group; None: the features' own.
    """

    correction: Correction
    settings: Mapping[str, Any] = field(default_factory=dict)
    rules: Sequence[Rule] = ()
    split: str = "test"
    checkpoint: Path | None = None
    load: LoadSettings | None = None
    bins: Sequence[int] | None = None


def write(folder: Path, features: FeatureSet, wanted: Wanted, *, command: str = "") -> Bundle:
    """Write a bundle's folder, and read it again.

    Args:
        folder: a new one.
        features: those that the correction was made on, with the split.
        wanted: what goes in.
        command: the command that makes it.

    Returns:
        The bundle.

    Raises:
        InputError: when something is there, a rule is of another classifier or twice, the split has
            no samples, or as `ltkit.exports.checkpoint.export_into`.
    """
    check_free(folder)
    classifier = features.corrected(wanted.correction)
    kinds = [rule.kind for rule in wanted.rules]
    for rule in wanted.rules:
        rule.check(features, classifier)
        if kinds.count(rule.kind) > 1 or rule.kind not in RULES:
            raise InputError(
                f"{rule.source}: is a rule of {rule.kind}, expected one each of "
                f"{', '.join(RULES)}; leave one out"
            )
    figures, document = measure(features, wanted.split, classifier, wanted.rules, wanted.bins)
    own: Mapping[str, Any] = {}
    if head_digest(features):
        own, _ = measure(features, wanted.split, features.classifier(), (), wanted.bins)
    content = _content(features, wanted, document) | {
        "figures": figures, "own": {name: one["value"] for name, one in own.items()}
    }  # fmt: skip
    whole = Correction.whole(wanted.correction.method, classifier, wanted.correction.runs[0])
    with replacing(folder) as temporary:
        temporary.unlink()
        temporary.mkdir()
        classifiers.write(
            temporary / CLASSIFIER, whole, settings=dict(wanted.settings),
            inputs={"features": features.digest}, command=command,
        )  # fmt: skip
        _write_model(temporary, features, wanted)
        for rule in wanted.rules:
            rules.write(temporary / f"{rule.kind}.json", rule, command=command)
        (temporary / CARD).write_text(
            card(content, features, classifier, wanted.rules), encoding="utf-8"
        )
        files = {
            str(file.relative_to(temporary)): digest_of(file)
            for file in sorted(temporary.rglob("*"))
            if file.is_file()
        }
        manifest = Rule(
            KIND, content | {"files": files}, classifier_digest(classifier),
            len(features.classes), features.classes.names, dict(wanted.settings),
            {"features": features.digest},
        )  # fmt: skip
        rules.write(temporary / MANIFEST, manifest, command=command)
    return read(folder)


def _content(features: FeatureSet, wanted: Wanted, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest keeps beside the figures.

    Returns:
        head (digest of the model's own, "" without one), method, run, split, n, samples by group,
        bins, groups, train_count, prior (share of each class in the split), ece, chosen (what it
        was chosen by, None), features, ltkit.
    """
    chosen = wanted.settings.get("select") or wanted.settings.get("objective")
    return {
        "head": head_digest(features),
        "method": wanted.correction.method,
        "run": dict(wanted.correction.runs[0]),
        "features": Path(features.source).name,
        "chosen": chosen,
        "prior": class_shares(features, wanted.split),
        "train_count": features.classes.train_count.tolist(),
        "ece": document["ece"],
        "ltkit": __version__,
        **{name: document[name] for name in ("split", "n", "samples", "bins", "groups")},
    }


def _write_model(folder: Path, features: FeatureSet, wanted: Wanted) -> None:
    """Write the checkpoint with the corrected head, or else the head alone."""
    if wanted.checkpoint is None:
        head = features.corrected(wanted.correction)
        return checkpoints.export_head(head, "safetensors", folder / HEAD)
    correction = wanted.correction
    if features.base is not None:  # the checkpoint has another head than what is corrected
        correction = Correction.whole("", features.corrected(correction))
    output = folder / (
        "model" if wanted.checkpoint.is_dir() else f"model{wanted.checkpoint.suffix}"
    )
    checkpoints.export_into(
        wanted.checkpoint, correction, 0, output, wanted=wanted.load,
        made_from=features_file.checkpoint_of(features),
    )  # fmt: skip
    return None
