"""ONNX models that do not end."""

import os
import signal

import made
import numpy as np
import pytest
import torch
from onnx_models import logits_of, model_of, randn, save

from ltkit import checkpoints
from ltkit.errors import FormatError, InputError
from ltkit.files import onnx_runs
from ltkit.untrusted import budget

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "down").mkdir()
    return tmp_path / "down" / "m.onnx"


# Models that do not end


def before(*nodes, **values):
    """Put operators before the last layer, whose result is added to the features times 0."""

    def change(model):
        from onnx import helper, numpy_helper

        made_nodes = [*nodes, helper.make_node("Mul", ["s", "zero"], ["z0"]),
                      helper.make_node("Add", ["f", "z0"], ["g"])]  # fmt: skip
        model.graph.node[-1].input[0] = "g"
        for node in reversed(made_nodes):
            model.graph.node.insert(3, node)
        for name, value in {"zero": np.float32(0), **values}.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))

    return change


def endless(kind="Loop"):
    """A loop that goes round 2^62 times, in or beside which nothing is."""
    from onnx import TensorProto, helper

    go, one = (helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go", "still"))
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    into, out = (helper.make_tensor_value_info(n, TensorProto.FLOAT, []) for n in ("in", "out"))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Cos", ["in"], ["out"])],
        "round", [count, go, into], [one, out],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["times", "true", "first"], ["s"], body=body)
    return before(loop, times=np.int64(1 << 62), true=np.array(True), first=np.float32(1))


def summed(node, **values):
    """Add up what an operator makes."""
    from onnx import helper

    total = helper.make_node("ReduceSum", ["large"], ["s"], keepdims=0)
    return before(node, total, **values)


def from_images(op, *inputs):
    """The number of the images, made large: no constant."""
    from onnx import helper

    n = helper.make_node
    return before(
        n("Shape", ["x"], ["shape"], start=0, end=1), n("Mul", ["shape", "many"], ["count"]),
        n(op, ["count" if i == "count" else i for i in inputs], ["large"]),
        n("ReduceSum", ["large"], ["s"], keepdims=0),
        many=np.array([1 << 38]), value=np.ones(1, np.float32),
    )  # fmt: skip


def functions():
    """Functions that call the one before ten times, twelve of them: 10^12 operators."""

    def change(model):
        from onnx import helper

        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 1)]
        for depth in range(12):
            kind, domain = (f"f{depth - 1}", "ours") if depth else ("Cos", "")
            nodes = [
                helper.make_node(kind, [f"v{i}"], [f"v{i + 1}"], domain=domain) for i in range(10)
            ]
            model.functions.append(
                helper.make_function("ours", f"f{depth}", ["v0"], ["v10"], nodes, opsets)
            )
        model.opset_import.append(helper.make_opsetid("ours", 1))
        call = helper.make_node("f11", ["zero"], ["s"], domain="ours")
        before(call)(model)

    return change


def hostile():
    from onnx import helper

    n = helper.make_node
    return {
        "a loop without end": endless(),
        "a constant of terabytes": summed(
            n("ConstantOfShape", ["shape"], ["large"]), shape=np.array([1 << 40])),
        "a constant that is spread": summed(
            n("Expand", ["one", "shape"], ["large"]), one=np.ones(1, np.float32),
            shape=np.array([1 << 20, 1 << 20])),
        "a constant that is repeated": summed(
            n("Tile", ["one", "times"], ["large"]), one=np.ones(1 << 10, np.float32),
            times=np.array([1 << 20])),
        "a value spread as images are many": from_images("Expand", "value", "count"),
        "a constant as large as images are many": from_images("ConstantOfShape", "count"),
        "functions of functions": functions(),
    }  # fmt: skip


@pytest.mark.parametrize("case", range(7))
def test_models_that_do_not_end_or_fill_the_memory(path, case):
    model = model_of()
    list(hostile().values())[case](model)
    path.write_bytes(model.SerializeToString())
    words = ("m.onnx: running the model", "extract from a checkpoint of the weights")
    message = made.refused(lambda: checkpoints.load(path), *words, error=FormatError)
    assert len(message) < 300 + len(str(path))
    save(model_of(), path)
    images = randn(2, 3, 16, 16)
    torch.testing.assert_close(checkpoints.load(path).network(images), logits_of(images))


def test_a_loop_that_ends_is_run(path):
    model = model_of()
    endless()(model)
    times = next(t for t in model.graph.initializer if t.name == "times")
    times.raw_data = np.int64(3).tobytes()
    path.write_bytes(model.SerializeToString())
    images = randn(2, 3, 16, 16)
    torch.testing.assert_close(checkpoints.load(path).network(images), logits_of(images))


def test_a_child_that_is_gone_is_a_line_and_is_started_again(path):
    save(model_of(), path)
    model, images = checkpoints.load(path), randn(2, 3, 16, 16)
    os.kill(onnx_runs.Session.server.pid, signal.SIGKILL)
    words = ("m.onnx: running the model was ended by SIGKILL",)
    made.refused(lambda: model.network(images), *words, error=FormatError)
    torch.testing.assert_close(model.network(images), logits_of(images))


def test_a_child_that_waits_is_ended(path, monkeypatch):
    save(model_of(), path)
    model, images = checkpoints.load(path), randn(2, 3, 16, 16)
    monkeypatch.setattr(onnx_runs, "WAIT", 0)
    monkeypatch.setattr(onnx_runs, "SLOWEST", 0.01)
    os.kill(onnx_runs.Session.server.pid, signal.SIGSTOP)
    made.refused(lambda: model.network(images), "took more than 0", error=FormatError)


def test_two_models_take_turns(path):
    save(model_of(), path)
    first, images = checkpoints.load(path), randn(2, 3, 16, 16)
    save(model_of("MatMul"), path)
    second = checkpoints.load(path)
    for _ in range(2):
        torch.testing.assert_close(first.network(images), logits_of(images))
        torch.testing.assert_close(second.network(images), logits_of(images, bias=False))


def test_outputs_have_a_bound(path, monkeypatch):
    save(model_of(), path)
    model, images = checkpoints.load(path), randn(2, 3, 16, 16)
    monkeypatch.setattr(budget, "BYTES", 0)
    monkeypatch.setattr(budget, "FOLD", 0)
    words = ("m.onnx: an output: claims", "expected at most 0")
    made.refused(lambda: model.network(images), *words, error=FormatError)


def test_outputs_are_numbers(path):
    from onnx import helper

    model = model_of("Gemm by columns")
    model.graph.node[-1].input[1] = "list"
    model.graph.node.insert(0, helper.make_node("SequenceConstruct", ["w", "w"], ["list"]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises((InputError, FormatError), match=r"m\.onnx"):
        checkpoints.load(path)
