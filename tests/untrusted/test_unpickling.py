"""A pickle has an end, whatever it says."""

import io
import pickle

import payloads
import pytest

from ltkit.errors import FormatError
from ltkit.untrusted.budget import Budget
from ltkit.untrusted.unpickling import Unpickler


def load(raw, kind=Unpickler, budget=None):
    budget = budget or Budget("x.pkl", len(raw))
    return kind(io.BytesIO(raw), budget, size=len(raw)).load()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_things_are_read_as_python_reads_them(protocol):
    thing = {"a": [1, 2.5, None, True, b"x", "é" * 300, (1, (2,)), -(1 << 70)], 7: {}, None: "n",
             True: [[]] * 9,
             (1, "a"): bytearray(b"x") if protocol == 5 else 0, 1.5: ()}  # fmt: skip
    if protocol >= 4:
        thing["sets"] = [{1, "a"}, frozenset((1, (2, 3)))]
    if protocol < 3:
        thing["a"][4] = "x"  # bytes are a call there
    assert load(pickle.dumps(thing, protocol)) == thing


@pytest.mark.parametrize(
    ("opcodes", "words"),
    [(b"cos\nsystem\n.", "GLOBAL os.system"), (b"\x82\x01.", "extension 1"),
     (b"P1\n.", "persistent id"), (b"K\x01Q.", "persistent id"), (b"", "truncated"),
     (b"K\x01", "truncated"), (b".", "truncated"), (b"\x95\xff\xff\xff\xff\0\0\0\0.", "truncated"),
     (b"X\xff\xff\xff\xffx.", "truncated"), (b"\x96\xff\xff\xff\xff\0\0\0\0x.", "truncated"),
     (b"K\x01)\x81.", "class int of a class"), (b"K\x01)}\x92.", "class int of a class"),
     (b"K\x01]R.", "class list of arguments"), (b"K\x01)b.", "class int to be changed"),
     (b"}]Ns.", "class list as a key"), (b"}(]Nu.", "class list as a key"),
     (b"(]Nd.", "class list as a key"), (b"\x8f(]\x90.", "class list as a key"),
     (b"(]\x91.", "class list as a key"), (b"}]\x85Ns.", "class list in a key"),
     (b"K\x01NNs.", "class int to be filled"), (b"N(NNu.", "class NoneType to be filled"),
     (b"](K\x01\x90.", "class list to be filled"), (b")Na.", "class tuple to be filled"),
     (b"}(Ne.", "class dict to be filled"), (b"]}b.", "class list to be changed"),
     (payloads.number(1 << 1000) + b".", "a number of 1001 bits"),
     (b"L" + b"9" * 400 + b"L\n.", "a number of"), (b"I" + b"9" * 400 + b"\n.", "a number of"),
     (b"\x8b\xff\0\0\0" + b"\1" * 255 + b".", "a number of")],
)  # fmt: skip
def test_what_is_refused(opcodes, words):
    with pytest.raises(pickle.UnpicklingError, match=words):
        load(opcodes)


def test_keys_have_few_leaves():
    tuples = [b"K\x01" + b"2\x86" * depth for depth in (5, 6)]
    assert load(b"}" + tuples[0] + b"Ns.")
    for opcodes in (b"}" + tuples[1] + b"Ns.", b"\x8f(" + tuples[1] + b"\x90."):
        with pytest.raises(pickle.UnpicklingError, match="of too many values"):
            load(opcodes)


class Taking:
    """Takes a state."""

    def __setstate__(self, state):
        self.state = state


class Calls(Unpickler):
    """Builds bytes, and what takes a state."""

    changed = (Taking,)

    def find_class(self, module, name):
        return {"bytes": bytes, "Taking": Taking}[name]


@pytest.mark.parametrize("call", [b"\x85R", b"\x85\x81", b"\x85}\x92"])
def test_copies_of_the_same_bytes_add_up(call):
    assert load(b"\x80\x04cx\nbytes\nC\x02ab" + call + b".", Calls) == b"ab"
    raw = payloads.raw(b"x" * 100_000) + b"q\x010" + b"cx\nbytes\nh\x01" + call + b"0"
    again = b"cx\nbytes\nh\x01" + call + b"0"
    with pytest.raises(FormatError, match="its pickle: claims"):
        load(raw + again * 6000 + b"N.", Calls)


def test_states_add_up():
    raw = payloads.raw(b"x" * 100_000) + b"q\x01"
    raw += (b"cx\nTaking\n)\x81h\x01\x85b0") * 6000
    with pytest.raises(FormatError, match="its pickle: claims"):
        load(raw + b".", Calls)
    found = load(b"cx\nTaking\n)\x81K\x05b.", Calls)
    assert found.state == 5


def test_long_lists_that_are_given_again_take_steps():
    raw = b"](" + b"N" * 1000 + b"eq\x010" + b"cx\nbytes\n" + b"q\x020"
    budget = Budget("x.pkl", 0)
    with pytest.raises(FormatError, match="takes over"):
        load(raw + b"h\x02h\x01\x85R0" * 2000 + b"N.", Sizes, budget)


class Sizes(Unpickler):
    """Counts what it is given."""

    def find_class(self, module, name):
        return len


@pytest.mark.parametrize("keys", [
    [payloads.number((1 << 61) * n) for n in range(1, 3000)],
    [b"K\x01" + payloads.number(n) + b"\x86" for n in range(3000)],
])  # fmt: skip
def test_keys_that_may_collide_take_many_steps(keys):
    few, many = (b"}(" + b"".join(key + b"N" for key in part) + b"u." for part in (keys[:50], keys))
    assert len(load(few, budget=Budget("x.pkl", 0))) == 50
    with pytest.raises(FormatError, match="takes over"):
        load(many, budget=Budget("x.pkl", 0))
    plain = b"}(" + b"".join(payloads.number(n) + b"N" for n in range(3000)) + b"u."
    assert len(load(plain, budget=Budget("x.pkl", 0))) == 3000


@pytest.mark.parametrize(
    "opcode",
    [b"(", *(pytest.param(code, marks=pytest.mark.more) for code in (b"\x8f", b"}", b"]"))],
)
def test_empty_things_add_up(opcode):
    with pytest.raises(FormatError, match=r"takes over|claims"):
        load(opcode * 9_000_000, budget=Budget("x.pkl", 0))


def test_other_classes_may_be_keys_where_a_reader_says_so():
    class Reader(Unpickler):
        hashed = (type,)

        def find_class(self, module, name):
            return Taking

    raw = b"}cx\nTaking\nNs."
    assert load(raw, Reader) == {Taking: None}
    with pytest.raises(pickle.UnpicklingError, match="class type as a key"):
        load(raw, Calls)
