"""Files that a function of `readers` reads, and what damages their bytes and words."""

import re
from dataclasses import replace

from damage import (
    BYTES,
    place,
)
from fuzzing import Target


def bytes_damaged(raw, seeds, rng):
    """Damage bytes in any way, once or more often."""
    if rng.random() < 0.05:
        return raw[: place(raw, rng)] + rng.choice(seeds)[place(raw, rng) :]
    for _ in range(rng.choice((1, 1, 2, 3))):
        raw = rng.choice(BYTES)(raw, rng)
    return raw


class Plain(Target):
    """Files that are read by a function of `readers`.

    Subclasses say in their notes what a sound file, by its number, gives; None where a damaged
    one may be another sound one.

    own_words: how a library begins what it writes to stderr itself, which cannot be turned off.
    """

    own_words: re.Pattern[str] | None = None

    def __init__(self, name) -> None:
        """Nothing is known of sound ones yet."""
        super().__init__(name)
        self.expected = {}

    def command(self, folder, files):
        """Return the function and its arguments."""
        raise NotImplementedError

    def read(self, watched, folder, files, note, number, **limits):
        """Read; compare with what the sound file gives."""
        function, named = self.command(folder, files)
        found = watched.run(function, **named, writes=folder, **limits)
        if note is None:
            if found.kind == "executed":  # it was imports
                found = watched.run(function, **named, writes=folder, **limits)
            if found.kind != "ok":
                raise ValueError(f"{self.name}: a sound one, {number}, was {found}")
            self.expected[number] = found.output
            return found
        if found.kind == "noise" and self.own_words:
            found = self.without_own_words(found)
        if found.kind == "ok" and note >= 0 and found.output != self.expected[note]:
            return replace(found, kind="changed")
        return found

    def without_own_words(self, found):
        """Leave out what the library says."""
        lines = found.message.splitlines()
        said = [line for line in lines if not self.own_words.match(line)]
        if len(said) < len(lines) and (not said or said[0].startswith("ltkit: ")) and len(said) < 2:
            return replace(found, kind="refused" if said else "ok", message="\n".join(said))
        return found

    def mutant(self, files, seeds, rng, canary):
        """Damage one of the files."""
        name = rng.choice(sorted(files))
        others = [content for seed in seeds for content in seed.values()]
        new, exact = self.damage(name, files[name], others, rng, canary)
        number = next(i for i, seed in enumerate(seeds) if seed is files)
        return {**files, name: new}, number if exact else -1

    def damage(self, name, raw, others, rng, canary):
        """Return damaged bytes, and whether they may be read only with the same result."""
        return bytes_damaged(raw, others, rng), False


# Text


WORDS = (
    "0", "-1", "1", "999999999", "10000001", "1e3", "0.5", "", " ", "\t", ",", '"', "\0", "\r",
    "\n", "..", "/", "../x", "/proc/version", "é", "١", "²", "\ufeff", "\u2028", "\x1b[2J",
    "a" * 5000, "9" * 19, "9" * 5000,
    "NaN", "null", "train", "val", "test", "label", "path", "split", "C:\\x",
    "=cmd", "'", '"""', "a/b", "\x85", "\x1c", "{", "[1]", "\ud800",
)  # fmt: skip


def text_damaged(raw, rng):
    """Damage bytes, or exchange, double, drop and put in words and lines."""
    if rng.random() < 0.4:
        return bytes_damaged(raw, [raw], rng)
    text = raw.decode()
    for _ in range(rng.choice((1, 1, 2, 5))):
        lines = text.split("\n")
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(7)
        if kind == 0:
            lines[at] = rng.choice(WORDS)
        elif kind == 1:
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 2:
            lines[at : at + 1] = [lines[at]] * rng.choice((0, 2, 300))
        else:
            parts = re.split(r"([ ,\t])", lines[at])
            where = rng.randrange(len(parts))
            new = rng.choice(WORDS)
            parts[where] = (
                new if kind < 5 else parts[where] + new if kind < 6 else new + parts[where]
            )
            lines[at] = "".join(parts)
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")
