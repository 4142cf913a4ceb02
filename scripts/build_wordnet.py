"""Build the WordNet tables of ``ltkit/data`` from WordNet 3.0 and the list of ImageNet's classes.

WordNet 3.0 is Debian's package ``wordnet-base``; the class list is the one that the ``timm`` wheel
carries (one wnid a line, in class order). The commands that made the tables in the repository::

    apt-get install wordnet-base
    pip download --no-deps --dest downloads timm
    python scripts/build_wordnet.py downloads/timm-*.whl

The list that is written, ``ltkit/data/imagenet1k_wnids.txt``, serves as input just as well. The
same input gives the same bytes.

Source:
    The two formats, index.noun and data.noun, are those of WordNet's manual page wndb(5).
"""

import argparse
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

CLASS_LIST = "timm/data/_info/imagenet_synsets.txt"

# The synset of each CIFAR class, in the order of the class ids: `class=lemma#sense`, where the
# class's own name is the lemma when none is written, and the sense is its number in index.noun.
# "Aquarium fish" is no synset, hence fish. A widely copied list has five others: a young fish
# (aquarium_fish), the dolphinfish, a defeat in a game (skunk), television the medium, and trout the
# food. Where several senses would do (cloud, forest, lamp, sweet_pepper), it is the first.
CIFAR100 = """
    apple#1 aquarium_fish=fish#1 baby#1 bear#1 beaver#7 bed#1 bee#1 beetle#1 bicycle#1 bottle#1
    bowl#1 boy#1 bridge#1 bus#1 butterfly#1 camel#1 can#1 castle#2 caterpillar#1 cattle#1
    chair#1 chimpanzee#1 clock#1 cloud#1 cockroach#1 couch#1 crab#1 crocodile#1 cup#1 dinosaur#1
    dolphin#2 elephant#1 flatfish#2 forest#1 fox#1 girl#1 hamster#1 house#1 kangaroo#1 keyboard#1
    lamp#1 lawn_mower#1 leopard#2 lion#1 lizard#1 lobster#2 man#1 maple_tree=maple#2 motorcycle#1
    mountain#1 mouse#1 mushroom#1 oak_tree#1 orange#1 orchid#1 otter#2 palm_tree#1 pear#1
    pickup_truck#1 pine_tree#1 plain#1 plate#4 poppy#1 porcupine#1 possum#1 rabbit#1 raccoon#2
    ray#7 road#1 rocket#1 rose#1 sea#1 seal#9 shark#1 shrew#2 skunk#4 skyscraper#1 snail#1 snake#1
    spider#1 squirrel#1 streetcar#1 sunflower#1 sweet_pepper#1 table#2 tank#1 telephone#1
    television#3 tiger#2 tractor#1 train#1 trout#2 tulip#1 turtle#2 wardrobe#1 whale#2
    willow_tree#1 wolf#1 woman#1 worm#1
"""
CIFAR10 = """
    airplane#1 automobile#1 bird#1 cat#1 deer#1 dog#1 frog#1 horse#1 ship#1 truck#1
"""

Row = tuple[str, ...]


def entries(path: Path) -> Iterator[str]:
    """Yield the lines of a database file after its licence notice, whose lines are indented."""
    with path.open(encoding="ascii") as lines:
        yield from (line for line in lines if not line.startswith(" "))


def licence(path: Path) -> str:
    """Return the licence notice at the head of a database file, without its line numbers."""
    with path.open(encoding="ascii") as lines:
        notice = [line.split(maxsplit=1)[1:] for line in lines if line.startswith(" ")]
    return "".join(text[0].rstrip() + "\n" if text else "\n" for text in notice)


def read_senses(path: Path) -> dict[str, list[str]]:
    """Return lemma -> the wnids of its senses, the most frequent sense first (index.noun).

    A line is ``lemma n senses pointers [pointer...] senses tagged offset [offset...]``.
    """
    fields = (line.split() for line in entries(path))
    return {entry[0]: [f"n{offset}" for offset in entry[-int(entry[2]) :]] for entry in fields}


def read_synsets(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return wnid -> lemmas, and wnid -> the wnids of its hypernyms (data.noun).

    A line is ``offset file n words word id [word id...] pointers [symbol offset n 0000...] |
    gloss``, where ``words`` is hexadecimal. The symbol is ``@`` for a hypernym (a dog is a canine)
    and ``@i`` for an instance hypernym (Rome is a city).
    """
    names, parents = {}, {}
    for line in entries(path):
        fields = line.partition(" | ")[0].split()
        wnid, end = f"n{fields[0]}", 4 + 2 * int(fields[3], 16)
        names[wnid] = ", ".join(fields[4:end:2]).replace("_", " ")
        pointers = zip(fields[end + 1 :: 4], fields[end + 2 :: 4], strict=False)
        parents[wnid] = [f"n{offset}" for symbol, offset in pointers if symbol in ("@", "@i")]
    return names, parents


def read_class_list(path: Path) -> list[str]:
    """Return the ImageNet wnids in class order, from timm's wheel or from the list itself."""
    if not zipfile.is_zipfile(path):
        return path.read_text(encoding="ascii").split()
    with zipfile.ZipFile(path) as wheel:
        return wheel.read(CLASS_LIST).decode("ascii").split()


def look_up(table: str, senses: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return (class, wnid) for each ``class=lemma#sense`` of a table."""
    classes = []
    for entry in table.split():
        words, sense = entry.split("#")
        name, _, lemma = words.partition("=")
        classes.append((name, senses[lemma or name][int(sense) - 1]))
    return classes


def closure(wnids: Iterable[str], parents: dict[str, list[str]]) -> list[str]:
    """Return the synsets and all their ancestors, sorted."""
    found: set[str] = set()
    waiting = list(wnids)
    while waiting:
        wnid = waiting.pop()
        if wnid not in found:
            found.add(wnid)
            waiting += parents[wnid]
    return sorted(found)


def write_table(path: Path, header: Row, rows: Iterable[Row]) -> None:
    """Write a table with tabs between its columns."""
    lines = ["\t".join(row) + "\n" for row in (header, *rows)]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def build(database: Path, class_list: Path, output: Path) -> None:
    """Write all tables into the folder `output`."""
    names, parents = read_synsets(database / "data.noun")
    senses = read_senses(database / "index.noun")
    imagenet = read_class_list(class_list)
    cifar = {"cifar100": look_up(CIFAR100, senses), "cifar10": look_up(CIFAR10, senses)}

    leaves = [*imagenet, *(wnid for classes in cifar.values() for _, wnid in classes)]
    wnids = closure(leaves, parents)
    edges = sorted((child, parent) for child in wnids for parent in parents[child])

    output.mkdir(parents=True, exist_ok=True)
    write_table(output / "wordnet_edges.tsv", ("child_wnid", "parent_wnid"), edges)
    write_table(output / "wordnet_names.tsv", ("wnid", "lemmas"), ((w, names[w]) for w in wnids))
    for dataset, classes in cifar.items():
        rows = ((name, wnid, names[wnid]) for name, wnid in classes)
        write_table(output / f"{dataset}_wnids.tsv", ("class", "wnid", "lemmas"), rows)
    list_path = output / "imagenet1k_wnids.txt"
    list_path.write_text("\n".join(imagenet) + "\n", encoding="ascii", newline="\n")
    notice = licence(database / "data.noun")
    (output / "LICENSE-WORDNET").write_text(notice, encoding="ascii", newline="\n")
    print(f"{output}: {len(wnids)} synsets, {len(edges)} links, {len(imagenet)} ImageNet classes")


def main() -> None:
    """Read the command line and build the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("class_list", type=Path, help=f"the timm wheel, or its {CLASS_LIST}")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=Path("ltkit/data"), metavar="DIR")
    arguments = parser.parse_args()
    build(arguments.wordnet, arguments.class_list, arguments.output)


if __name__ == "__main__":
    main()
