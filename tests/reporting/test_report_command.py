"""``ltkit report``, its figures as files, and pictures of the classes."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import plotly.io
import pytest
from made import refused
from PIL import Image
from reports import EVERY, embedded, rendered, run, small

from ltkit.records import FeatureSplit
from ltkit.reporting import drawing, pictures
from ltkit.reporting.exhibits import Exhibit, View


@pytest.mark.parametrize(
    ("group", "by"), [("none", None), ("auto", "wordnet"), ("coarse", "coarse")]
)
def test_grouping(here, tmp_path, group, by):
    output = tmp_path / "r.html"
    run("report", "feats.h5", "--classifier", EVERY[-1], "--group", group, "--replicates", 100,
        "-o", output, "-q")  # fmt: skip
    grouped = embedded(output.read_text(encoding="utf-8"))["evaluate"]["rows"][0].get("grouped")
    assert (grouped and grouped["by"]) == by


def test_the_command_refuses_and_says_what_it_wrote(here, tmp_path, ltkit):
    words = ("report", "feats.h5", "--classifier", EVERY[-1], "--replicates", 100)
    code, out, err = ltkit(*words, "-o", tmp_path / "r.html")
    assert (code, out.strip()) == (0, str(tmp_path / "r.html"))
    assert "wrote" in err
    size = (tmp_path / "r.html").stat().st_size / 1e6
    told = rf"r.html: \d+ corrections?, \d+ of \d+ sections have data, {size:.1f} MB$"
    assert re.search(told, err, re.MULTILINE)
    assert re.search(r"^section (\d+)/\1,", err, re.MULTILINE)
    code, _, err = ltkit(*words, "-o", tmp_path / "r.html")
    assert code == 2
    assert "--overwrite" in err
    code, _, err = ltkit(*words, "-o", "feats.h5", "--overwrite")
    assert code == 2
    assert "is an input too" in err
    code, _, err = ltkit(*words, "-o", tmp_path / "s.html", "--figures", tmp_path / "r.html")
    assert code == 2
    assert "is a file, expected a folder" in err


def drawn(monkeypatch, write):
    monkeypatch.setattr(plotly.io, "write_images", write)
    trace = {"type": "bar", "x": ["a"], "y": [1], "meta": "class"}
    views = [View("<one>", [trace], {}), View("two", [trace], {})]
    return [
        Exhibit("bars", "Bars", "", (), (), views),
        Exhibit("table", "Table", "", (), (), cells=[["a"]]),
    ]


def test_figures_are_written_in_three_forms(tmp_path, monkeypatch):
    def write(figures, paths, *, width, height):
        assert (width, height) == (900, [440] * 3)
        for figure, path in zip(figures, paths, strict=True):
            path.write_text(f"{path.suffix} {figure.layout.title.text}")

    exhibits = drawn(monkeypatch, write)
    written = drawing.write_figures(exhibits, tmp_path / "figures")
    assert [p.name for p in written] == ["bars.svg", "bars.pdf", "bars.png"]
    assert written[1].read_text() == ".pdf Bars: &lt;one&gt;"


@pytest.mark.parametrize("said", ["\nImage export needs kaleido,\n  more\n", ""])
def test_without_a_browser_figures_are_refused(tmp_path, monkeypatch, said):
    def write(figures, paths, **size):
        raise ValueError(said)

    exhibits = drawn(monkeypatch, write)
    message = refused(
        lambda: drawing.write_figures(exhibits, tmp_path / "figures"), "kaleido", "Chrom"
    )
    assert ("Image export needs kaleido)" if said else "ValueError") in message
    assert not (tmp_path / "figures").exists()


# Pictures of the classes


def pictured(tmp_path, ids, labels=None):
    features = small(tuple("abcde"))
    count = len(ids)
    labels = np.zeros(count, int) if labels is None else np.array(labels)
    train = FeatureSplit(np.zeros((count, 6), np.float32), labels, np.array(ids, str))
    return replace(features, splits={**features.splits, "train": train})


def picture(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (90, 70), color).save(path)


def thumbnails(features, folder):
    return pictures.thumbnails(features, pictures.Pictures(features, folder))


def test_pictures_come_from_the_folder_only(tmp_path):
    root = tmp_path / "images"
    for number in range(6):
        picture(root / f"a/{number}.png", (200, 10 * number, 0))
    picture(tmp_path / "secret.png", (0, 0, 255))
    ids = ["../secret.png", "gone.png", "x\0y", "a" * 5000, str(tmp_path / "secret.png")]
    ids += [f"a/{number}.png" for number in range(6)]
    features = pictured(tmp_path, [*ids, "a/5.png"], [0] * len(ids) + [3])
    found = thumbnails(features, root)
    assert {c: len(urls) for c, urls in found.items()} == {0: 4, 3: 1}
    for number, url in enumerate(found[0]):
        content = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (64, 64)
            red, green, blue = image.getpixel((30, 30))
        assert abs(red - 200) < 8
        assert abs(green - 10 * number) < 8
        assert blue < 8
    text = rendered(features, thumbnails=found)
    assert embedded(text)["thumbnails"]["3"] == found[3]


def test_pictures_that_are_not_there(tmp_path):
    features = pictured(tmp_path, ["a.png"])
    refused(lambda: thumbnails(features, tmp_path), "--images", "'a.png'")
    refused(lambda: thumbnails(features, tmp_path / "no"), "no such folder")
    refused(lambda: thumbnails(small(), tmp_path), "does not name its images")
    (tmp_path / "a.png").write_text("no picture")
    refused(lambda: thumbnails(features, tmp_path), "none of the images")
    picture(tmp_path / "b.png", (0, 0, 0))
    features = pictured(tmp_path, ["a.png", "b.png"])
    assert len(thumbnails(features, tmp_path)[0]) == 1
