"""Pickles made of opcodes at random, of which most have what each opcode needs on the stack."""

import struct

import payloads

MARK = "@@@@@"
"""The text that stands in a sound pickle where a program is put."""

GLOBALS = (
    ("collections", "OrderedDict"), ("collections", "Counter"), ("collections", "defaultdict"),
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor_v3"),
    ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"), ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_qtensor"), ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch.storage", "_load_from_bytes"), ("torch", "Size"), ("torch", "device"),
    ("torch", "float32"), ("torch", "FloatStorage"), ("torch", "QInt8Storage"),
    ("torch.storage", "UntypedStorage"), ("_codecs", "encode"), ("builtins", "set"),
    ("builtins", "frozenset"), ("builtins", "complex"), ("builtins", "bytearray"),
    ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy.core.numeric", "_frombuffer"),
    ("argparse", "Namespace"), ("pathlib", "PosixPath"), ("project", "Config"),
    ("builtins", "list"), ("os", "getcwd"), ("copyreg", "_reconstructor"),
    ("__torch__", "M"), ("torch.jit._pickle", "build_intlist"),
)  # fmt: skip
LARGEST = 1 << 20
"""A program is not repeated to more bytes: these are read one by one."""

SIZES = (0, 1, 2, 7, 64, 1 << 10, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 70)


def atom(rng):
    """Opcodes that push something plain."""
    number = rng.choice(SIZES) * rng.choice((1, 1, -1))
    return rng.choice((
        b"N", b"\x88", b"\x89", b"I1\n", b"L12L\n", b"F1.5\n", b"K\x05", b"M\x05\x01",
        b"J\xff\xff\xff\x7f", b"G\x7f\xf8\0\0\0\0\0\0", b"G?\xf0\0\0\0\0\0\0", b"}", b"]", b")",
        b"\x8f", payloads.number(number), payloads.text(rng.choice(("a", "x.weight", "u1", "f4",
        "latin1", "storage", "cpu", "0", "1", "<", "é"))), payloads.raw(rng.choice((b"", b"ab",
        b"\0" * 64, b"\x80\x02N."))), b"\x8c\x01b", b"C\x02ab", b"U\x02u1", b"S'x'\n", b"Vx\n",
        payloads.number(rng.choice((7, -1)) << rng.choice((60, 61, 900, 2000))),
        b"\x96\x03\0\0\0\0\0\0\0abc", b"\x8e\x02\0\0\0\0\0\0\0ab", b"\x8d\x01\0\0\0\0\0\0\0a",
    ))  # fmt: skip


def named(rng):
    """Opcodes that push what a global stands for."""
    module, name = rng.choice(GLOBALS)
    return rng.choice((payloads.named, payloads.stacked))(module, name)


def storage(rng):
    """Opcodes that push a storage of the file, or what says that it is one."""
    kind = payloads.named("torch", rng.choice(("FloatStorage", "LongStorage", "ComplexFloatStorage",
                                               "QInt8Storage", "Evil")))  # fmt: skip
    saved = [payloads.text("storage"), kind, payloads.text(rng.choice("01x")),
             payloads.text("cpu"), payloads.number(rng.choice(SIZES)), b"N"]  # fmt: skip
    return payloads.items(*saved[: rng.choice((5, 5, 5, 6, 2))]) + b"Q"


def tensor(rng):
    """Opcodes that push a tensor, or a wrong one."""
    shape = [payloads.number(rng.choice(SIZES[:6])) for _ in range(rng.choice((0, 1, 2, 2, 20)))]
    strides = [payloads.number(rng.choice((0, 1, 7, -1))) for _ in shape]
    return payloads.call(
        payloads.REBUILD, storage(rng), payloads.number(rng.choice((0, 1, 1 << 40))),
        payloads.items(*shape), payloads.items(*strides), rng.choice((b"\x88", b"\x89")),
        payloads.ORDERED, *rng.choice(((), (payloads.mapping(neg=b"\x88"),))),
    )  # fmt: skip


def knot(rng):
    """Opcodes that push little that has no end, or a great many leaves."""
    count = rng.choice((3, 20, 60, 300))
    twice = atom(rng) + b"2\x86" * count  # a tuple of itself twice, `count` deep
    itself = b"}q\x01" + payloads.text("a") + b"h\x01s"
    many = b"}q\x02(" + b"".join(payloads.text(f"k{n}") + b"h\x02" for n in range(count)) + b"u"
    heavy = payloads.raw(b"\0" * 5000) + b"q\x030"
    return rng.choice((
        twice, b"}" + twice + b"Ns", b"}(" + twice + b"Nu", b"(" + twice + b"Nd",
        b"\x8f(" + twice + b"\x90", b"(" + twice + b"\x91", itself, many, b"]q\x01h\x01a",
        b"}q\x01(" + (payloads.text("b") + b"h\x01") * count + b"u",
        payloads.call(payloads.named("builtins", "set"), payloads.listed(twice)),
        heavy + payloads.listed(*[payloads.call(payloads.named("builtins", "bytearray"),
                                                b"h\x03")] * count),
        payloads.call(payloads.named("torch.storage", "_load_from_bytes"),
                      payloads.raw(b"\x80\x02" + twice[:200] + b".")),
        (b"]q\x04(" + b"h\x04" * 99 + b"e0") * count + b"h\x04", b"\x8f" * 3000 + b"(" + b"0" * 3,
        payloads.call(payloads.named("collections", "OrderedDict"),
                      payloads.listed(payloads.items(twice, b"N"))),
    ))  # fmt: skip


def program(rng):
    """Opcodes that mostly leave one more object on the stack."""
    made, depth, memo = [], 0, 0
    for _ in range(rng.choice((1, 3, 10, 40))):
        kind = rng.randrange(16)
        if kind < 5 or depth < 2:
            made.append(rng.choice((atom, atom, atom, named, storage, tensor, knot))(rng))
            depth += 1
        elif kind == 5:
            made.append(b"2")
            depth += 1
        elif kind == 6:
            made.append(b"q" + bytes([10 + memo % 200]))
            memo += 1
        elif kind == 7 and memo:
            made.append(b"h" + bytes([10 + rng.randrange(memo) % 200]))
            depth += 1
        elif kind == 8:
            count = rng.choice((1, 2, 3))
            made.append({1: b"\x85", 2: b"\x86", 3: b"\x87"}[count])
            depth -= min(count, depth) - 1
        elif kind == 9:
            inner = b"".join(rng.choice((atom, named))(rng) for _ in range(rng.choice((0, 2, 4))))
            made.append(b"(" + inner + rng.choice((b"t", b"l", b"d", b"\x91", b"o")))
            depth += 1
        elif kind == 10:
            inner = b"".join(atom(rng) for _ in range(rng.choice((0, 2, 4))))
            made.append(b"(" + inner + rng.choice((b"u", b"e", b"\x90")))
        elif kind == 11:
            made.append(named(rng) + payloads.items(*[atom(rng) for _ in range(rng.randrange(3))]))
            made[-1] += rng.choice((b"R", b"\x81", b"}\x92"))
            depth += 1
        elif kind == 12:
            made.append(rng.choice((b"R", b"b", b"a", b"\x81", b"Q", b"\x93")))
            depth -= 1
        elif kind == 13:
            made.append(atom(rng) + rng.choice((b"b", b"a")))
        elif kind == 14:
            made.append(atom(rng) + atom(rng) + b"s")
        else:
            frame = atom(rng)
            made.append(b"\x95" + struct.pack("<Q", rng.choice((len(frame), 1 << 62))) + frame)
            depth += 1
    return b"".join(made) + b"0" * max(depth - 1, 0)


def put(raw, rng):
    """Put a program where the mark is; sometimes so many times that it adds up."""
    mark = payloads.text(MARK)
    if mark not in raw:
        raise ValueError("no mark in the pickle")
    made, times = program(rng), rng.choice((10, 1000))
    if rng.random() < 0.1 and len(made) * times < LARGEST:
        made = payloads.listed(*[made] * times)
    return raw.replace(mark, made)
