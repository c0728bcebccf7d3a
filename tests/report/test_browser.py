"""The pages in a real browser, where there is one (Debian: chromium and chromium-driver).

Drawing takes seconds, so each page is opened once, and every test sets the width and the scheme that it needs.
"""

import json

import chromium
import pytest
from chromium import until
from example_runs import write_mixture, write_run

from hbo.report.page import write_report, write_reports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not chromium.FOUND, reason="needs chromium and chromedriver (Debian: chromium-driver)"),
]
LONG = "x" * 300
SIZES = {"<script>document.title='run'</script>": 100, LONG: 200, "math": 300}
OTHERS = {"math": 300, LONG: 200, "chat": 400}
FIRST = "document.querySelector('[data-figure$=global-p]')"


@pytest.fixture(scope="module")
def tab():
    with chromium.browser() as browser:
        yield browser


@pytest.fixture(scope="module", params=["one run", "three runs"])
def page(request, tab, tmp_path_factory):
    """The tab, showing the page; beside it what the page is called and what it asked the network for."""
    folder = tmp_path_factory.mktemp("browser")
    runs = [write_run(folder / "run", SIZES, updates=3), write_run(folder / "again" / "run", OTHERS, updates=3)]
    runs.append(write_run(folder / "static", SIZES, static=True, updates=0))
    write_mixture(runs[0], SIZES)
    file = write_report(runs[0]) if request.param == "one run" else write_reports(runs, folder / "page.html")
    tab.scheme("light")
    tab.width(1280)
    for kind in ("browser", "performance"):
        tab.log(kind)
    tab.show(file)
    events = [json.loads(entry["message"])["message"] for entry in tab.log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [file.as_uri()]
    return tab, request.param.replace(" ", "-")


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_page(page, width, scheme):
    tab, name = page
    tab.scheme(scheme)
    tab.width(width)
    dark = "return getComputedStyle(document.body).backgroundColor === 'rgb(18, 22, 28)'"
    until(lambda: tab.run(dark) == (scheme == "dark"))
    fits = (
        f"return [...document.querySelectorAll('.chart > svg')].every(s => s.getBoundingClientRect().right <= {width})"
    )
    until(lambda: tab.run(fits))
    assert tab.run("return [...document.querySelectorAll('.chart')].every(c => c.querySelector('.series path'))")
    assert tab.run("return document.documentElement.scrollWidth") <= width
    assert "hbo report" in tab.run("return document.title")
    assert tab.log("browser") == []
    tab.keep(f"report-{name}-{width}-{scheme}")


def test_charts_follow_the_colour_scheme_while_the_page_is_open(page):
    tab, _ = page
    colour = f"return getComputedStyle({FIRST}.querySelector('.series .line')).stroke"
    seen = []
    for scheme in ("light", "dark", "light"):
        tab.scheme(scheme)
        until(lambda: not seen or tab.run(colour) != seen[-1])
        seen.append(tab.run(colour))
    assert seen == ["rgb(0, 119, 173)", "rgb(58, 143, 224)", "rgb(0, 119, 173)"]


def test_a_tooltip_names_every_series_of_the_step_as_text(page):
    tab, _ = page
    tab.width(1280)
    said = f"return {FIRST}.querySelector('.told:not([hidden])')?.innerText || ''"

    def is_told():
        tab.point_at("[data-figure$=global-p]")  # again, since the chart may just be growing to the page's new width
        return tab.run(said)

    told = []
    until(lambda: told.append(is_told()) or "step 20" in told[-1] or "step 40" in told[-1])
    assert "<script>document.title=" in told[-1]
    assert "math" in told[-1] and "share of the rewards" in told[-1]
    assert told[-1].count("%") >= 6
    tab.point_at("footer")
    until(lambda: not tab.run(said))


@pytest.mark.parametrize(("key", "code"), [(" ", 32), ("Enter", 13)])
def test_the_legend_is_reached_and_pressed_by_keyboard(page, key, code):
    tab, name = page
    tab.run("document.querySelector('.skip').focus({preventScroll: true})")
    place = "return document.activeElement.dataset.key || ''"
    for _ in range(60):
        tab.press("Tab", 9)
        if tab.run(place) == "d2":
            break
    assert tab.run(place) == "d2"
    assert tab.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    charts = "[data-figure$=global-p]" if name == "three-runs" else "[data-figure=global-p]"
    hidden = f"return [...document.querySelectorAll('{charts}')].map(c => !c.querySelector('[data-trace=d2]'))"
    shown = tab.run(hidden)
    assert len(shown) == (3 if name == "three-runs" else 1)
    assert not any(shown)
    for pressed in ("false", "true"):
        tab.press(key, code)
        until(lambda state=pressed: tab.run("return document.activeElement.getAttribute('aria-pressed')") == state)
        until(lambda state=pressed: tab.run(hidden) == [state == "false"] * len(shown))


def test_one_legend_hides_a_group_in_the_charts_of_all_runs(page):
    tab, name = page
    legend = "" if name == "three-runs" else "[data-charts='local-p-']"
    button = f"document.querySelector(\"{legend} [data-key='g3/4']\")"
    group = (
        "return [...document.querySelectorAll('[data-figure*=local-p-]')]"
        ".map(c => !c.querySelector('[data-trace=\"g3/4\"]'))"
    )
    before = tab.run(group)
    assert len(before) == (9 if name == "three-runs" else 3)
    assert not any(before)
    tab.run(f"{button}.click()")
    until(lambda: all(tab.run(group)))
    tab.run(f"{button}.click()")
    until(lambda: not any(tab.run(group)))


def test_example_rows_unfold_as_text(page):
    tab, name = page
    tab.width(420)
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert "<img src=x onerror=alert(1)>" in tab.run("return document.querySelector('.examples').innerText")
    assert tab.run("return document.documentElement.scrollWidth") <= 420
    tab.keep(f"report-{name}-unfolded")
    tab.run("document.querySelectorAll('details').forEach(d => d.open = false)")
    assert tab.log("browser") == []
