"""Untrusted pickles, read with limits on time and memory.

A pickle is a program for a small machine, and a few bytes of it can do for ever: a tuple of two
references to a tuple of two references, and so on, has no size to speak of, but as a key of a
mapping it is hashed leaf by leaf. This is Python's own reader in Python, less what would change
anything but the pickle's own objects: the one in C fills the memory when a pickle says so, and sets
attributes of whatever is there. Subclasses say what is built, in `find_class`.
"""

import io
import pickle
import struct
from collections.abc import Iterable
from typing import Any, ClassVar

from ltkit.untrusted.budget import Budget

LEAVES = 64
"""Most values in a tuple used as a key, including those of nested tuples."""

MAX_BITS = 1000
"""Most bits of a number; larger ones are not floats, random generators' have 128."""

PLAIN_KEY, HARD = 1 << 60, 1000
"""Whole numbers from here on, and tuples, can be chosen so that all of them hash alike; each such
key takes so many steps."""

COSTS: dict[int, int] = {
    **{code[0]: 64 for code in (
        pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.LIST, pickle.DICT, pickle.MARK, pickle.TUPLE,
        pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)},
    **{code[0]: 100 for code in (
        pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE)},
    **{code[0]: 256 for code in (
        pickle.EMPTY_SET, pickle.FROZENSET, pickle.REDUCE, pickle.NEWOBJ, pickle.NEWOBJ_EX,
        pickle.OBJ, pickle.INST)},
}  # fmt: skip
"""Bytes charged for an opcode that takes more than a few times its own size."""

_InPython: Any = vars(pickle)["_Unpickler"]
_Unframer: Any = vars(pickle)["_Unframer"]
_Stop: Any = vars(pickle)["_Stop"]


class Unpickler(_InPython):  # type: ignore[misc]
    """Reads one pickle.

    filled: classes whose objects the pickle may fill, beside lists, sets and mappings.
    changed: classes whose objects take a state.
    hashed: classes whose objects may be keys, beside texts, bytes, numbers, None and small tuples
        of those.
    """

    filled: ClassVar[tuple[type, ...]] = ()
    changed: ClassVar[tuple[type, ...]] = ()
    hashed: ClassVar[tuple[type, ...]] = ()

    dispatch: ClassVar[dict[int, Any]] = dict(_InPython.dispatch)

    def __init__(
        self, file: io.BufferedIOBase, budget: Budget, *, size: int, encoding: str = "ASCII"
    ) -> None:
        """Prepare to read a pickle.

        Args:
            file: open file, left after the pickle's end.
            budget: limits for the whole file.
            size: size of the file in bytes.
            encoding: encoding of Python 2 strings, as in ``pickle.load``.
        """
        super().__init__(file, encoding=encoding)
        self.budget, self.size = budget, size

    def load(self) -> Any:
        """Return the object.

        Raises:
            FormatError: when the file takes more than its budget.
            UnpicklingError: when the pickle is damaged or holds what is not built; and whatever
                else Python's reader raises at damage.
        """
        unframer = self._unframer = _Unframer(self._file_read, self._file_readline)
        self.readline, self.readinto = unframer.readline, unframer.readinto
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append, self.proto = self.stack.append, 0
        step, take = self.budget.step, self.budget.take
        try:
            while key := unframer.read(1):
                step()
                if cost := COSTS.get(key[0]):
                    take(cost, "its pickle")
                self.dispatch[key[0]](self)
        except _Stop as stop:
            return stop.value
        except IndexError as error:  # no byte left, or nothing to take from the stack
            raise pickle.UnpicklingError("pickle data was truncated") from error
        raise pickle.UnpicklingError("pickle data was truncated")

    def read(self, count: int) -> bytes:
        """Read bytes, allocating no more than there are."""
        if count > self.size:
            raise pickle.UnpicklingError("pickle data was truncated")
        found: bytes = self._unframer.read(count)
        return found

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every global."""
        raise unsupported(f"{module}.{name}")

    def persistent_load(self, saved: Any) -> Any:
        """Refuse references to anything outside the pickle."""
        raise pickle.UnpicklingError("Unsupported persistent id")

    def get_extension(self, code: int) -> None:
        """Refuse codes that stand for globals."""
        raise pickle.UnpicklingError(f"Unsupported extension {code}")

    def load_frame(self) -> None:
        """Begin a frame, if the file is long enough for it."""
        (count,) = struct.unpack("<Q", self.read(8))
        if count > self.size:
            raise pickle.UnpicklingError("pickle data was truncated")
        self._unframer.load_frame(count)

    def load_bytearray8(self) -> None:
        """Read the bytes that exist; the usual way allocates as many as are declared."""
        self.load_binbytes8()
        self.append(bytearray(self.stack.pop()))

    # Keys

    def key(self, key: Any) -> None:
        """Check something that becomes a mapping's key or a set's element.

        Raises:
            UnpicklingError: when hashing it may take long, or run unknown code.
        """
        if isinstance(key, int) and abs(key) < PLAIN_KEY:
            return
        if isinstance(key, tuple):
            self._leaves(key)
        if isinstance(key, int | tuple):
            self.budget.step(HARD)
        elif not isinstance(key, (str, bytes, float, type(None), *self.hashed)):
            raise pickle.UnpicklingError(f"Unsupported class {type(key).__name__} as a key")

    def _leaves(self, key: tuple[Any, ...]) -> None:
        todo, count = [key], 0
        while todo:
            for part in todo.pop():
                count += 1
                if isinstance(part, tuple):
                    todo.append(part)
                elif not isinstance(part, str | bytes | int | float | None):
                    raise pickle.UnpicklingError(
                        f"Unsupported class {type(part).__name__} in a key"
                    )
                if count > LEAVES:
                    raise pickle.UnpicklingError("Unsupported class of key, of too many values")

    def keys(self, keys: Iterable[Any]) -> None:
        """Check several keys; see `key`."""
        for key in keys:
            self.key(key)

    def _holder(self, thing: Any, kind: type) -> None:
        if not isinstance(thing, (kind, *self.filled)):
            raise pickle.UnpicklingError(f"Unsupported class {type(thing).__name__} to be filled")

    def load_setitem(self) -> None:
        """Set an entry of a mapping."""
        self._holder(self.stack[-3], dict)
        self.key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set entries of a mapping."""
        self._holder(self.metastack[-1][-1], dict)
        self.keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Make a mapping."""
        self.keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """Add elements to a set."""
        self._holder(self.metastack[-1][-1], set)
        self.keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """Make a set."""
        self.keys(self.stack)
        super().load_frozenset()

    def load_append(self) -> None:
        """Add an entry to a list."""
        self._holder(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        """Add entries to a list."""
        self._holder(self.metastack[-1][-1], list)
        super().load_appends()

    # Calls

    def load_build(self) -> None:
        """Pass state to an object that accepts it; functions, classes and tensors do not."""
        if not isinstance(self.stack[-2], self.changed):
            name = type(self.stack[-2]).__name__
            raise pickle.UnpicklingError(f"Unsupported class {name} to be changed")
        state = self.stack.pop()
        self._copied(state)
        self.stack[-1].__setstate__(state)

    def load_reduce(self) -> None:
        """Call something."""
        self._given(self.stack[-1])
        super().load_reduce()

    def load_newobj(self) -> None:
        """Make an object."""
        self._class(self.stack[-2])
        self._given(self.stack[-1])
        super().load_newobj()

    def load_newobj_ex(self) -> None:
        """Make an object, with named arguments."""
        self._class(self.stack[-3])
        self._given(self.stack[-2])
        super().load_newobj_ex()

    @staticmethod
    def _class(thing: Any) -> None:
        if not isinstance(thing, type):
            raise pickle.UnpicklingError(f"Unsupported class {type(thing).__name__} of a class")

    def _given(self, arguments: Any) -> None:
        """Return call arguments; anything but a tuple would be unpacked, whatever that does."""
        if not isinstance(arguments, tuple):
            name = type(arguments).__name__
            raise pickle.UnpicklingError(f"Unsupported class {name} of arguments")
        self._copied(arguments)

    def _copied(self, arguments: Any) -> None:
        """Count what a call may make of its arguments, which may be passed again and again."""
        for part in arguments if isinstance(arguments, tuple) else ():
            if isinstance(part, bytes | bytearray | str):
                self.budget.take(len(part), "its pickle")
            elif isinstance(part, list | tuple | dict | set | frozenset):
                self.budget.take(64 * len(part), "its pickle")
                self.budget.step(len(part))

    # Numbers

    def _number(self) -> None:
        value = self.stack[-1]
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise pickle.UnpicklingError(f"a number of {value.bit_length()} bits")

    def load_int(self) -> None:
        """Read a number stored as text."""
        super().load_int()
        self._number()

    def load_long(self) -> None:
        """Read a long number stored as text."""
        super().load_long()
        self._number()

    def load_long1(self) -> None:
        """Read a number."""
        super().load_long1()
        self._number()

    def load_long4(self) -> None:
        """Read a wide number."""
        super().load_long4()
        self._number()

    for _code, _own in {
        pickle.FRAME: load_frame, pickle.BYTEARRAY8: load_bytearray8, pickle.SETITEM: load_setitem,
        pickle.SETITEMS: load_setitems, pickle.DICT: load_dict, pickle.ADDITEMS: load_additems,
        pickle.FROZENSET: load_frozenset, pickle.APPEND: load_append,
        pickle.APPENDS: load_appends, pickle.BUILD: load_build, pickle.REDUCE: load_reduce,
        pickle.NEWOBJ: load_newobj, pickle.NEWOBJ_EX: load_newobj_ex, pickle.INT: load_int,
        pickle.LONG: load_long, pickle.LONG1: load_long1, pickle.LONG4: load_long4,
    }.items():  # fmt: skip
        dispatch[_code[0]] = _own


def unsupported(name: str) -> pickle.UnpicklingError:
    """Return the error for a global that is not built, in the words of torch's own reader."""
    return pickle.UnpicklingError(f"Unsupported global: GLOBAL {name} was called")
