"""A page of the report in a real browser: Debian's Chromium, without a network."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@contextmanager
def launched():
    """A browser; what asks for it is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, width=1280, scheme="light"):
    """Open a page from disk with the network off; nothing may go wrong or be asked for."""
    wrong, asked = [], []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    context.set_default_timeout(120_000)  # the machine may have other work
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".plot[data-drawn]")
    yield page
    context.close()
    assert wrong == []
    # Pictures of a page, and what it downloads, are in the page itself.
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


def draw_all(page):
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        page.wait_for_function("plot => 'drawn' in plot.dataset", arg=plot.element_handle())


def shown(page, key):
    plot = page.locator(f"#plot-{key}")
    plot.scroll_into_view_if_needed()
    page.wait_for_function("plot => 'drawn' in plot.dataset", arg=plot.element_handle())
    return plot
