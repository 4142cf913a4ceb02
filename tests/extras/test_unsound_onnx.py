"""ONNX models that are not sound, or not safe."""

import contextlib
import os
import re
import sys

import made
import numpy as np
import pytest
import torch
from onnx_models import WEIGHT, C, D, export, logits_of, model_of, randn, save

from ltkit import checkpoints
from ltkit.checkpoints.containers import onnx_file
from ltkit.errors import FormatError, InputError
from ltkit.sources import extraction
from ltkit.untrusted import budget

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "down").mkdir()
    return tmp_path / "down" / "m.onnx"


# Models that are not sound, or not safe


def location(said, name="w", **others):
    def change(path):
        import onnx

        model = onnx.load_model(path, load_external_data=False)
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        del tensor.external_data[:]
        for key, value in {"location": said, **others}.items():
            tensor.external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())

    return change


def linked(path):
    other = path.parent.parent / "elsewhere"
    other.write_bytes(WEIGHT.numpy().tobytes())
    (path.parent / "chain").symlink_to(other)
    (path.parent / "link").symlink_to("chain")
    location("link")(path)


def linked_folder(path):
    (path.parent.parent / "real").mkdir()
    (path.parent.parent / "real" / "w").write_bytes(WEIGHT.numpy().tobytes())
    (path.parent / "inner").symlink_to("../real")
    location("inner/w")(path)


def pipe(path):
    os.mkfifo(path.parent / "pipe")
    location("pipe")(path)


def inner(message):
    """Refer to values elsewhere in a graph within an operator, in a function, in sparse values."""

    def change(path):
        import onnx
        from onnx import helper

        model = onnx.load_model(path)
        tensor = onnx.TensorProto(name="v", data_type=1, dims=[1], data_location=1)
        tensor.external_data.add(key="location", value="../secret")
        body = helper.make_graph([], "g", [], [], [tensor])
        if message == "branch":
            model.graph.node.append(
                helper.make_node("If", ["x"], ["q"], then_branch=body, else_branch=body)
            )
        elif message == "function":
            node = helper.make_node("Constant", [], ["q"], value=tensor)
            model.functions.append(
                helper.make_function("d", "f", [], ["q"], [node], [helper.make_opsetid("", 18)])
            )
        else:
            model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor))
        path.write_bytes(model.SerializeToString())

    return change


def beside(content, **others):
    def change(path):
        (path.parent / "d").write_bytes(content)
        location("d", **others)(path)

    return change


def initializer(name, **changes):
    def change(path):
        import onnx

        model = onnx.load_model(path)
        tensor = next(t for t in model.graph.initializer if t.name == name)
        for field, value in changes.items():
            if field == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, field, value)
        path.write_bytes(model.SerializeToString())

    return change


def cut(length):
    return lambda path: path.write_bytes(path.read_bytes()[:length])


W = WEIGHT.numpy().tobytes()

BAD = {
    "values above": (location("../w"), ["refused: w: its values are in '../w'"]),
    "values anywhere": (location("/etc/passwd"), ["refused: w", "'/etc/passwd'"]),
    "values on a drive": (location("C:\\w"), ["refused: w"]),
    "values in a device": (location("/dev/zero"), ["refused: w"]),
    "values up and down": (location("a/../../w"), ["refused: w"]),
    "values nowhere": (location(""), ["refused: w", "''"]),
    "values behind a link": (linked, ["refused: w", "'link'"]),
    "values behind a linked folder": (linked_folder, ["refused: w", "'inner/w'"]),
    "values in a pipe": (pipe, ["pipe: missing, m.onnx has values there"]),
    "values of an operator's graph": (inner("branch"), ["refused: v: has values in another file"]),
    "values of a function": (inner("function"), ["refused: v: has values in another file"]),
    "values of a sparse tensor": (inner("sparse"), ["refused: v: has values in another file"]),
    "values in a folder": (location("."), ["missing, m.onnx has values there"]),
    "values that are missing": (location("gone.data"), ["gone.data: missing, m.onnx has values"]),
    "values past the end": (beside(W, offset="4", length=str(len(W))), ["d: found 168 bytes"]),
    "values before the start": (beside(W, offset="-4"), ["d: found 168 bytes"]),
    "values of no length": (beside(W, length="-1"), ["d: found 168 bytes"]),
    "values that are too few": (beside(W[:-4]), ["m.onnx"]),
    "an offset that is no number": (beside(W, offset="x"), ["m.onnx: not sound ONNX"]),
    "a shape that is too large": (initializer("w", dims=[1 << 20, 1 << 20]), ["m.onnx"]),
    "a shape that is too small": (initializer("w", dims=[C, D - 1]), ["m.onnx"]),
    "a negative shape": (initializer("w", dims=[-1, D]), ["m.onnx"]),
    "NaN": (initializer("w", raw_data=np.full((C, D), np.nan, np.float32).tobytes()),
            ["m.onnx: w: holds NaN or infinity"]),
    "cut in half": (cut(500), ["m.onnx"]),
    "cut to its mark": (cut(4), ["m.onnx"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_models_that_are_not_sound(path, case):
    save(model_of(), path)
    change, words = BAD[case]
    change(path)
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)


def test_values_behind_a_link_within_the_folder(path):
    save(model_of(), path)
    (path.parent / "real").mkdir()
    (path.parent / "real" / "w").write_bytes(W)
    (path.parent / "inner").symlink_to("real")
    location("inner/w")(path)
    images = randn(3, 3, 16, 16)
    torch.testing.assert_close(checkpoints.load(path).network(images), logits_of(images))


def test_values_that_are_said_often_add_up(path, monkeypatch):
    save(model_of(), path, ("w",))
    monkeypatch.setattr(budget, "BYTES", 0)
    monkeypatch.setattr(budget, "FOLD", 1)
    assert checkpoints.load(path).family == "onnx"
    import onnx

    model = onnx.load_model(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "w")
    for number in range(99):
        model.graph.initializer.add().CopyFrom(tensor)
        model.graph.initializer[-1].name = f"w{number}"
    path.write_bytes(model.SerializeToString())
    said = made.refused(lambda: checkpoints.load(path), "m.onnx: w", "claims", error=FormatError)
    claimed, most = map(
        int, re.search(r"claims (\d+) bytes, expected at most (\d+)", said).groups()
    )
    assert claimed % len(W) == 0  # of so many of them together
    assert claimed - len(W) <= most < claimed


def test_values_in_a_folder_below(path):
    save(model_of(), path)
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "w").write_bytes(b"1234" + W)
    location("sub/w", offset="4")(path)
    images = randn(3, 3, 16, 16)
    torch.testing.assert_close(checkpoints.load(path).network(images), logits_of(images))


def test_damaged_models_are_refused_or_read(path):
    save(model_of(), path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for position in rng.choice(len(whole), 300, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with contextlib.suppress(FormatError, InputError):
            checkpoints.load(path)


def test_a_model_that_is_too_large(path, monkeypatch):
    save(model_of(), path, ("w",))
    monkeypatch.setattr(onnx_file, "MAX_BYTES", path.stat().st_size + len(W) - 1)
    words = ("m.onnx: has more than", "bytes of values")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    monkeypatch.setattr(onnx_file, "MAX_BYTES", path.stat().st_size + len(W))
    assert checkpoints.load(path).family == "onnx"


def test_values_that_are_used_twice_are_not_written(path, tmp_path):
    from onnx import helper

    model = model_of("Gemm by columns")
    model.graph.node.insert(3, helper.make_node("MatMul", ["f", "w"], ["twin"]))
    save(model, path)
    words = ("m.onnx: w: is used 2 times", "--to npz")
    made.refused(lambda: export(path, tmp_path / "o.onnx"), *words, error=InputError)
    assert made.beside(path) == ["m.onnx"]


def ends_in(kind, **attributes):
    def change(model):
        from onnx import helper

        model.graph.node[-1].output[0] = "z"
        model.graph.node.append(helper.make_node(kind, ["z"], ["y"], **attributes))

    return change


def two_inputs(model):
    from onnx import helper

    model.graph.input.append(helper.make_tensor_value_info("z", 1, ["n", 3]))


def flat_input(model):
    model.graph.input[0].type.tensor_type.shape.dim.pop()


def unknown_operator(model):
    from onnx import helper

    model.opset_import.append(helper.make_opsetid("ours", 1))
    model.graph.node[1].domain, model.graph.node[1].op_type = "ours", "Mystery"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (ends_in("Relu"), ["found Relu at the program's end, expected a linear layer"]),
        (two_inputs, ["found inputs", "expected images: (batch, channels, H, W)"]),
        (flat_input, ["found inputs [[None, 3, 16]]"]),
        (unknown_operator, ["onnxruntime does not take the model", "Mystery"]),
    ],
)
def test_models_that_cannot_be_taken(path, change, words, capfd):
    model = model_of()
    change(model)
    path.write_bytes(model.SerializeToString())
    made.refused(lambda: checkpoints.load(path), "m.onnx", *words, error=InputError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(1 << 40, 3, 16, 16), (-1, 3, 16, 16), (2, 3, -8, -8),
                                   (1, 3, 1 << 20, 1 << 20)])  # fmt: skip
def test_a_model_for_images_that_cannot_be(path, shape):
    path.write_bytes(model_of(shape=shape).SerializeToString())
    words = ("m.onnx: takes images of", "expected squares")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)


def test_a_model_for_larger_images_than_are_tried(path, capfd):
    save(model_of(shape=("n", 3, "h", "w"), k=np.zeros((D, 3, 400, 400), np.float32)), path)
    words = ("m.onnx: the program does not take images of 224 or 32 or 64", "pixels (")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    assert capfd.readouterr() == ("", "")


def test_a_weight_that_the_model_makes_is_extracted_but_not_written(path, tmp_path):
    from onnx import helper

    model = model_of("Gemm by columns")
    model.graph.node[-1].input[1] = "half"
    model.graph.node.insert(0, helper.make_node("Add", ["w", "w"], ["half"]))
    save(model, path)
    found, images = checkpoints.load(path), randn(3, 3, 16, 16)
    extraction.check_head(found.network, found.head, images)
    np.testing.assert_allclose(found.head.weight, 2 * WEIGHT.numpy())
    words = ("the program makes its weights itself", "--to npz")
    made.refused(lambda: export(path, tmp_path / "o.onnx"), *words, error=InputError)


def test_without_onnxruntime(path, monkeypatch):
    save(model_of(), path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = ("m.onnx: is ONNX, and onnxruntime is not installed", "pip install 'ltkit[onnx]'")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    assert checkpoints.read(path).container == "onnx"
