"""A bundle's model card, in Markdown: what was shipped, what it was chosen on, what it does."""

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from ltkit.bundles.measuring import place
from ltkit.records import Classifier, FeatureSet, Rule
from ltkit.reporting.numbers import counted, percent, span
from ltkit.settings import SHOT_GROUPS

LEAST = 20
"""Images of a class on the split, below which the card warns of what is said of single classes."""


def card(
    content: Mapping[str, Any], features: FeatureSet, classifier: Classifier, rules: Sequence[Rule]
) -> str:
    """Return the card of what a manifest says.

    Args:
        content: of `ltkit.bundles.writing`, with its figures.
        features: that it was measured on.
        classifier: what is shipped.
        rules: how its answers are used.
    """
    parts = (
        _title(content, classifier), _data(content, features), _chosen(content), _figures(content),
        _prior(content), _rules(content, rules), _limits(content, features, rules), _use(),
    )  # fmt: skip
    return "\n".join(line for part in parts for line in (*part, ""))


def _title(content: Mapping[str, Any], classifier: Classifier) -> Iterator[str]:
    run = ", ".join(f"{name} {_text(value)}" for name, value in sorted(content["run"].items()))
    corrected = f"corrected by {content['method']}" + (f" ({run})" if run else "")
    yield f"# Model card: {classifier.num_classes} classes, last layer {corrected}"
    yield ""
    yield (
        f"A last layer of {classifier.num_classes} classes on {classifier.feature_size} features. "
        "It was made with ltkit "
        f"{content['ltkit']}; the network below it is as it was trained."
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)[:40]


def _data(content: Mapping[str, Any], features: FeatureSet) -> Iterator[str]:
    yield "## Data"
    yield ""
    low, high = content["bins"]
    yield (
        f"Classes with more than {high} training images are many-shot, with {low} to {high} "
        f"medium-shot, with fewer than {low} few-shot."
    )
    yield ""
    yield f"| | classes | training images | images of {content['split']} |"
    yield "|---|---:|---:|---:|"
    counts, groups = np.array(content["train_count"]), features.groups(content["bins"])
    for name, ids in groups.items():
        if len(ids):
            own = content["samples"].get(name, 0)
            yield f"| {name} | {len(ids)} | {int(counts[ids].sum()):,} | {own:,} |"
    yield f"| all | {len(counts)} | {int(counts.sum()):,} | {content['n']:,} |"


def _chosen(content: Mapping[str, Any]) -> Iterator[str]:
    yield "## What was chosen on what"
    yield ""
    if content["chosen"]:
        yield (
            f"The correction's settings were chosen on the validation split, by "
            f"{content['chosen']} accuracy. "
            + (
                "The figures below are of the same images, so they are somewhat too good."
                if content["split"] == "val"
                else f"The figures below are of {content['split']}, which nothing was chosen on."
            )
        )
    else:
        yield (
            "The file of the correction does not say that settings were chosen. The figures below "
            f"are of {content['split']}."
        )


def _figures(content: Mapping[str, Any]) -> Iterator[str]:
    yield "## Figures"
    yield ""
    yield f"In per cent, on {counted(content['n'], 'image')} of {content['split']}."
    yield ""
    yield "| figure | value | 95 % interval | the model's own head |"
    yield "|---|---:|---:|---:|"
    for name, figure in sorted(content["figures"].items(), key=lambda each: place(each[0])):
        own = percent(content["own"].get(name)) if name in content["own"] else ""
        yield f"| {name} | {percent(figure['value'])} | {span(figure['interval'])} | {own} |"
    kinds = {name.split()[0] for name in content["figures"]}
    yield ""
    yield from (f"- {meaning}" for kind, meaning in MEANING.items() if kind in kinds)
    if content["ece"] is not None:
        yield (
            f"- Expected calibration error (ECE) {percent(content['ece'])} %: by so much the "
            "confidence is wrong on average; `ltkit posthoc temperature` mends it."
        )


MEANING = {
    "accuracy": "accuracy: of images; balanced and of shot groups: the mean over their classes.",
    "coverage": "coverage: how often the true class is in the set of `sets.json`.",
    "classes": "classes left out of sets: 100 % less the mean size of a set; more is better.",
    "answered": "answered: what `rejector.json` does not hand over.",
    "right": "right of the answers: accuracy among what is answered.",
}
"""What kinds of figures are."""


def _prior(content: Mapping[str, Any]) -> Iterator[str]:
    """Say how often classes occurred where it was measured, and what that leaves out."""
    yield "## Intended prior"
    yield ""
    shares = np.array(content["prior"])
    known = shares[shares > 0]
    even = log(len(known)) + float(known @ np.log(known)) < 0.01  # nats below the even one
    yield (
        f"Measured where {'all classes are about as frequent' if even else 'classes are as'}"
        f"{'' if even else ' frequent as in ' + content['split']}"
        f" (the most frequent has {percent(known.max())} %, the rarest {percent(known.min())} % "
        "of the images). In use, other frequencies change what is said of all images together; "
        "`ltkit posthoc adapt` follows them."
    )


def _rules(content: Mapping[str, Any], rules: Sequence[Rule]) -> Iterator[str]:
    yield "## How its answers are used"
    yield ""
    if not rules:
        yield "The answer is the class with the highest logit. No rule goes with it."
    for rule in rules:
        yield f"- `{rule.kind}.json`: {SAID[rule.kind](rule)}"


def _of_sets(rule: Rule) -> str:
    told = rule.content
    wanted = told.get("coverage")
    sure = "guaranteed" if told.get("proven") else "aimed at, without proof"
    return (
        "thresholds for sets of classes that are to have the true one in "
        f"{percent(wanted) if isinstance(wanted, float) else '–'} % of images (`ltkit conformal`, "
        f"score {_text(told.get('score'))}, thresholds {_text(told.get('threshold'))}); {sure}: "
        f"{str(told.get('promise'))[:200]}."
    )


def _of_rejector(rule: Rule) -> str:
    asked = ", ".join(
        f"{name} {_text(rule.settings[name])}"
        for name in ("method", "budget", "risk", "of")
        if rule.settings.get(name) is not None
    )
    return f"when to hand over to a person (`ltkit analyze risk-coverage`, {asked})."


SAID = {"sets": _of_sets, "rejector": _of_rejector}


def _limits(
    content: Mapping[str, Any], features: FeatureSet, rules: Sequence[Rule]
) -> Iterator[str]:
    yield "## Limits"
    yield ""
    labels = features.split(content["split"]).labels
    counts = np.bincount(labels, minlength=len(features.classes))
    few = int((counts < LEAST).sum())
    if few:
        yield (
            f"- {counted(few, 'class', 'classes')} had fewer than {LEAST} images on "
            f"{content['split']}: nothing is known of them one by one."
        )
    if untested := int((counts == 0).sum()):
        yield f"- {counted(untested, 'class', 'classes')} had none at all."
    yield (
        "- Figures hold for images like those measured. Other cameras, places or times need a "
        "check, and images of classes that are not among these are answered like any other."
    )
    missing = [name for name in SHOT_GROUPS if f"accuracy {name}" not in content["figures"]]
    if missing:
        yield f"- Nothing was measured of {', '.join(missing)}-shot classes."


def _use() -> Iterator[str]:
    yield "## Check it again"
    yield ""
    yield "    ltkit check FOLDER new-features.h5"
    yield ""
    yield (
        "measures the figures on new labelled features of the same network, and exits with 1 when "
        "one fell beyond noise. `bundle.json` has the digests of all files."
    )
