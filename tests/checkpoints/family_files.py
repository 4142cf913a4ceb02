"""What somebody's script writes, for each checkpoint layout, and its own logits."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import made
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ltkit import architectures
from ltkit.settings import LoadSettings

C = 7


@dataclass
class Layout:
    """A checkpoint as somebody's script writes it.

    content: what is saved; state: the mapping in it that holds the head's weight.
    weight: the weight's name in `state`.
    logits: of normalised images, by the origin's own formula from the raw tensors.
    free: whether the head's form can hold any rows; otherwise only a permutation of them.
    """

    content: Any
    state: dict[str, torch.Tensor]
    weight: str
    family: str
    arch: str
    logits: Callable[[torch.Tensor], torch.Tensor]
    free: bool = True
    wanted: LoadSettings = field(default_factory=LoadSettings)
    notes: tuple[str, ...] = ()
    experts: int = 1


class Config(dict):
    """A project's class, as some repositories pickle into their checkpoints."""


@functools.lru_cache(maxsize=6)
def backbone(arch: str, seed: int = 0) -> nn.Module:
    """Return a backbone with random weights and statistics, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = architectures.build(arch, 1).backbone.eval()
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
    return network


def randn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def named(network: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor.clone() for name, tensor in network.state_dict().items()}


def linear(body: nn.Module, w: torch.Tensor, b: torch.Tensor) -> Callable[..., torch.Tensor]:
    return lambda x: body(x) @ w.T + b


# Makers, one for each layout


def ldam_drw(cosine: bool, columns: bool = True) -> Layout:
    body = backbone("resnet32")
    w, b = randn(C, 64), randn(C, seed=2)
    state = named(body, "module.")
    state["module.linear.weight"] = w.T.contiguous() if cosine and columns else w
    if not cosine:
        state["module.linear.bias"] = b

    def logits(x: torch.Tensor) -> torch.Tensor:
        if cosine:
            return 30 * functional.normalize(body(x)) @ functional.normalize(w).T
        return body(x) @ w.T + b

    content = {
        "epoch": 200, "arch": "resnet32", "state_dict": state, "best_acc1": torch.tensor(42.0),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
    }  # fmt: skip
    notes = ("cosine head, scale 30",) if cosine else ()
    return Layout(
        content, state, "module.linear.weight", "ldam-drw", "resnet32", logits, not cosine,
        notes=notes,
    )  # fmt: skip


def classifier_balancing(kind: str, weights: str = "best", arch: str = "resnet10") -> Layout:
    body = backbone(arch)
    width = architectures.CATALOGUE[arch].features
    w, b, s, m = randn(C, width), randn(C), randn(C, seed=2), randn(C, seed=3)
    classifier = {"module.fc.weight": w, "module.fc.bias": b}
    logits = linear(body, w, b)
    if kind == "lws":
        classifier["module.scales"] = s
        logits = lambda x: (body(x) @ w.T + b) * s  # noqa: E731
    elif kind == "marc":
        classifier |= {"module.a": s[None], "module.b": m[None]}
        logits = lambda x: s * (body(x) @ w.T + b) + m * w.norm(dim=1)  # noqa: E731
    model = {"feat_model": named(body, "module."), "classifier": classifier}
    other = {
        "feat_model": named(backbone(arch, 9), "module."),
        "classifier": {name: tensor + 1 for name, tensor in classifier.items()},
    }
    content = {"epoch": 90, "best_epoch": 80, "best_acc": 0.4, "centroids": np.zeros(3)}
    if weights == "latest":
        content |= {"state_dict": model}
        wanted, notes = LoadSettings(), ()
    elif weights == "last":
        content |= {"state_dict_best": other, "state_dict": model}
        wanted = LoadSettings(weights="last")
        notes = ("weights: last taken; --weights best takes others",)
    else:
        content |= {"state_dict_best": model}
        wanted, notes = LoadSettings(), ()
    return Layout(
        content, classifier, "module.fc.weight", "classifier-balancing", arch, logits,
        wanted=wanted, notes=notes,
    )  # fmt: skip


def weight_balancing() -> Layout:
    body = backbone("resnet34_small")
    w, b = randn(C, 512), randn(C)
    state = named(body, "encoder.") | {"encoder.fc.weight": w, "encoder.fc.bias": b}
    return Layout(
        state, state, "encoder.fc.weight", "weight-balancing", "resnet34_small", linear(body, w, b)
    )


def openmmlab() -> Layout:
    body = backbone("resnet18")
    w, b = randn(C, 512), randn(C)
    state = named(body, "backbone.") | {"head.fc.weight": w, "head.fc.bias": b}
    state["data_preprocessor.mean"] = torch.tensor([102.0, 51.0, 25.5])[:, None, None]
    state["data_preprocessor.std"] = torch.full((3, 1, 1), 51.0)
    meta = {"CLASSES": tuple("abcdefg"), "mmcls_version": "0.2", "cfg": "x = dict(to_rgb=True)"}
    content = {"meta": meta, "state_dict": state}
    return Layout(
        content, state, "head.fc.weight", "openmmlab", "resnet18", linear(body, w, b),
        notes=("mean and std from data_preprocessor, divided by 255",),
    )  # fmt: skip


def mislas(stage: int, block: bool = False) -> Layout:
    body = backbone("resnet18" if block else "resnet32")
    width = 512 if block else 64
    w, b, s = randn(C, width), randn(C), randn(1, C, seed=2)
    classifier = {"module.fc.weight": w, "module.fc.bias": b}
    content = {
        "epoch": 10, "state_dict_model": named(body, "module."), "its_ece": 1.0,
        "best_acc1": torch.tensor(40.0), "state_dict_classifier": classifier,
    }  # fmt: skip
    logits = linear(body, w, b)
    if stage == 2:
        content["state_dict_lws_model"] = {"module.learned_norm": s}
        logits = lambda x: s * (body(x) @ w.T + b)  # noqa: E731
    if block:
        model = content["state_dict_model"]
        last = [name for name in model if name.startswith("module.layer4.1.")]
        content["state_dict_block"] = {
            name.replace("module.layer4.1.", "module."): model.pop(name) for name in last
        }
    arch = "resnet18" if block else "resnet32"
    return Layout(content, classifier, "module.fc.weight", "mislas", arch, logits)


def paco(arch: str = "resnet32") -> Layout:
    body, width = backbone(arch), architectures.CATALOGUE[arch].features
    w, b = randn(C, width), randn(C)
    projection = "linear" if arch == "resnet32" else "fc"
    state = (
        named(body, "module.encoder_q.")
        | named(backbone(arch, 5), "module.encoder_k.")
        | {
            f"module.encoder_q.{projection}.0.weight": randn(width, width),
            f"module.encoder_k.{projection}.0.weight": randn(width, width),
            "module.linear.weight": w, "module.linear.bias": b,
            "module.linear_k.weight": w + 1, "module.linear_k.bias": b + 1,
            "module.queue": randn(16, 8), "module.queue_l": torch.zeros(16, dtype=torch.long),
            "module.queue_ptr": torch.zeros(1, dtype=torch.long),
        }
    )  # fmt: skip
    content = {"epoch": 400, "arch": arch, "state_dict": state, "optimizer": {}}
    out = len(state) - len(body.state_dict()) - 2
    notes = (f"left out: {out} tensors of the contrastive projection and queues",)
    return Layout(
        content, state, "module.linear.weight", "paco", arch, linear(body, w, b), notes=notes
    )


def ssd(stage: int, head: str | None = None) -> Layout:
    body = backbone("resnet18")
    w, b, s = randn(C, 512), randn(C), randn(C, seed=2)
    wanted, extra, logits = LoadSettings(head=head), [], linear(body, w, b)
    if stage == 2:
        state = named(body, "module.encoder.") | {
            "module.classifier.fc.weight": w, "module.classifier.fc.bias": b,
            "module.classifier.scales": s,
        }  # fmt: skip
        weight, logits = "module.classifier.fc.weight", lambda x: (body(x) @ w.T + b) * s
    else:
        taken = head or ("classifier" if stage == 1 else "classifier_kd")
        other = {"classifier": "classifier_kd", "classifier_kd": "classifier"}[taken]
        state = named(body, "module.encoder_q.") | {
            f"module.{taken}.weight": w, f"module.{taken}.bias": b,
        }  # fmt: skip
        weight = f"module.{taken}.weight"
        if stage == 1:
            state |= named(backbone("resnet18", 5), "module.encoder_k.") | {
                "module.q_fc.0.weight": randn(4, 512), "module.k_fc.0.weight": randn(4, 512),
                "module.queue": randn(8, 16), "module.label_queue": torch.zeros(16),
            }  # fmt: skip
        else:
            state |= named(backbone("resnet18", 5), "module.encoder_t.") | {
                f"module.{other}.weight": w + 1, f"module.{other}.bias": b + 1,
                "module.classifier_t.fc.weight": w + 2, "module.classifier_t.scales": s,
            }  # fmt: skip
            extra = [f"head: {taken} taken; --head {other} takes the other"]
    content = {"epoch": 5, "arch": "resnet18", "state_dict": state, "optimizer": {}}
    out = len(state) - len(body.state_dict()) - (3 if stage == 2 else 2 * (1 + (stage == 3)))
    notes = (f"left out: {out} tensors of teacher, projections and queues", *extra)
    return Layout(content, state, weight, "ssd", "resnet18", logits, wanted=wanted, notes=notes)


def ride(experts: int, *, cosine: bool = True, reduced: bool = True, routers: bool = False,
         arch: str = "resnet32") -> Layout:  # fmt: skip
    name = arch if experts == 1 else f"{arch}_{experts}experts{'_reduced' if reduced else ''}"
    body, spec = backbone(name), architectures.CATALOGUE[name]
    width = spec.features // experts
    ws = [randn(C, width, seed=i) for i in range(experts)]
    bs = [randn(C, seed=10 + i) for i in range(experts)]
    state = named(body, "module.backbone.")
    for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
        layer = "module.backbone.linear" + (f"s.{i}" if experts > 1 else "")
        state[f"{layer}.weight"] = w.T.contiguous() if cosine else w
        if not cosine:
            state[f"{layer}.bias"] = b
    notes = ["cosine heads, scale 30"] if cosine else []
    if routers:
        state["module.backbone.expert_help_pred_fc.weight"] = randn(1, 21)
        state["module.backbone.mlp.0.weight"] = randn(3, 3)
        notes.append("left out: 2 tensors of routers and unused layers; all experts are averaged")

    def logits(x: torch.Tensor) -> torch.Tensor:
        parts = body(x).chunk(experts, dim=1)
        if cosine:
            outs = [30 * functional.normalize(f) @ functional.normalize(w).T
                    for f, w in zip(parts, ws, strict=True)]  # fmt: skip
        else:
            outs = [f @ w.T + b for f, w, b in zip(parts, ws, bs, strict=True)]
        return torch.stack(outs, dim=1).mean(dim=1)

    content = {
        "arch": "ResNet32Model", "epoch": 200, "state_dict": state, "optimizer": {},
        "monitor_best": 0.4, "config": Config(name="RIDE"), "criterion": None,
    }  # fmt: skip
    weight = "module.backbone.linear" + ("s.0.weight" if experts > 1 else ".weight")
    return Layout(
        content, state, weight, "ride", name, logits, not cosine, notes=tuple(notes),
        experts=experts,
    )  # fmt: skip


def bag_of_tricks(kind: str, arch: str = "resnet32") -> Layout:
    body, width = backbone(arch), architectures.CATALOGUE[arch].features
    w, b, s = randn(C, width), randn(C), randn(C, seed=2)
    state, weight = named(body, "module.backbone."), "module.classifier.weight"
    logits, notes, wanted = linear(body, w, b), (), LoadSettings()
    if kind in ("lws", "crt"):
        weight = "module.classifier.fc.weight"
        state |= {weight: w, "module.classifier.fc.bias": b}
    elif kind == "fc":
        state |= {weight: w, "module.classifier.bias": b}
    else:
        state[weight] = w
        notes = ("cosine head, scale 30; --linear if it is none",)
        logits = lambda x: 30 * functional.normalize(body(x)) @ functional.normalize(w).T  # noqa: E731
    if kind == "lws":
        state["module.classifier.scales"] = s
        logits = lambda x: (body(x) @ w.T + b) * s  # noqa: E731
    if kind == "no bias":
        notes, wanted = (), LoadSettings(linear=True)
        logits = lambda x: body(x) @ w.T  # noqa: E731
    content = {"state_dict": state, "epoch": 200, "best_result": 0.4, "best_epoch": 180}
    return Layout(
        content, state, weight, "bag-of-tricks", arch, logits, kind not in ("norm", "no bias"),
        notes=notes, wanted=wanted,
    )  # fmt: skip


def l2t_ww() -> Layout:
    body = backbone("resnet32_l2t")
    w, b = randn(C, 64), randn(C)
    state = named(body, "") | {"fc.weight": w, "fc.bias": b, "alphas.0": torch.ones(3, 1, 1, 1)}
    content = {"epoch": 1, "best": 40.0, "test_prec": 40.0, "state_dict": state, "num_classes": C}
    return Layout(content, state, "fc.weight", "l2t-ww", "resnet32_l2t", linear(body, w, b))


def tde(arch: str) -> Layout:
    body, width = backbone(arch), architectures.CATALOGUE[arch].features
    w, embed = randn(C, width), randn(width, seed=4)
    alpha = 1.5 if arch == "resnet32_two_branch" else 3.0

    def logits(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(x), C)
        pairs = zip(body(x).chunk(2, 1), w.chunk(2, 1), embed.chunk(2), strict=True)
        for f, rows, mean in pairs:
            rows = rows / (rows.norm(dim=1, keepdim=True) + 1 / 32)
            f, mean = f / f.norm(dim=1, keepdim=True), mean / mean.norm()
            cosines = (f * mean).sum(1, keepdim=True)
            total = total + 16 / 2 * (f - alpha * cosines * mean) @ rows.T
        return total

    classifier = {"module.weight": w}
    model = {"feat_model": named(body, "module."), "classifier": classifier}
    content = {
        "epoch": 200, "best_epoch": 190, "state_dict_best": model, "best_acc": 0.4,
        "embed": embed.numpy(),
    }  # fmt: skip
    notes = (f"causal head: tau 16, gamma 1/32, alpha {alpha:g}",)
    return Layout(
        content, classifier, "module.weight", "tde", arch, logits, free=False, notes=notes,
        experts=2,
    )  # fmt: skip


def disalign(head: str | None = None, bias: bool = True) -> Layout:
    """The names of Detectron2's ResNet; images are BGR."""
    body = backbone("resnet18")
    w, b, s, m = randn(C, 512), randn(C), randn(C, seed=2), randn(C, seed=3)
    u, u0 = 0.1 * randn(1, 512, seed=5), randn(1, seed=6)
    b = b if bias else torch.zeros(C)
    state = {}
    for name, tensor in body.state_dict().items():
        if name.startswith(("conv1", "bn1")):
            name = f"stem.{name}"
        for number in (1, 2, 3, 4):
            name = name.replace(f"layer{number}.", f"res{number + 1}.")
        name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        for number in (1, 2):
            name = name.replace(f"bn{number}.", f"conv{number}.norm.")
        state[f"network.{name}"] = tensor.clone()
    state |= {
        "network.linear.weight": w, "network.linear.logit_scale": s[None],
        "network.linear.logit_bias": m[None], "network.linear.confidence_layer.weight": u,
        "network.linear.confidence_layer.bias": u0,
    }  # fmt: skip
    if bias:
        state["network.linear.bias"] = b

    def logits(x: torch.Tensor) -> torch.Tensor:
        f = body(x.flip(1))
        plain, confidence = f @ w.T + b, torch.sigmoid(f @ u.T + u0)
        if head == "linear":
            return plain
        return (1 + confidence * s) * plain + confidence * m

    notes = ["BGR images, as cvpods reads them by default: the first layer is turned to RGB"]
    if head == "linear":
        rest = [n.removeprefix("network.") for n in state if "logit" in n or "confidence" in n]
        notes.append(f"left out: {', '.join(rest)}")
    return Layout(
        {"model": state, "optimizer": {}, "iteration": 3}, state, "network.linear.weight",
        "disalign", "resnet18", logits, free=head == "linear" and bias,
        wanted=LoadSettings(head=head), notes=tuple(notes),
    )  # fmt: skip


def plain(prefix: str, head: str, arch: str = "resnet32") -> Layout:
    """A raw state dict, as CDB, torchvision's users and many others write."""
    body = backbone(arch)
    w, b = randn(C, architectures.CATALOGUE[arch].features), randn(C)
    state = named(body, prefix) | {f"{prefix}{head}.weight": w, f"{prefix}{head}.bias": b}
    return Layout(
        state, state, f"{prefix}{head}.weight", "state-dict", arch, linear(body, w, b),
        notes=(made.ASSUMED,),
    )  # fmt: skip


LAYOUTS: dict[str, Callable[[], Layout]] = {
    "LDAM-DRW, cosine": lambda: ldam_drw(True),
    "GCL, cosine by rows": lambda: ldam_drw(True, columns=False),
    "LDAM-DRW, linear": lambda: ldam_drw(False),
    "cRT": lambda: classifier_balancing("crt"),
    "cRT, last": lambda: classifier_balancing("crt", "last"),
    "cRT, latest": lambda: classifier_balancing("crt", "latest"),
    "LWS": lambda: classifier_balancing("lws"),
    "MARC": lambda: classifier_balancing("marc"),
    "weight balancing": weight_balancing,
    "OpenMMLab": openmmlab,
    "MiSLAS, stage 1": lambda: mislas(1),
    "MiSLAS, stage 2": lambda: mislas(2),
    "MiSLAS, block apart": lambda: mislas(2, block=True),
    "PaCo, CIFAR": paco,
    "PaCo": lambda: paco("resnet18"),
    "SSD, stage I": lambda: ssd(1),
    "SSD, stage II": lambda: ssd(2),
    "SSD, stage III": lambda: ssd(3),
    "SSD, hard head": lambda: ssd(3, "classifier"),
    "RIDE": lambda: ride(3),
    "RIDE, 2 full experts": lambda: ride(2, reduced=False),
    "RIDE, linear heads": lambda: ride(4, cosine=False),
    "RIDE, one expert": lambda: ride(1),
    "RIDE, routers": lambda: ride(2, routers=True),
    "RIDE, ImageNet": lambda: ride(2, arch="resnet10", cosine=False),
    "SADE": lambda: ride(3, reduced=False),
    "bag of tricks": lambda: bag_of_tricks("fc"),
    "bag of tricks, normalised": lambda: bag_of_tricks("norm"),
    "bag of tricks, no bias": lambda: bag_of_tricks("no bias"),
    "bag of tricks, LWS": lambda: bag_of_tricks("lws"),
    "bag of tricks, cRT": lambda: bag_of_tricks("crt"),
    "BBN": lambda: bag_of_tricks("fc", "resnet32_two_branch"),
    "OLTR": lambda: classifier_balancing("crt", arch="resnet10_oltr"),
    "PaCo, CIFAR, as released": lambda: paco("resnet32_wide"),
    "LADE": lambda: classifier_balancing("crt", arch="resnet32_two_branch"),
    "TDE, CIFAR": lambda: tde("resnet32_two_branch"),
    "TDE": lambda: tde("resnet18"),
    "DisAlign": disalign,
    "DisAlign, plain head": lambda: disalign("linear"),
    "DisAlign, no bias": lambda: disalign(bias=False),
    "L2T-ww": l2t_ww,
    "TSC, stage 2": lambda: plain("module.", "fc", "resnet18"),
    "CDB": lambda: plain("module.", "linear"),
    "torchvision's names": lambda: plain("", "fc", "resnet18"),
}
