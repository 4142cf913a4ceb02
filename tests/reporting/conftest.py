"""The bundled features with corrections, and the page of them: made once."""

import shutil

import pytest
from reports import DEMO, embedded, run


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with the bundled features and corrections of them."""
    folder = tmp_path_factory.mktemp("report")
    feats = shutil.copy(DEMO, folder / "feats.h5")
    fit = ("alphanet", "fit", feats, "--rho", "0.5,1", "--seeds", "2", "--epochs", "6", "-q")
    run(*fit)
    run(*fit, "--metric", "random", "-o", folder / "feats.random.h5")
    run("posthoc", "logit-adjust", feats, "--sweep", "-q")
    run("posthoc", "tau-norm", feats, "-q")
    return folder


@pytest.fixture(scope="session")
def text(folder):
    """The page of all corrections."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        run("report", "feats.h5", "--replicates", "200", "-q")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    return folder


@pytest.fixture(scope="session")
def found(text):
    return embedded(text)
