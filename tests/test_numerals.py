"""Numbers in text, ranges of settings, and what holds of every option of every command."""

import math
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltkit.cli import app
from ltkit.errors import InputError, SettingError
from ltkit.numerals import ANY, WHOLES, Range, check_once, number, numbers, shown
from ltkit.settings import RANGES, AlphaNetSettings, check

ODD = (
    "", " ", "1_0", "١", "２", "²", "nan", "inf", "-inf", "1e400", "0x1", "1e", "--1", "1 0", "1\n",
    "\t1", "1\0", "1" * 5000, "½", "1,", "1٫5", "infinity", "true", "None", "+", ".",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("within", [ANY, WHOLES])
def test_what_is_no_number_is_refused(text, within):
    with pytest.raises(InputError, match=r"^--x: found ") as caught:
        number(text, "--x", within)
    assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match=r"^--x: found "):
        numbers(f"1,{text}", "--x", within)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**62), 2**62))
def test_what_python_writes_is_read(value, whole):
    assert number(repr(value), "--x") == value
    assert number(str(whole), "--x", WHOLES) == whole


@given(st.text(max_size=8))
def test_any_text_is_a_finite_number_or_refused(text):
    for within in (ANY, WHOLES):
        try:
            value = number(text, "--x", within)
        except InputError:
            continue
        assert text.isascii()
        assert math.isfinite(value)
        assert value == float(text)


def test_ranges_have_ends():
    half = Range(0, 1, above=True)
    assert [value in half for value in (-1, 0, 1e-9, 1, 1.1, math.nan)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip
    assert math.inf not in Range(0)
    assert 1.5 not in Range(0, 9, whole=True)
    for name, within in RANGES.items():
        assert (within.least in within) is not within.above, name
        assert within.most in within, name


def test_a_list_has_an_end_and_nothing_twice():
    with pytest.raises(InputError, match="found 2 twice"):
        check_once([1.0, 2.0, 2.0], "--x")
    with pytest.raises(InputError, match="found b twice"):
        check_once(["b", "a", "b"], "--x")
    with pytest.raises(InputError, match=r"expected numbers"):
        numbers(",".join("1" * 10_001), "--x", once=False)
    assert len(shown("\0" * 99)) < 70


def test_every_setting_with_a_range_is_checked():
    with pytest.raises(SettingError, match=r"^hidden: found 0, expected a whole number from 1 to"):
        check(AlphaNetSettings(hidden=(4, 0)))
    with pytest.raises(SettingError, match=r"^seed: found 1.5, expected a whole number"):
        check(AlphaNetSettings(seed=1.5))
    check(AlphaNetSettings())


def options(commands, words=""):
    """Yield (command, option, what reads it) for every number that a command takes."""
    for group in commands.registered_groups:
        yield from options(group.typer_instance, f"{words} {group.name}")
    for command in commands.registered_commands:
        hints = get_type_hints(command.callback, include_extras=True)
        for name, (kind, option) in ((n, get_args(h)[:2]) for n, h in hints.items() if get_args(h)):
            if {int, float} & {kind, *get_args(kind)}:
                called = option.param_decls[0] if option.param_decls else f"--{name}"
                where = f"{words} {command.name or command.callback.__name__}".strip()
                yield where, called.replace("_", "-"), option.parser


FOUND = sorted((command, option) for command, option, _ in options(app))


def test_all_numbers_of_the_command_line_are_read_in_one_place():
    assert len(FOUND) > 40
    assert not [option for *option, parser in options(app) if parser is None]


@pytest.mark.parametrize(("command", "option"), FOUND)
def test_every_option_refuses_what_is_no_number(ltkit, tmp_path, monkeypatch, command, option):
    monkeypatch.chdir(tmp_path)
    for text in ("", " ", "1_0", "١", "nan", "inf", "1e400", "-1e9", "1" * 5000, "x", "1,1"):
        code, out, err = ltkit(*command.split(), f"{option}={text}")
        assert (code, out) == (2, ""), text
        assert err.startswith(f"ltkit: {option}: found "), err
        assert err.count("\n") == 1
        assert len(err) < 310
