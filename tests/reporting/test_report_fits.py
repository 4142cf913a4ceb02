"""The page on paper, on a narrow screen, and for the hands: nothing is cut, everything answers."""

import re
from itertools import pairwise

import pytest
from browsing import draw_all, opened
from reports import HOSTILE, Page, collected, correction, small

from ltkit.evaluation import Entry
from ltkit.reporting import page, sections, source
from ltkit.reporting.advice import Advice

PAPER = 703
"""Pixels across A4 between margins of 12 mm."""

WIDER = """edge => [...document.querySelectorAll("body *")]
    .filter((e) => e.getClientRects().length && !e.closest(".plot svg, .js-plotly-plot .modebar"))
    .filter((e) => e.getBoundingClientRect().right > edge + 1)
    .map((e) => `${e.tagName}.${e.className} ${e.id} ${e.textContent.slice(0, 40)}`)"""
"""What stands out over the right edge; what is inside of a figure's drawing is looked at apart."""

CUT = """() => [...document.querySelectorAll(".scroll, td, th, .ship code, pre, dd")]
    .filter((e) => e.getClientRects().length && e.scrollWidth > e.clientWidth + 1)
    .map((e) => `${e.tagName} ${e.textContent.slice(0, 40)}`)"""
"""What is wider than its own box, and so is cut or must be scrolled."""

DRAWINGS = """() => [...document.querySelectorAll(".plot")].map((plot) => [
    plot.dataset.key, plot.clientWidth,
    Math.max(...[...plot.querySelectorAll(".main-svg")].map((svg) => svg.width.baseVal.value))])"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A page whose names are long, and in other scripts, with all the columns it can have."""
    features, entries = small(HOSTILE[:5]), []
    for number in range(source.DETAILED):
        entry = correction(features, f"{number}{'a' * 80}")
        entries.append(Entry(entry.name, f"{number}.h5", entry.correction))
    chosen = Advice(1, "b" * 80, keep=False, reason="best", wins=0.9, command=f"ltkit {'c' * 200}")
    collection = collected(features, *entries, advice=chosen)
    path = tmp_path_factory.mktemp("hostile") / "r.html"
    path.write_text(page.render(collection, sections.make(collection)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def screen(browser, answered):
    """A page for tests that others may follow."""
    with opened(browser, answered) as page:
        yield page


@pytest.mark.parametrize("which", ["hostile", pytest.param("answered", marks=pytest.mark.more)])
def test_nothing_is_cut_at_390_pixels(browser, request, which):
    path = request.getfixturevalue(which)
    with opened(browser, path, 390) as page:
        draw_all(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(WIDER, 390) == []
        assert page.evaluate(CUT) == []
        page.evaluate("showClass(0)")
        assert page.evaluate(CUT) == []
        # Each cell says what column it is of.
        first = page.locator("#table-answer tbody tr").nth(1).locator("td").first
        before = first.evaluate("cell => getComputedStyle(cell, '::before').content")
        assert before == '"few"'


@pytest.mark.more
@pytest.mark.parametrize("which", ["hostile", "answered"])
def test_nothing_is_cut_on_paper(browser, request, which):
    path = request.getfixturevalue(which)
    with opened(browser, path, PAPER, "dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.plot')].every((p) => 'drawn' in p.dataset)"
        )
        assert page.evaluate(WIDER, PAPER) == []
        assert page.evaluate(CUT) == []
        for key, room, width in page.evaluate(DRAWINGS):
            assert 600 < width <= room, key
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert not page.locator("nav, button >> visible=true").count()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("document.documentElement.dataset.scheme") == "dark"


@pytest.mark.more
def test_a_pdf_has_all_figures(browser, answered, tmp_path):
    with opened(browser, answered) as page:
        page.pdf(path=tmp_path / "page.pdf", format="A4")
        assert page.locator(".plot[data-drawn]").count() == page.locator(".plot").count()
    content = (tmp_path / "page.pdf").read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 5 < pages < 30


def test_the_answer_is_on_the_first_screen(screen):
    screen.evaluate("scrollTo(0, 0)")
    for what in (".answer", ".ship", "#table-answer"):
        box = screen.locator(what).bounding_box()
        assert box["y"] + box["height"] < 900
    links = screen.locator("nav a").all_inner_texts()
    assert links[0] == "What to ship"
    assert len(links) == 7
    for link in screen.locator("nav a").all():
        target = link.get_attribute("href")
        assert screen.locator(f"h2{target}").count() == 1
    assert screen.locator("tr.lead").inner_text().count("★ recommended") == 1


def test_gain_and_loss_differ_by_more_than_colour(screen):
    for kind, sign in (("gain", "▲"), ("loss", "▼")):
        cells = screen.locator(f"#table-answer td.{kind}")
        assert cells.count() > 0
        assert all(text.startswith(sign) for text in cells.all_inner_texts())
    color = "cell => getComputedStyle(cell).color"
    shades = {screen.locator(f"#table-answer td.{k}").first.evaluate(color)
              for k in ("gain", "loss")}  # fmt: skip
    assert len(shades) == 2


def copied(page):
    """Press the button; when it says so, return what it was to copy."""
    page.locator("#copy", has_text=re.compile("^Copy$")).click()
    page.locator("#copy", has_text="Copied").wait_for()
    return page.locator("#command").inner_text()


def test_the_command_is_copied(screen):
    screen.context.grant_permissions(["clipboard-read", "clipboard-write"])
    command = copied(screen)
    assert screen.evaluate("navigator.clipboard.readText()") == command
    screen.locator("#copy", has_text=re.compile("^Copy$")).wait_for()


def test_without_the_clipboard_the_command_is_copied_from_the_selection(screen):
    screen.evaluate("""() => {
        window.kept = Clipboard.prototype.writeText;
        delete Clipboard.prototype.writeText; }""")
    command = copied(screen)
    assert screen.evaluate("getSelection().toString()") == command
    screen.evaluate("() => { Clipboard.prototype.writeText = window.kept }")


def test_an_unknown_class_is_not_the_old_one(screen):
    screen.evaluate("showClass(3)")
    choice = screen.locator("#class-choice")
    for wanted in ("no such name", "100", "-1"):
        choice.fill(wanted)
        choice.press("Enter")
        screen.locator("#card-title", has_text="No such class").wait_for()
        assert screen.locator("#card-body table").count() == 0
        assert f"{wanted}: expected a name, or a number from 0 to 99" in (
            screen.locator("#card-body").inner_text()
        )
    choice.fill("3")
    choice.press("Enter")
    assert screen.locator("#card-body table").count() > 0


@pytest.mark.more
def test_the_button_says_what_it_changes_to(browser, answered):
    with opened(browser, answered, scheme="dark") as page:
        button = page.locator("#scheme")
        assert button.inner_text() == "Light theme"
        button.click()
        assert button.inner_text() == "Dark theme"


@pytest.mark.more
def test_cells_and_marks_name_classes(browser, answered):
    names = {cell for row in Page(answered.read_text("utf-8")).tables["table-worst"][1:]
             for cell in row[:1]}  # fmt: skip
    with opened(browser, answered) as page:
        draw_all(page)
        labels = page.locator("#plot-map .textpoint text").all_text_contents()
        assert len(set(labels) & names) > 5
        cells = page.locator("#plot-alpha .heatmap-label").all_text_contents()
        assert len(cells) == 150
        ticks = page.locator("#plot-norms .ytick text").evaluate_all(
            "all => all.map((t) => t.getBoundingClientRect()).map((b) => [b.top, b.bottom])"
        )
        ticks.sort()
        assert len(ticks) > 3
        assert all(low[1] <= high[0] + 1 for low, high in pairwise(ticks))
    with opened(browser, answered, 390) as page:
        draw_all(page)
        assert page.locator("#plot-map .textpoint text").count() == 0
