"""A folder is a list of methods."""

import sys

import pytest

from ltkit import losses, registry
from ltkit.errors import InputError, nearest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with two public modules and a private one."""
    folder = tmp_path / "made_up_methods"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "balanced_softmax.py").write_text("HERE = 'balanced'\n")
    (folder / "plain.py").write_text("raise RuntimeError('imported')\n")
    (folder / "_private.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    import made_up_methods

    yield made_up_methods
    for name in [n for n in sys.modules if n.startswith("made_up_methods")]:
        del sys.modules[name]


def test_names_have_dashes_and_import_nothing(package):
    assert registry.names(package) == ["balanced-softmax", "plain"]
    assert "made_up_methods.plain" not in sys.modules


def test_load_imports_the_module_of_a_name(package):
    assert registry.load(package, "balanced-softmax").HERE == "balanced"


@pytest.mark.parametrize("name", ["balanced_softmax", "_private", "os", "..registry", ""])
def test_only_listed_names_are_imported(package, name):
    with pytest.raises(InputError, match=f"^{name}: unknown name in made_up_methods; "):
        registry.load(package, name)


def test_the_nearest_name_is_suggested(package):
    with pytest.raises(InputError, match="did you mean balanced-softmax"):
        registry.load(package, "balanced-softmx")
    with pytest.raises(InputError, match="unknown name in losses"):
        registry.load(losses, "no-such-loss")


def test_nearest_lists_all_where_none_is_near():
    assert nearest("zzz", iter(["b", "a"])) == "there are: a, b"
    assert nearest("resnet33", ["resnet32", "resnet44", "digits_net"], count=1) == (
        "did you mean resnet32?"
    )
