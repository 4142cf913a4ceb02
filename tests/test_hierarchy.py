"""Which classes count as near: the shipped tables, the rules, groups and their files."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from ltkit.errors import InputError
from ltkit.neighbors.wordnet import (
    Hierarchy,
    group_members,
    load_wordnet,
    path_lengths,
    read_group_file,
    related_classes,
)

REPOSITORY = Path(__file__).resolve().parents[1]
TABLES = REPOSITORY / "ltkit/data"
SHARED = Path(__file__).resolve().parents[2] / "shared/data"
WORDNET = Path("/usr/share/wordnet")
ROOT = "n00001740"  # entity
RULES = ["path", "ancestor", "nltk"]

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not there")

# top
# |- left:  left_leaf, both      `both` has two parents: a diamond top, left, right, both
# '- right: right_leaf, both
TOY = Hierarchy(
    dict.fromkeys(["top", "left", "right", "both", "left_leaf", "right_leaf"], ""),
    {
        "left": ["top"],
        "right": ["top"],
        "both": ["left", "right"],
        "left_leaf": ["left"],
        "right_leaf": ["right"],
    },
)
TOY_CLASSES = ["both", "left_leaf", "right_leaf", "left"]


def read_tsv(path):
    header, *rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_edges(path):
    return {(row["child_wnid"], row["parent_wnid"]) for row in read_tsv(path)}


def closure(wnids, edges):
    graph = nx.DiGraph(sorted(edges))  # child -> parent
    return set(wnids).union(*(nx.descendants(graph, wnid) for wnid in wnids))


@pytest.fixture(scope="module")
def imagenet():
    return (TABLES / "imagenet1k_wnids.txt").read_text("ascii").split()


@pytest.fixture(scope="module")
def dag():
    return nx.DiGraph(sorted(read_edges(TABLES / "wordnet_edges.tsv")))  # child -> parent


@pytest.fixture(scope="module")
def distances(imagenet, dag):
    """(C, C) shortest undirected paths, by networkx."""
    graph = dag.to_undirected()
    rows = (nx.single_source_shortest_path_length(graph, wnid) for wnid in imagenet)
    return np.array([[row[wnid] for wnid in imagenet] for row in rows])


@pytest.fixture(scope="module")
def climbs(imagenet, dag):
    """(C, S) the links from each class up to each synset, 99 where there is no way, by networkx."""
    columns = {synset: column for column, synset in enumerate(dag)}
    climbs = np.full((len(imagenet), len(columns)), 99, dtype=np.int16)
    for row, wnid in enumerate(imagenet):
        for ancestor in nx.descendants(dag, wnid) | {wnid}:
            climbs[row, columns[ancestor]] = nx.shortest_path_length(dag, wnid, ancestor)
    return climbs


@pytest.fixture(scope="module")
def heights(climbs):
    """(C, C) the least height at which a common ancestor lies above both."""
    return np.array([np.maximum(row, climbs).min(axis=1) for row in climbs])


# The shipped tables


def test_every_class_reaches_the_only_root(imagenet, dag):
    assert len(imagenet) == len(set(imagenet)) == 1000
    assert nx.is_directed_acyclic_graph(dag)
    assert [synset for synset in dag if dag.out_degree(synset) == 0] == [ROOT]
    assert all(nx.has_path(dag, wnid, ROOT) for wnid in imagenet)


def test_load_wordnet_is_the_tables(dag):
    wordnet = load_wordnet()
    assert wordnet is load_wordnet()
    links = {(child, parent) for child, parents in wordnet.parents.items() for parent in parents}
    assert links == set(dag.edges)
    assert set(wordnet.names) == set(dag)
    assert (len(wordnet.names), len(links)) == (1926, 2008)
    assert all(wordnet.names.values())


def test_wordnet_is_no_tree(imagenet, dag):
    synsets = closure(imagenet, dag.edges)
    several = {synset for synset in synsets if dag.out_degree(synset) > 1}
    assert (len(synsets), len(several), len(several & set(imagenet))) == (1860, 75, 38)


def test_every_wnid_of_a_class_table_is_known():
    for name, count in (("cifar10", 10), ("cifar100", 100)):
        rows = read_tsv(TABLES / f"{name}_wnids.tsv")
        assert len({row["class"] for row in rows}) == len(rows) == count
        assert all(load_wordnet().names[row["wnid"]] == row["lemmas"] for row in rows)


@needs_shared
def test_edges_agree_with_the_shared_tables(imagenet, dag):
    ours, theirs = set(dag.edges), read_edges(SHARED / "hierarchy/wordnet_hypernyms.tsv")
    below = {synset for synset in closure(imagenet, ours) if synset != ROOT}
    assert closure(imagenet, theirs) == below | {ROOT}
    assert {e for e in ours if e[0] in below} == {e for e in theirs if e[0] in below}
    # What the shared tables have beyond ours is above the five wrong wnids of CIFAR-100.
    assert ours <= theirs
    wrong = {r["wnid_nbdt"] for r in read_tsv(SHARED / "cifar100/classes.tsv") if r["note"]}
    assert {child for child, _ in theirs - ours} <= closure(wrong, theirs)


@needs_shared
def test_names_agree_with_the_shared_tables(imagenet):
    theirs = read_tsv(SHARED / "hierarchy/wordnet_names.tsv")
    ours = load_wordnet().names
    assert ours.items() <= {row["wnid"]: row["lemmas"] for row in theirs}.items()
    classes = read_tsv(SHARED / "hierarchy/imagenet1k_classes.tsv")
    assert [row["wnid"] for row in classes] == imagenet
    assert [row["lemmas"] for row in classes] == [ours[wnid] for wnid in imagenet]


@needs_shared
@pytest.mark.parametrize(("name", "column"), [("cifar100", "fine_name"), ("cifar10", "name")])
def test_cifar_wnids_agree_with_the_corrected_column(name, column):
    theirs = [(row[column], row["wnid"]) for row in read_tsv(SHARED / name / "classes.tsv")]
    ours = [(row["class"], row["wnid"]) for row in read_tsv(TABLES / f"{name}_wnids.tsv")]
    assert ours == theirs


@pytest.mark.skipif(not WORDNET.is_dir(), reason="the package wordnet-base is not installed")
@pytest.mark.parametrize("kind", ["list", "wheel"])
def test_the_script_makes_the_same_bytes(tmp_path, kind):
    script, class_list = REPOSITORY / "scripts/build_wordnet.py", TABLES / "imagenet1k_wnids.txt"
    if kind == "wheel":
        wheel = tmp_path / "timm.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(class_list, "timm/data/_info/imagenet_synsets.txt")
        class_list = wheel
    output = tmp_path / "tables"
    subprocess.run([sys.executable, script, class_list, "--output", output], check=True)
    made = sorted(output.iterdir())
    assert len(made) == 6
    assert all(path.read_bytes() == (TABLES / path.name).read_bytes() for path in made)


# The rules


@pytest.mark.parametrize("level", range(6))
def test_path_rule_agrees_with_networkx(imagenet, distances, level):
    related = related_classes(imagenet, rule="path", level=level)
    np.testing.assert_array_equal(related, distances <= level)


@pytest.mark.parametrize("level", range(6))
def test_ancestor_rule_agrees_with_networkx(imagenet, heights, level):
    related = related_classes(imagenet, rule="ancestor", level=level)
    np.testing.assert_array_equal(related, heights <= level)


def test_path_lengths_agree_with_networkx(imagenet, distances):
    lengths = path_lengths(imagenet)
    assert lengths.dtype == np.int32
    np.testing.assert_array_equal(lengths, distances)


@pytest.mark.parametrize("rule", RULES)
def test_related_is_symmetric_reflexive_and_grows(imagenet, rule):
    smaller = np.eye(len(imagenet), dtype=bool)
    for level in range(6):
        related = related_classes(imagenet, rule=rule, level=level)
        assert related.dtype == np.bool_
        assert (related == related.T).all()
        assert (related >= smaller).all()
        smaller = related


def test_a_common_ancestor_bounds_the_path(imagenet):
    for level in range(4):
        ancestor = related_classes(imagenet, rule="ancestor", level=level)
        assert (ancestor <= related_classes(imagenet, rule="path", level=2 * level)).all()


def test_paths_by_a_common_ancestor_relate_40_pairs_less(imagenet, climbs):
    """The reading of the published code, as `related_classes` says."""
    lengths = np.array([(row + climbs).min(axis=1) for row in climbs])
    for level in range(6):
        by_ancestor = related_classes(imagenet, rule="nltk", level=level)
        np.testing.assert_array_equal(by_ancestor, lengths <= level)
    by_ancestor = related_classes(imagenet, rule="nltk", level=4)
    related = related_classes(imagenet, rule="path", level=4)
    assert (by_ancestor <= related).all()
    assert np.triu(related & ~by_ancestor).sum() == 40
    assert by_ancestor.sum() / 1000 == pytest.approx(15.80, abs=0.005)  # as published
    assert related.sum() / 1000 == pytest.approx(15.88, abs=0.005)


def test_toy_path_lengths():
    expected = [[0, 2, 2, 1], [2, 0, 4, 1], [2, 4, 0, 3], [1, 1, 3, 0]]
    np.testing.assert_array_equal(path_lengths(TOY_CLASSES, hierarchy=TOY), expected)


@pytest.mark.parametrize(
    ("rule", "level", "expected"),
    [
        ("path", 0, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        ("path", 1, [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1]]),
        ("path", 2, [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 1, 0], [1, 1, 0, 1]]),
        ("ancestor", 1, [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 1, 0], [1, 1, 0, 1]]),
        ("ancestor", 2, [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),
    ],
)
def test_toy_rules(rule, level, expected):
    related = related_classes(TOY_CLASSES, rule=rule, level=level, hierarchy=TOY)
    np.testing.assert_array_equal(related, np.array(expected, dtype=bool))


def test_a_path_may_go_down_and_up_again():
    links = {
        "a": ["a1"],
        "x": ["a1", "b1"],
        "b": ["b1"],
        "a1": ["a2"],
        "a2": ["top"],
        "b1": ["top"],
    }
    tall = Hierarchy(dict.fromkeys([*links, "top"], ""), links)
    assert path_lengths(["a", "b"], hierarchy=tall)[0, 1] == 4  # a a1 x b1 b; by the top it is 5
    for rule, level in (("path", 4), ("nltk", 5), ("ancestor", 3)):
        for given in (level, level - 1):
            related = related_classes(["a", "b"], rule=rule, level=given, hierarchy=tall)
            assert related[0, 1] == (given == level)


@pytest.mark.parametrize("rule", RULES)
def test_classes_of_one_wnid_are_related(rule):
    related = related_classes(["left", "right", "left"], rule=rule, level=0, hierarchy=TOY)
    np.testing.assert_array_equal(related, [[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    assert path_lengths(["left", "right", "left"], hierarchy=TOY).tolist() == [
        [0, 2, 0],
        [2, 0, 2],
        [0, 2, 0],
    ]


@pytest.mark.parametrize("rule", RULES)
def test_no_classes_and_no_connection(rule):
    assert related_classes([], rule=rule, level=4).shape == (0, 0)
    assert path_lengths([]).shape == (0, 0)
    apart = Hierarchy({"cat": "cat", "spade": "spade"}, {})
    related = related_classes(["cat", "spade"], rule=rule, level=100, hierarchy=apart)
    np.testing.assert_array_equal(related, np.eye(2, dtype=bool))
    assert path_lengths(["cat", "spade"], hierarchy=apart).tolist() == [[0, 2], [2, 0]]


def test_a_wnid_that_is_not_in_the_table():
    wnids = ["n02084071", "n1\n", "n2", "n3", "n4"]
    message = (
        r"^wnids: found 4 of 5 that are not in the hierarchy \('n1\\n', 'n2', 'n3', \.\.\.\), .+$"
    )
    with pytest.raises(InputError, match=message):
        related_classes(wnids, rule="path", level=4)
    with pytest.raises(InputError, match=message):
        path_lengths(wnids)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="level is -1"):
        related_classes(["left"], rule="path", level=-1, hierarchy=TOY)
    with pytest.raises(ValueError, match="rule is 'tree'"):
        related_classes(["left"], rule="tree", level=4, hierarchy=TOY)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'cat', 'pet'"):
        Hierarchy({"animal": "animal"}, {"pet": ["animal"], "cat": ["pet"]})


# Groups


def test_group_members():
    names = ["pet", "tool", "pet", ""]
    expected = [[a == b for a in names] for b in names]
    np.testing.assert_array_equal(group_members(names), expected)
    assert group_members([]).shape == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "cat\tpet\nspade\ttool\n2\tpet\n",
        "dog,pet\r\n\r\n1,tool\r\ncat , pet",
        '\ufeff2,pet\n"0","pet"\n"spade","tool"\n\n',
    ],
)
def test_read_group_file(tmp_path, text):
    path = tmp_path / "groups.txt"
    path.write_bytes(text.encode("utf-8"))
    assert read_group_file(path, ["cat", "spade", "dog"]) == ["pet", "tool", "pet"]


def test_class_names_with_commas_and_digits(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text('"tench, Tinca tinca",fish\n0,zero\n1\tb, c\n')
    # "0" names class 2, so it is not class 0; "1" names none, so it is class 1
    assert read_group_file(path, ["tench, Tinca tinca", "crane", "0"]) == ["fish", "b, c", "zero"]


def test_repeated_class_names_leave_the_ids(tmp_path):
    path = tmp_path / "groups.tsv"
    path.write_text("0\tbird\n1\tmachine\n2\tpet\n")
    assert read_group_file(path, ["crane", "crane", "cat"]) == ["bird", "machine", "pet"]


@pytest.mark.parametrize(
    ("content", "names", "message"),
    [
        (
            b"cat,pet\n\ncat,pet\n",
            ["cat", "dog"],
            "line 3: found class 'cat' again, it is .* line 1",
        ),
        (b"cat,pet\n0,pet\n", ["cat", "dog"], "line 2: found class '0' again, it is .* line 1"),
        (b"cow,pet\n", ["cat", "dog"], r"line 1: found class 'cow', .* \('cat', 'dog'\) .* 0 to 1"),
        (b"0,a\n2,a\n", ["cat", "dog"], "line 2: found class '2'"),
        (b"-1,a\n", ["cat", "dog"], "line 1: found class '-1'"),
        (b"0,a\ncat,a\n", ["cat", "cat"], "line 2: found class 'cat', .* only ids can be used"),
        (b"cat\n", ["cat"], "line 1: found 1 columns"),
        (b"cat,a,b\n", ["cat"], "line 1: found 3 columns"),
        (b"cat\ta\tb\n", ["cat"], "line 1: found 3 columns"),
        (b"cat,\n", ["cat"], "line 1: found 2 columns .*not empty"),
        (b"cat," + b"x" * 200_000, ["cat"], "line 1: not readable as CSV"),
        (
            b"cat,a\n",
            ["cat", "dog", "cow"],
            r"found no line for 2 of 3 classes \('1: dog', '2: cow'\)",
        ),
        (b"", ["cat"], r"found no line for 1 of 1 classes \('0: cat'\)"),
        (b"cat,caf\xe9\n", ["cat"], "cannot be read as a file with a line .* UTF-8 text"),
    ],
)
def test_a_group_file_that_does_not_fit(tmp_path, content, names, message):
    path = tmp_path / "groups.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {message}.*$") as caught:
        read_group_file(path, names)
    assert "\n" not in str(caught.value)


def test_a_group_file_that_is_not_there(tmp_path):
    for path, word in ((tmp_path / "none.csv", "not found"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=word):
            read_group_file(path, ["cat"])
