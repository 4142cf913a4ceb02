"""Checkpoints written by ``ltkit train``, as torch files or as safetensors with metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from ltkit import architectures
from ltkit.architectures import ArchSpec
from ltkit.architectures.expert_heads import RoutedExperts, Routers, WeightedExperts
from ltkit.architectures.heads import CausalHead, ExpertHeads
from ltkit.architectures.meta_head import MetaHead
from ltkit.architectures.network import make_head
from ltkit.checkpoints.content import Content, single
from ltkit.checkpoints.numbers import number, numbers, shown, whole
from ltkit.checkpoints.recognised import Recognised, Stored, assemble, head_size
from ltkit.errors import FormatError, SettingError
from ltkit.records import ImageView
from ltkit.settings import Fit, Interpolation, LoadSettings

SUMMARY = "ltkit train ('ltkit-checkpoint')"
FORMAT, FORMAT_VERSION = "ltkit-checkpoint", 1
BESIDE = ("attributes",)
"""Where a file has what is beside the network."""

WHOLE = {
    "meta": "head: the plain one taken, of the direct feature; --head meta takes the whole model",
    "weighted": "head: the experts' mean taken; --head weighted takes the learned weights",
    "router": "head: the mean of all experts taken; --head router asks as many as an image needs",
}
"""Heads that a method leaves beside the network's own, and the note on each."""

REQUIRED = ("arch", "cosine", "scale", "mean", "std", "recipe")


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the file declares itself as ltkit's."""
    return content.top.get("format") == FORMAT


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network that the file names.

    Raises:
        FormatError: for a newer version, or a missing or invalid entry.
        InputError: when an average of the weights is wanted.
    """
    top, path = content.top, content.path
    if wanted.weights not in (None, "raw"):
        raise SettingError(f"weights {wanted.weights}", "not in the file; it has raw", f"{path}: ")
    version = top.get("format_version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise FormatError(
            f"{path}: format_version: found {str(version)[:40]}, expected {FORMAT_VERSION}; "
            "upgrade ltkit"
        )
    missing = [key for key in REQUIRED if key not in top]
    if missing:
        raise FormatError(f"{path}: {missing[0]}: absent; train it again")
    arch = wanted.arch or str(top["arch"])[:40]
    scale = number(path, "scale", top["scale"], positive=True, do="train it again")
    recipe = top["recipe"]
    trained_on = recipe.get("dataset", {}) if isinstance(recipe, Mapping) else None
    if not isinstance(trained_on, Mapping):
        raise FormatError(
            f"{path}: recipe: found {shown(recipe)}, expected a mapping with 'dataset'; train it "
            "again"
        )
    cosine = top["cosine"]
    if not isinstance(cosine, bool | int | float):
        raise FormatError(
            f"{path}: cosine: found {shown(cosine)}, expected true or false; train it again"
        )
    spec = architectures.spec(arch)
    stored = {name: Stored(content.place, name) for name in content.tensors}
    beside, causal = {kind: _beside(content, kind) for kind in WHOLE}, _causal(content, spec)
    notes = [WHOLE[kind] for kind in WHOLE if beside[kind] and wanted.head is None]
    if causal:
        head: nn.Module = causal.head(_classes(content, stored, spec))
        notes.append(causal.note)
    else:
        head, stored = _head(content, stored, spec, wanted, bool(cosine), scale)
    made = assemble(
        content, "native", arch, head, stored, wanted, normalisation=(top["mean"], top["std"]),
        trained_on=dict(trained_on), view=_view(path, trained_on), notes=notes,
    )  # fmt: skip
    return replace(
        made, prototypes=content.states.get(BESIDE, {}).get("prototypes"),
        moving_mean=causal.mean if causal else None,
    )  # fmt: skip


def _head(
    content: Content,
    stored: dict[str, Stored],
    spec: ArchSpec,
    wanted: LoadSettings,
    cosine: bool,
    scale: float,
) -> tuple[nn.Module, dict[str, Stored]]:
    """Return the network's own head, or the wanted one that lies beside it, and the tensors.

    Raises:
        SettingError: when the file has no such head.
    """
    kind = wanted.head or ""
    beside = _beside(content, kind) if kind in WHOLE else {}
    if kind and not beside and spec.experts > 1:
        raise SettingError(f"head {kind}", "not in the file; leave it out", f"{content.path}: ")
    if "head.weight" in beside:
        stored = {n: s for n, s in stored.items() if not n.startswith("head.")} | beside
        return MetaHead(spec.features, _rows(content, stored["head.weight"], spec)), stored
    classes = _classes(content, stored, spec)
    head = make_head(spec.features, classes, cosine=cosine, scale=scale, experts=spec.experts)
    if kind == "weighted" and isinstance(head, ExpertHeads):
        head = WeightedExperts([*head.experts])
    elif kind == "router" and isinstance(head, ExpertHeads):
        head = RoutedExperts([*head.experts], _routers(content, beside, spec, classes))
    return head, stored | beside


def _routers(
    content: Content, beside: Mapping[str, Stored], spec: ArchSpec, classes: int
) -> Routers:
    """Return routers of the file's size.

    Raises:
        FormatError: when there are none of these classes.
    """
    shapes = {n: content.states[BESIDE][s.name].shape for n, s in beside.items()}
    first, last = (
        [*shapes.get(f"head.routers.{name}.weight", ()), 0, 0] for name in ("hidden.0", "shared")
    )
    hidden, seen = first[0], last[1]
    if not (hidden and 1 <= seen - hidden <= classes):
        raise FormatError(
            f"{content.path}: router: found layers of {hidden} units and {seen} inputs, expected 1 "
            f"to {classes} more inputs than units; train it again"
        )
    return Routers(spec.experts, spec.features // spec.experts, seen - hidden, hidden)


def _rows(content: Content, weight: Stored, spec: ArchSpec) -> int:
    """Return the classes of a head, or of each expert's."""
    return head_size(content, weight, spec.features // spec.experts)[0]


def _classes(content: Content, stored: Mapping[str, Stored], spec: ArchSpec) -> int:
    """Return the classes of the network's own head."""
    weight = "head.weight" if spec.experts == 1 else "head.experts.0.weight"
    if weight not in stored:
        return 1
    return _rows(content, stored[weight], spec)


def _beside(content: Content, kind: str) -> dict[str, Stored]:
    """Return the parameters of a whole model's head, by the names of a network that has it."""
    names = [name for name in content.states.get(BESIDE, {}) if name.startswith(f"{kind}.")]
    return {f"head.{name.removeprefix(f'{kind}.')}": Stored(BESIDE, name) for name in names}


class _Causal(NamedTuple):
    """What a file says of a de-confounded head, beside its weight."""

    mean: Tensor
    heads: int
    tau: float
    gamma: float

    @property
    def note(self) -> str:
        """What is taken."""
        return (
            f"causal head: de-confounded, {self.heads} parts, tau {self.tau:g}, gamma "
            f"{self.gamma:g}; posthoc tde takes the mean feature's direction off"
        )

    def head(self, num_classes: int) -> CausalHead:
        """Return the head, which takes nothing off."""
        return CausalHead(
            len(self.mean), num_classes, heads=self.heads, tau=self.tau, gamma=self.gamma, alpha=0.0
        )


def _causal(content: Content, spec: ArchSpec) -> _Causal | None:
    """Return what the file has beside a de-confounded head; None where it has another.

    Raises:
        FormatError: when it does not fit the features.
    """
    beside, path = content.states.get(BESIDE, {}), content.path
    if "causal.mean" not in beside:
        return None
    mean, constants = beside["causal.mean"], beside.get("causal.constants", torch.zeros(0))
    heads, tau, gamma = constants.double().tolist() if constants.shape == (3,) else (0, 0, 0)
    fits = mean.shape == (spec.features,) and heads >= 1 and spec.features % heads == 0
    if not fits or tau <= 0 or gamma < 0:
        found = f"a mean of {tuple(mean.shape)}, {heads:g} heads, tau {tau:g}, gamma {gamma:g}"
        raise FormatError(
            f"{path}: attributes: causal: found {found}, expected ({spec.features},), a divisor of "
            "it, and positive numbers; train it again"
        )
    return _Causal(single(mean, f"{path}: attributes: causal.mean"), int(heads), tau, gamma)


def _view(path: Path, trained_on: Mapping[str, object]) -> ImageView | None:
    """Return how the training pictures were seen; None where they were taken as they are stored.

    Raises:
        FormatError: when the file says what cannot be.
    """
    said = trained_on.get("view")
    if said is None and "resize" in trained_on:  # older files have the dataset's parameters alone
        said = {name: trained_on.get(name) for name in ("resize", "crop")}
    if said is None:
        return None
    if not isinstance(said, Mapping):
        raise FormatError(
            f"{path}: recipe: view: found {shown(said)}, expected a mapping; train it again"
        )
    resize, crop = (whole(path, f"view: {name}", said.get(name)) for name in ("resize", "crop"))
    words = {"interpolation": get_args(Interpolation), "fit": get_args(Fit)}
    chosen = {name: said.get(name, known[0]) for name, known in words.items()}
    for name, known in words.items():
        if chosen[name] not in known:
            raise FormatError(
                f"{path}: view: {name}: found {shown(chosen[name])}, expected "
                f"{' or '.join(known)}; train it again"
            )
    window = said.get("window")
    if window is not None:
        low, high = numbers(path, "view: window", [*_two(path, window)], "--window")
        window = low, high
    return ImageView(resize, crop, window=window, **chosen)


def _two(path: Path, window: object) -> Sequence[object]:
    """Return the two values of a window."""
    if not isinstance(window, list | tuple) or len(window) != 2:
        raise FormatError(
            f"{path}: view: window: found {shown(window)}, expected two numbers; say --window"
        )
    return window
