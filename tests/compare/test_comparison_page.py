"""comparison.html in a real browser, where there is one."""

import chromium
import pytest
from test_table import RUNS

from hbo.compare.comparison_page import page
from hbo.compare.table import tabulate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not chromium.FOUND, reason="needs chromium and chromedriver (Debian: chromium-driver)"),
]
LETTERS = "return [...document.querySelectorAll('.intervals text')].map(t => t.getBoundingClientRect().height)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    file = tmp_path_factory.mktemp("browser") / "comparison.html"
    file.write_text(page(tabulate([{**run, "label": f"{run['label']}, {'x' * 90}"} for run in RUNS]), "a grid"))
    with chromium.browser() as browser:
        browser.call("POST", "/url", {"url": file.as_uri()})
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_drawings_in_letters_as_large_as_elsewhere(tab, scheme):
    tab.scheme(scheme)
    tab.width(1280)
    wide = tab.run(LETTERS)
    tab.width(420)
    assert tab.run(LETTERS) == wide != []
    assert tab.run("return document.documentElement.scrollWidth") <= 420
    past = "[...document.querySelectorAll('.intervals svg')].filter(s => s.getBoundingClientRect().right > 420)"
    assert tab.run(f"return {past}.length") == 0
    assert tab.log("browser") == []
    tab.keep(f"comparison-420-{scheme}")


def test_tables_fit_a_page_of_1280_pixels(tab):
    tab.width(1280)
    wide = "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth).length"
    assert tab.run(f"return {wide}") == 0
    assert tab.run("return document.documentElement.scrollWidth") <= 1280
    tab.keep("comparison-1280")
