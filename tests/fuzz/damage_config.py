"""Damage of what describes a network: numbers of configurations, and the graphs of programs.

The files stay what they are; what they say is wrong: sizes, statistics, loops, shapes.
"""

import json

import numpy as np

SIZES = (0, -1, 1, 3, 7, 224, 2048, 2049, 8000, 65536, 10**6, 4 * 10**8, 1 << 31, 1 << 40, 1 << 63,
         10**400, 0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), True, None, "8", [8, 8],
         [], [0.5], [8] * 5000, {"height": 8}, {"shortest_edge": -1}, {"a": 8})  # fmt: skip
"""What numbers are exchanged for."""

TRIPLES = (
    [0.0] * 3, [0.5, 0.5, -0.5], [1e-300] * 3, [0.5] * 2, [0.5] * 4, ["0.5"] * 3, [True] * 3,
    [float("nan")] * 3, [10**400] * 3, [[0.5]] * 3, 0.5, "0.5", None, {}, [0.25] * 3,
)  # fmt: skip
"""What means and deviations are exchanged for."""

SAID = {
    "config.json": (
        "num_labels", "hidden_sizes", "depths", "embedding_size", "num_channels", "image_size",
        "patch_size", "layer_norm_eps", "downsample_in_first_stage", "id2label", "vision_config",
        "num_hidden_layers", "problem_type", "global_pool", "num_classes", "pretrained_cfg",
    ),
    "preprocessor_config.json": (
        "size", "crop_size", "crop_pct", "rescale_factor", "resample", "do_resize", "do_rescale",
        "do_normalize", "do_center_crop", "include_top", "rescale_offset", "do_flip_channel_order",
    ),
}  # fmt: skip


def folders():
    """Sound folders of transformers: a ViT and a ResNet."""
    import torch
    from extras import missing_operators  # noqa: F401  declares what torchvision's import needs
    from safetensors.torch import save
    from transformers import AutoConfig, AutoModelForImageClassification

    vit = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8,
           "intermediate_size": 32, "image_size": 32}  # fmt: skip
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    images = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
              "do_rescale": True, "rescale_factor": 1 / 255, "resample": 3}  # fmt: skip
    found = []
    for kind, said in (("vit", vit), ("resnet", resnet)):
        config = AutoConfig.for_model(kind, num_labels=3, **said)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForImageClassification.from_config(config)
        named = {"architectures": [type(model).__name__], "model_type": kind, **said,
                 "id2label": {"0": "a", "1": "b", "2": "c"}}  # fmt: skip
        found.append({
            "config.json": json.dumps(named).encode(),
            "preprocessor_config.json": json.dumps(images).encode(),
            "model.safetensors": save(model.state_dict(), {"format": "pt"}),
        })  # fmt: skip
    return found


def numbers(files, rng):
    """Exchange numbers of a folder's configurations, or add others."""
    found = dict(files)
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice([name for name in SAID if name in found])
        said = json.loads(found[name])
        key = rng.choice((*said, *SAID[name]))
        if rng.random() < 0.3 and name.startswith("pre"):
            said[rng.choice(("image_mean", "image_std"))] = rng.choice(TRIPLES)
        elif rng.random() < 0.3 and isinstance(said.get(key), list | dict) and said[key]:
            inner = said[key]
            at = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
            inner[at] = rng.choice(SIZES)
        else:
            said[key] = rng.choice(SIZES)
        found[name] = json.dumps(said).encode()
    return found


def graphs(files, rng):
    """Put loops, functions and operators that make large values into a model's graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_model_from_string(files["m.onnx"])
    graph, node = model.graph, helper.make_node
    many = rng.choice((0, 1, -1, 1 << 20, 1 << 31, 1 << 40, 1 << 62))
    values = {"many": np.array([many]), "one": np.ones(1, np.float32), "zero": np.float32(0)}
    go, still = (helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go", "still"))
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    into, out = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("in", "out"))
    body = helper.make_graph(
        [node("Identity", ["go"], ["still"]), node("Cos", ["in"], ["out"])],
        "round", [count, go, into], [still, out],
    )  # fmt: skip
    for _ in range(rng.choice((1, 3, 30))):
        body = helper.make_graph(
            [node("Loop", ["many", "", "in"], ["out"], body=body),
             node("Identity", ["go"], ["still"])],
            "round", [count, go, into], [still, out],
        )  # fmt: skip
        if rng.random() < 0.7:
            break
    kinds = (
        [node("Loop", ["many", "", "one"], ["large"], body=body)],
        [node("ConstantOfShape", ["many"], ["large"])],
        [node("Expand", ["one", "many"], ["large"])],
        [node("Tile", ["one", "many"], ["large"])],
        [node("Range", ["zero", "far", "step"], ["large"])],
        [node("Shape", ["x"], ["shape"], start=0, end=1), node("Mul", ["shape", "many"], ["n"]),
         node("Expand", ["one", "n"], ["large"])],
        [node("ReduceMax", ["x"], ["top"], keepdims=0), node("Cast", ["top"], ["n"], to=7),
         node("Add", ["n", "many"], ["m"]), node("ConstantOfShape", ["m"], ["large"])],
        [node("f9", ["one"], ["large"], domain="ours")],
    )  # fmt: skip
    values |= {"far": np.float32(min(abs(many), 1 << 40)), "step": np.float32(rng.choice((1, 0)))}
    wide = rng.choice((2, 10))
    for depth in range(10):
        kind, domain = (f"f{depth - 1}", "ours") if depth else ("Cos", "")
        calls = [node(kind, [f"v{i}"], [f"v{i + 1}"], domain=domain) for i in range(wide)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ours", 1)]
        model.functions.append(
            helper.make_function("ours", f"f{depth}", ["v0"], [f"v{wide}"], calls, opsets)
        )
    model.opset_import.append(helper.make_opsetid("ours", 1))
    added = [
        *rng.choice(kinds),
        node("ReduceSum", ["large"], ["s"], keepdims=0),
        node("Mul", ["s", "zero"], ["none"]),
        node("Add", ["f", "none"], ["h"]),
    ]
    graph.node[-1].input[0] = "h"
    for one in added:
        graph.node.insert(len(graph.node) - 1, one)
    for name, value in values.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return {**files, "m.onnx": model.SerializeToString()}


KINDS = {"hugging-face-numbers": numbers, "onnx-graphs": graphs}
