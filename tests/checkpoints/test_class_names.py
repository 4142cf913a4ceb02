"""The names of classes that a file states: in the head's order, or no statement."""

import argparse
import json

import pytest
import safetensors.torch
import torch

from ltkit import checkpoints
from ltkit.checkpoints.class_names import stated
from ltkit.checkpoints.content import Content

NAMES = ("zebra", "apple", "Ünï 茶")
INDEX = {"apple": 1, "Ünï 茶": 2, "zebra": 0}


def read(top, count=3):
    return stated(Content("m.pt", "torch", top, {}, ""), count)


@pytest.mark.parametrize(
    "top",
    [
        {"class_to_idx": INDEX},
        {"args": {"class_to_idx": INDEX}},
        {"hparams": {"class_to_idx": INDEX}},
        {"hyper_parameters": {"class_names": list(NAMES)}},
        {"meta": {"class_to_idx": INDEX}},
        {"classes": list(NAMES)},
        {"class_names": NAMES},
        {"idx_to_class": dict(enumerate(NAMES))},
        {"idx_to_class": {str(i): name for i, name in reversed(list(enumerate(NAMES)))}},
        {"label_names": list(NAMES)},
        {"meta": {"CLASSES": NAMES}},
        {"meta": {"dataset_meta": {"classes": NAMES}}},
        {"meta": {"dataset_meta": {"CLASSES": NAMES}}},
        {"id2label": {str(i): name for i, name in enumerate(NAMES)}},
        {"label2id": INDEX},
        {"pretrained_cfg": {"label_names": list(NAMES)}},
        {"format": "ltkit-checkpoint", "classes": {"names": NAMES, "train_count": [1, 1, 1]}},
        {"class_names": json.dumps(NAMES)},
        {"config": json.dumps({"class_to_idx": INDEX})},
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "classes": NAMES},
    ],
)
def test_every_form_gives_the_heads_order(top):
    assert read(top) == (NAMES, "")


def test_numbers_as_names_are_names():
    """ImageFolder on numbered folders sorts them as text."""
    folders = sorted(map(str, range(12)))
    found, _ = read({"class_to_idx": {name: i for i, name in enumerate(folders)}}, 12)
    assert found[:4] == ("0", "1", "10", "11")


@pytest.mark.parametrize(
    "top",
    [{}, {"classes": 3}, {"classes": []}, {"class_to_idx": {}}, {"class_to_idx": [1, 2]},
     {"class_names": "a b c"}, {"class_names": "[1"}, {"class_names": "[" * 100_000},
     {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}},
     {"args": argparse.Namespace()}, {"meta": None},
     {"meta": {"meta": {"meta": {"CLASSES": NAMES}}}}],
)  # fmt: skip
def test_what_is_no_statement(top):
    assert read(top) == (None, "")


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ({"classes": NAMES[:2]}, "classes: found 2 names, expected 3 as the head has classes"),
        ({"meta": {"CLASSES": [*NAMES, "d"]}}, "meta.CLASSES: found 4 names, expected 3"),
        ({"classes": ["a", "b", "a"]}, "classes: holds a name twice (a)"),
        ({"classes": ["a", "b", 3]}, "classes: found 3, expected a text a class"),
        ({"classes": ["a", "b", " "]}, "expected a text a class"),
        ({"classes": ["a", "b", "c" * 2000]}, "expected a text a class"),
        ({"class_names": [["a"], ["b"], ["c"]]}, "expected a text a class"),
        ({"class_to_idx": {"a": 0, "b": 0, "c": 2}}, "found 3 numbers, expected each of 0 to 2"),
        ({"class_to_idx": {"a": 1, "b": 2, "c": 3}}, "expected each of 0 to 2 once"),
        ({"class_to_idx": {"a": 0, "b": True, "c": 2}}, "expected each of 0 to 2 once"),
        ({"class_to_idx": {"a": 0, "b": 1.0, "c": 2}}, "expected each of 0 to 2 once"),
        ({"idx_to_class": {0: "a", 1: "b", 10**30: "c"}}, "expected each of 0 to 2 once"),
        ({"id2label": {"0": "a", "1": "b", "٢": "c"}}, "expected each of 0 to 2 once"),
    ],
)
def test_wrong_statements_are_said_and_not_taken(top, words):
    names, note = read(top)
    assert names is None
    assert words in note
    assert note.endswith("the names of classes are not taken from it")
    assert len(note) <= 300


def test_a_good_statement_after_a_bad_one_is_taken_and_the_bad_one_is_said():
    names, note = read({"class_to_idx": {"a": 5}, "classes": NAMES})
    assert names == NAMES
    assert note.startswith("class_to_idx: found 1 numbers")


def test_files_that_state_them(tmp_path):
    from test_layouts import HEAD, network

    names = [f"class {i}" for i in range(len(HEAD["bias"]))]
    index = {name: i for i, name in enumerate(names)}
    path = tmp_path / "m.pt"
    args = argparse.Namespace(lr=0.1, class_to_idx=index)
    for beside in ({"class_to_idx": index}, {"args": args}, {"args": vars(args)}):
        torch.save({"state_dict": network(), **beside}, path)
        assert checkpoints.load(path).class_names == tuple(names)
    safetensors.torch.save_file(network(), path, {"class_names": json.dumps(names)})
    assert checkpoints.load(path).class_names == tuple(names)
    torch.save({"state_dict": network(), "classes": names[1:]}, path)
    found = checkpoints.load(path)
    assert found.class_names is None
    assert "classes: found 6 names, expected 7" in found.notes[-1]
