"""ONNX models: values in the file or beside it, run with onnxruntime, written back."""

import contextlib
import os
import re
import signal
import sys
import warnings

import made
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ltkit import checkpoints
from ltkit.checkpoints.containers import onnx_file
from ltkit.errors import FormatError, InputError
from ltkit.exports.checkpoint import export_into
from ltkit.files import features as features_file
from ltkit.files import onnx_runs
from ltkit.records import ClassTable, Correction, Dataset, ImageSplit
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction
from ltkit.untrusted import budget

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]
C, D = 7, 6


@pytest.fixture
def path(tmp_path):
    (tmp_path / "down").mkdir()
    return tmp_path / "down" / "m.onnx"


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FILTERS, WEIGHT, BIAS = randn(D, 3, 3, 3, seed=3), randn(C, D), randn(C, seed=2)


def features_of(images):
    return functional.conv2d(images, FILTERS).relu().mean((2, 3))


def logits_of(images, bias=True):
    return features_of(images) @ WEIGHT.T + (BIAS if bias else 0)


ENDS = {
    "Gemm": lambda n: [n("Gemm", ["f", "w", "b"], ["y"], transB=1)],
    "Gemm by columns": lambda n: [n("Gemm", ["f", "w", "b"], ["y"])],
    "Gemm without bias": lambda n: [n("Gemm", ["f", "w"], ["y"], transB=1)],
    "MatMul": lambda n: [n("MatMul", ["f", "w"], ["y"])],
    "MatMul, Add": lambda n: [n("MatMul", ["f", "w"], ["m"]), n("Add", ["m", "b"], ["y"])],
    "Add first": lambda n: [n("MatMul", ["f", "w"], ["m"]), n("Add", ["b", "m"], ["y"])],
    "Gemm, Add": lambda n: [
        n("Gemm", ["f", "w", ""], ["m"], transB=1), n("Add", ["m", "b"], ["y"])],
    "Conv": lambda n: [
        n("Conv", ["f", "w", "b"], ["m"], kernel_shape=[1, 1]), n("Flatten", ["m"], ["y"])],
    "Softmax": lambda n: [
        n("Gemm", ["f", "w", "b"], ["m"], transB=1), n("Softmax", ["m"], ["y"], axis=1)],
    "Dropout": lambda n: [
        n("Dropout", ["f"], ["g"]), n("Gemm", ["g", "w", "b"], ["m"], transB=1),
        n("Identity", ["m"], ["y"])],
}  # fmt: skip
BY_COLUMNS = ("Gemm by columns", "MatMul", "MatMul, Add", "Add first")
BIASED = [end for end in ENDS if end not in ("Gemm without bias", "MatMul")]


def model_of(end="Gemm", dtype=np.float32, shape=("n", 3, 16, 16), constants=False, **changes):
    """Build a model: convolution, mean, and one of the ends; `changes` replace initializers."""
    from onnx import helper, numpy_helper

    weight = WEIGHT.numpy()
    weight = (
        weight.T if end in BY_COLUMNS else weight[:, :, None, None] if end == "Conv" else weight
    )
    axes = np.array([2, 3], np.int64)
    values = {"k": FILTERS.numpy(), "w": weight, "b": BIAS.numpy(), "axes": axes} | changes
    if end not in BIASED:
        del values["b"]
    tensors = [
        numpy_helper.from_array(
            np.ascontiguousarray(v if v.dtype != np.float32 else v.astype(dtype)), name
        )
        for name, v in values.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["f"], keepdims=int(end == "Conv")),
        *(ENDS[end](helper.make_node)),
    ]
    if constants:
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors] + nodes
        tensors = []
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [shape[0], C])], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def save(model, path, beside=()):
    """Save a model; initializers named in `beside` lie in another file."""
    import onnx
    from onnx.external_data_helper import set_external_data

    for tensor in model.graph.initializer:
        if tensor.name in beside:
            set_external_data(tensor, f"{path.name}.data")
    onnx.save_model(model, path)


def export(path, output, bias=True):
    model = checkpoints.load(path)
    base, rng = model.head.fold(), np.random.default_rng(0)
    weight = rng.normal(size=(1, 2, D)).astype(np.float32)
    shift = rng.normal(size=(1, 2)).astype(np.float32) * bias
    new = Correction("made", np.array([5, 6]), weight, shift, ({},))
    export_into(path, new, 0, output, made_from=model.digest)
    return new.classifier(base, 0)


@pytest.mark.parametrize("beside", [(), ("w", "b", "k")])
@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_model_is_cut_at_its_last_layer(path, end, beside, constants):
    save(model_of(end, constants=constants), path, beside)
    model, images = checkpoints.load(path), randn(5, 3, 16, 16)
    assert (model.family, model.arch, model.image_size) == ("onnx", "small", 16)
    features, logits = model.network.eval().features_and_logits(images)
    torch.testing.assert_close(features, features_of(images))
    torch.testing.assert_close(logits, logits_of(images, end in BIASED))
    extraction.check_head(model.network, model.head, images)
    np.testing.assert_array_equal(model.head.weight, WEIGHT.numpy())
    names = {"head.weight": "w"} | ({"head.bias": "b"} if end in BIASED else {})
    assert {ours: there.name for ours, there in model.stored.items()} == names
    assert model.stored["head.weight"].transposed == (end in BY_COLUMNS)
    assert any("softmax is left out" in note for note in model.notes) == (end == "Softmax")


@pytest.mark.parametrize("beside", [(), ("w", "k")])
@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_the_corrected_model_differs_in_its_head_alone(path, tmp_path, end, beside, constants):
    import onnx

    save(model_of(end, constants=constants), path, beside)
    output = tmp_path / "sub" / "out.onnx"
    output.parent.mkdir()
    classifier = export(path, output, bias=end in BIASED)
    images = randn(4, 3, 16, 16)
    found = checkpoints.load(output).network(images)
    np.testing.assert_allclose(found, classifier.logits(features_of(images).numpy()), atol=1e-5)
    old, new = onnx.load_model(path), onnx.load_model(output, load_external_data=False)
    for before, after in zip(old.graph.initializer, new.graph.initializer, strict=True):
        assert (before.name, before.data_type, before.dims) == (
            after.name, after.data_type, after.dims,
        )  # fmt: skip
        if before.name not in ("w", "b"):
            before.ClearField("external_data")
            before.ClearField("data_location")
            after.ClearField("data_location")
            assert before == after
    if not constants:
        assert list(old.graph.node) == list(new.graph.node)
    assert made.beside(output) == ["out.onnx"]


def test_the_digest_is_of_both_files(path):
    save(model_of(), path, ("w",))
    before = checkpoints.read(path).digest
    beside = path.with_name("m.onnx.data")
    content = bytearray(beside.read_bytes())
    content[0] ^= 1
    beside.write_bytes(content)
    assert checkpoints.read(path).digest != before


def test_what_torch_exports(path, tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, D, 3, bias=False), nn.Linear(D, C)
            self.conv.weight.data, self.fc.weight.data, self.fc.bias.data = FILTERS, WEIGHT, BIAS

        def forward(self, x):
            return self.fc(self.conv(x).relu().mean((2, 3)))

    images = randn(4, 3, 16, 16)
    for dynamo in (True, False):
        named = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if dynamo else {
            "dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]}  # fmt: skip
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(Net().eval(), (images,), path, dynamo=dynamo, verbose=False, **named)
        model = checkpoints.load(path)
        names = {ours: there.name for ours, there in model.stored.items()}
        assert names == {"head.weight": "fc.weight", "head.bias": "fc.bias"}
        torch.testing.assert_close(model.network(images), logits_of(images))
        classifier = export(path, tmp_path / "out.onnx")
        found = checkpoints.load(tmp_path / "out.onnx").network(images)
        expected = classifier.logits(features_of(images).numpy())
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_computed_with_in_float32(path, tmp_path, kind):
    if kind == "float16":
        dtype, torchs = np.float16, torch.float16
    else:
        import ml_dtypes

        dtype, torchs = ml_dtypes.bfloat16, torch.bfloat16
    save(model_of("Gemm, Add", dtype), path, ("w",))
    model, images = checkpoints.load(path), randn(4, 3, 16, 16)
    assert f"{kind} weights are computed with in float32" in model.notes
    features, logits = model.network.features_and_logits(images)
    body = functional.conv2d(images, FILTERS.to(torchs).float()).relu().mean((2, 3))
    torch.testing.assert_close(features, body)
    weight, bias = WEIGHT.to(torchs).float(), BIAS.to(torchs).float()
    torch.testing.assert_close(logits, body @ weight.T + bias)
    export(path, tmp_path / "out.onnx")
    state = checkpoints.read(tmp_path / "out.onnx").states["program",]
    assert state["w"].dtype == state["b"].dtype == torchs
    assert torch.equal(state["w"][:5], WEIGHT[:5].to(torchs))


def test_casts_to_half_precision_are_dropped(path):
    from onnx import helper

    model = model_of()
    model.graph.node.insert(2, helper.make_node("Cast", ["r"], ["r16"], to=10))
    model.graph.node.insert(3, helper.make_node("Cast", ["r16"], ["r32"], to=1))
    model.graph.node[4].input[0] = "r32"
    save(model, path)
    images = randn(4, 3, 16, 16)
    torch.testing.assert_close(checkpoints.load(path).network(images), logits_of(images))


def test_a_model_for_one_number_of_images(path):
    save(model_of(shape=(2, 3, 96, 96)), path)
    model, images = checkpoints.load(path), randn(5, 3, 96, 96)
    torch.testing.assert_close(model.network(images), logits_of(images))
    assert "the program takes 2 images at a time" in model.notes
    assert (model.view.resize, model.view.crop) == (109, 96)
    with pytest.raises(InputError, match="does not take a batch of"):
        extraction.check_head(model.network, model.head, images[..., :32, :32])


def test_file_to_features(path, tmp_path):
    save(model_of(shape=("n", 3, "h", "w")), path, ("w",))
    images = np.random.default_rng(0).integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
    split = ImageSplit(images, np.arange(14) % C, np.arange(14).astype(str))
    data = Dataset(
        {"test": split}, ClassTable(np.full(C, 2)), (0.5,) * 3, (0.5,) * 3, 0, False,
        {"spec": "random", "index_digest": "x"},
    )  # fmt: skip
    model = checkpoints.load(path, LoadSettings(mean=(0.4,) * 3, std=(0.2,) * 3))
    output = tmp_path / "f.h5"
    extraction.extract(model, data, ("test",), output, ExtractSettings(batch_size=8))
    found = features_file.read(output)
    values = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.4) / 0.2
    logits = found.classifier().logits(found.split("test").features[:])
    np.testing.assert_allclose(logits, logits_of(values), atol=1e-4)


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
