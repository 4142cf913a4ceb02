"""The bundled features with corrections, and the page of them: made once."""

import shutil

import pytest
from browsing import launched
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


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def answered(folder, tmp_path_factory):
    """The page of the bundled features with a recommendation and other corrections."""
    target = tmp_path_factory.mktemp("answered")
    chosen, page = target / "feats.recommended.h5", target / "report.html"
    quick = ("--methods", "logit-adjust,bias", "--repeats", "2", "-q")
    run("recommend", folder / "feats.h5", *quick, "-o", chosen)
    files = (folder / "feats.alphanet.h5", chosen, folder / "feats.logit-adjust-sweep.h5")
    named = [word for file in files for word in ("--classifier", file)]
    run("report", folder / "feats.h5", *named, "-o", page, "--replicates", "100", "-q")
    return page
