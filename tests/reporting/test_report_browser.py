"""The report in a real browser: Debian's Chromium, without a network."""

import csv
import io

import pytest
from browsing import draw_all, opened, shown
from reports import HOSTILE, columns, correction, embedded, large, rendered, run, small

from ltkit.evaluation import Entry
from ltkit.files import classifiers
from ltkit.reporting.exhibits import visible

WIDTHS = (1280, 390)
DARK, LIGHT = "rgb(18, 23, 29)", "rgb(255, 255, 255)"


@pytest.fixture(scope="module")
def path(folder, tmp_path_factory):
    """The page of the bundled features with two kinds of corrections."""
    output = tmp_path_factory.mktemp("browser") / "report.html"
    fit = folder / "feats.alphanet.h5"
    named = ("--classifier", fit, "--classifier", folder / "feats.logit-adjust-sweep.h5")
    run("report", folder / "feats.h5", *named, "-o", output, "--replicates", 100, "-q")
    assert len(classifiers.read(fit)[0].runs) == 4
    return output


@pytest.fixture(scope="module")
def found(path):
    return embedded(path.read_text(encoding="utf-8"))


def written(folder, text):
    target = folder / "page.html"
    target.write_text(text, encoding="utf-8")
    return target


def choose(page, key, view):
    page.locator(f"select[data-views={key}]").select_option(str(view))
    page.wait_for_selector(f"#plot-{key}[data-drawn='{view}']")


def click_mark(page, key, place):
    """Click a scatter's mark with the mouse."""
    mark = shown(page, key).locator(".scatterlayer .points path").nth(place)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    page.wait_for_selector(f"#plot-{key} .hoverlayer .hovertext")
    page.mouse.click(x, y)


@pytest.fixture(scope="module")
def drawn(browser, path):
    """A page with all its figures, for tests that others may follow."""
    with opened(browser, path) as page:
        draw_all(page)
        yield page


@pytest.mark.more
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_figures_are_drawn_in_both_schemes_without_sideways_scrolling(
    browser, path, width, scheme
):
    with opened(browser, path, width, scheme) as page:
        assert page.locator(".plot").count() == 18
        assert page.locator(".plot[data-drawn]").count() < 16  # the first comes before the others
        draw_all(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        style = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(style) == (DARK if scheme == "dark" else LIGHT)
        ink = "() => getComputedStyle(document.querySelector('#plot-accuracy .xtick text')).fill"
        before = page.evaluate(ink)
        assert before == page.evaluate("getComputedStyle(document.body).color")
        page.locator("#scheme").click()
        assert page.evaluate(style) == (LIGHT if scheme == "dark" else DARK)
        page.wait_for_function(f"before => ({ink})() !== before", arg=before)
        assert page.evaluate(ink) == page.evaluate("getComputedStyle(document.body).color")
        page.emulate_media(color_scheme="dark" if scheme == "light" else "light")


def test_each_figure_has_as_many_marks_as_data(drawn, found):
    exhibits, classes = found["exhibits"], len(found["classes"]["name"])
    settings = len(found["labels"])

    def count(key, what):
        return drawn.locator(f"#plot-{key} {what}").count()

    points = ".scatterlayer .points path"
    assert classes == 100
    assert count("accuracy", ".barlayer .point") == 4 * settings == 12
    assert count("by-count", points) == count("by-distance", points) == 2 * classes
    assert count("deltas", points) == len(columns(exhibits["deltas"])["rho"]) == 8
    assert count("frontier", points) == len(columns(exhibits["frontier"])["setting"])
    assert count("frontier", points) == len(found["evaluate"]["rows"])
    assert count("calibration", ".barlayer .point") == 4 * settings
    bins = columns(exhibits["reliability"])
    assert count("reliability", points) == bins["setting"].count("baseline") > 40
    assert count("map", points) == classes
    assert count("norms", ".scatterlayer .lines > path") == settings
    curves = len(exhibits["weights"]["columns"]) - 4
    assert count("weights", ".scatterlayer .lines > path") == curves == 7
    for key in ("norms", "weights"):
        length = f"document.getElementById('plot-{key}').calcdata.map(c => c.length)"
        assert set(drawn.evaluate(length)) == {classes}
    flows = columns(exhibits["flows"])
    links = [n for n in flows["count"][:9] if n]
    assert count("flows", ".sankey-link") == len(links)
    for key, rows, places in (
        ("alpha", 30, 5), ("confusion", classes, classes), ("confusion-groups", 3, 3)
    ):  # fmt: skip
        assert count(key, ".heatmaplayer image") == 1
        z = drawn.evaluate(f"document.getElementById('plot-{key}').calcdata[0][0].z")
        assert [len(z), len(z[0])] == [rows, places]
    tree = columns(exhibits["tree"])["node"]
    ids = drawn.evaluate("document.getElementById('plot-tree').calcdata[0].map(p => p.id)")
    assert sorted(ids) == sorted(tree)
    assert count("tree", "g.slice") > 10


def test_no_button_uploads_a_chart(drawn):
    titles = drawn.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
    assert set(titles) == {
        "Download plot", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes", "Reset view"
    }  # fmt: skip


def test_a_view_shows_its_setting(drawn, found):
    shown(drawn, "by-count")
    read = """key => [...document.getElementById(key).calcdata].flat()
        .map((point) => [point.x, point.y])"""
    accuracy, counts = found["classes"]["accuracy"], found["classes"]["train_count"]
    order = [
        c for group in ("few", "medium", "many")
        for c, own in enumerate(found["classes"]["group"]) if own == group
    ]  # fmt: skip
    for view, setting in ((1, 2), (0, 1)):
        choose(drawn, "by-count", view)
        points = drawn.evaluate(read, "plot-by-count")
        assert [y for _, y in points[:100]] == [round(100 * a, 4) for a in accuracy[0]]
        after = [[counts[c], round(100 * accuracy[setting][c], 4)] for c in order]
        assert points[100:] == after


def test_a_click_on_a_class_shows_its_card(drawn, found):
    classes = found["classes"]
    few = [c for c, group in enumerate(classes["group"]) if group == "few"]
    click_mark(drawn, "by-count", 100 + 7)  # after the baseline's marks: few-shot ones
    title = drawn.locator("#card-title").inner_text()
    c = classes["name"].index(title)
    assert c in few
    body = drawn.locator("#card-body").inner_text()
    assert f"{classes['train_count'][c]} training images (few)" in body
    cells = drawn.locator("#card-body tbody tr").all_inner_texts()
    for place, label in enumerate(found["labels"]):
        assert cells[place].startswith(f"{label}\t{100 * classes['accuracy'][place][c]:.1f} %")
    other, times = classes["mistaken"][0][c][0]
    assert f"{classes['name'][other]} ({times:g})" in cells[0]
    near = found["neighbors"]
    names = [classes["name"][n] for n in near["neighbor"][near["class"].index(c)]]
    listed = [row.split("\t")[0] for row in cells[len(found["labels"]) :]]
    assert listed == names
    alpha = found["alpha"][0]["alpha"][found["alpha"][0]["class"].index(c)]
    assert [row.split("\t")[3] for row in cells[len(found["labels"]) :]] == [
        f"{a:.3f}" for a in alpha
    ]
    drawn.locator("#card-body button", has_text=names[0]).first.click()
    assert drawn.locator("#card-title").inner_text() == names[0]
    drawn.locator("#class-choice").fill("17")
    drawn.locator("#class-choice").press("Enter")
    assert drawn.locator("#card-title").inner_text() == classes["name"][17]


def test_hovering_tells_of_the_class(drawn, found):
    classes = found["classes"]
    mark = shown(drawn, "map").locator(".scatterlayer .points path").first
    box = mark.bounding_box()
    drawn.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    text = drawn.locator("#plot-map .hoverlayer .hovertext")
    text.wait_for()
    lines = text.locator("text.nums tspan.line").all_text_contents()
    c = classes["name"].index(lines[0])
    assert lines[1] == f"{classes['train_count'][c]} training images ({classes['group'][c]})"
    near = found["neighbors"]["neighbor"][found["neighbors"]["class"].index(c)]
    assert lines[3] == "near: " + ", ".join(classes["name"][n] for n in near)
    assert lines[-1].startswith("taken for ")


def downloaded(page, key):
    with page.expect_download() as download:
        page.locator(f"button[data-csv={key}]").click()
    assert download.value.suggested_filename == f"{key}.csv"
    text = download.value.path().read_text(encoding="utf-8")
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.more
@pytest.mark.parametrize("part", [0, 1, 2])
def test_csv_buttons_download_what_the_page_holds(browser, path, found, part):
    """A part at a time: Chromium asks after ten downloads of a page."""
    with opened(browser, path) as page:
        assert page.locator("button[data-csv]").count() == len(found["exhibits"]) < 30
        for key, exhibit in list(found["exhibits"].items())[part::3]:
            heading, *rows = downloaded(page, key)
            assert heading == exhibit["columns"]
            wanted = list(zip(*columns(exhibit).values(), strict=True))
            assert len(rows) == len(wanted)
            for row, values in zip(rows, wanted, strict=True):
                for cell, value in zip(row, values, strict=True):
                    if value is None:
                        assert cell == ""
                    elif isinstance(value, str):
                        assert cell == value
                    else:
                        assert float(cell) == value


@pytest.mark.parametrize("names", [HOSTILE[:5], HOSTILE[3:]])
def test_hostile_names_are_text(browser, tmp_path, names):
    features = small(names)
    entry = correction(features, "<svg onload=alert(3)>")
    text = rendered(features, Entry(entry.name, "</pre>.h5", entry.correction))
    with opened(browser, written(tmp_path, text), 390) as page:
        draw_all(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("script").count() == 3
        assert page.locator("svg[onload], img[onerror]").count() == 0
        for c, name in enumerate(names):
            page.evaluate("c => showClass(c)", c)
            assert page.locator("#card-title").text_content() == visible(name)
            label = page.evaluate("c => classText(c, 1).split('<br>')[0]", c)
            plain = visible(name)
            cut = plain if len(plain) <= 40 else f"{plain[:40]}…"
            told = page.evaluate(
                "t => new DOMParser().parseFromString(t, 'text/html').body.textContent", label
            )
            assert told.strip("\u2068\u2069") == cut
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        shown(page, "map").scroll_into_view_if_needed()
        mark = page.locator("#plot-map .scatterlayer .points path").first
        box = mark.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        first = page.locator("#plot-map .hoverlayer text.nums tspan.line").first
        first.wait_for()
        told = first.text_content().strip("\u2068\u2069")
        assert told in {visible(n)[:40] + "…" * (len(visible(n)) > 40) for n in names}
        legend = page.locator("#plot-accuracy .legendtext").all_text_contents()
        assert "<svg onload=alert(3)> tau 1" in legend
        rows = downloaded(page, "by-count")
        place = rows[0].index("name")
        cells = [row[place] for row in rows[1:]]
        assert cells == [f"'{n}" if n.startswith("=") else n for n in names]


@pytest.mark.more
def test_pictures_are_shown_on_the_card(browser, tmp_path):
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
        "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    text = rendered(small(tuple("abcde")), thumbnails={2: [pixel, pixel]})
    with opened(browser, written(tmp_path, text)) as page:
        page.evaluate("showClass(1)")
        assert page.locator("#card img").count() == 0
        page.evaluate("showClass(2)")
        assert page.locator("#card img").count() == 2
        page.wait_for_function(
            "() => [...document.querySelectorAll('#card img')].every(i => i.naturalWidth === 1)"
        )


def test_what_is_injected_does_not_run(browser, tmp_path):
    """The page's policy allows its own two scripts, whatever else may get in."""
    text = rendered(small()).replace("<main>", "<main><script>document.title = 'no'</script>")
    context = browser.new_context(offline=True)
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(written(tmp_path, text).as_uri())
    page.wait_for_selector(".plot[data-drawn]")
    assert page.title().startswith("Report of")
    assert any("Content Security Policy" in line for line in said)
    context.close()


@pytest.mark.more
def test_a_thousand_classes_answer_within_five_seconds(browser, tmp_path):
    """Of the page's own thread, so that other work on the machine does not count."""
    target = written(tmp_path, large(each=5))
    with opened(browser, target) as page:
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        click_mark(page, "by-count", 1500)
        assert "class number" in page.locator("#card-title").inner_text()
        measured = session.send("Performance.getMetrics")["metrics"]
        seconds = {metric["name"]: metric["value"] for metric in measured}
        assert 0.1 < seconds["ThreadTime"] < 5
        assert page.evaluate("shared.length") > 2  # lists that the page has more than once
        table = downloaded(page, "by-count")
        assert len(table) == 1001
        assert [len(row) for row in table] == [len(table[0])] * 1001
        assert table[8][1] == page.evaluate("classes.name[7]")
    with opened(browser, target, 390) as page:
        draw_all(page)
        assert page.locator("#plot-by-count .scatterlayer .points path").count() == 2000
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_data_that_is_compressed_is_drawn_as_any(browser, tmp_path, monkeypatch):
    plain = rendered(small())
    monkeypatch.setattr("ltkit.reporting.page.LARGE", 1000)
    packed = rendered(small())
    assert embedded(packed) == embedded(plain)
    assert len(packed) < len(plain)
    assert "application/gzip" in packed
    assert "application/gzip" not in plain
    with opened(browser, written(tmp_path, packed)) as page:
        draw_all(page)
        assert page.evaluate("classes.name") == embedded(plain)["classes"]["name"]
