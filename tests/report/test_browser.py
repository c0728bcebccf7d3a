"""The page in a real browser, where there is one (Debian: chromium and chromium-driver)."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest
from example_runs import write_run

from hbo.report.page import write_report

FOUND = shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))
pytestmark = pytest.mark.skipif(not FOUND, reason="needs chromium and chromedriver")
SIZES = {"<script>document.title='run'</script>": 100, "x" * 300: 200, **{f"d{k}": 100 for k in range(8)}}
CONFIG = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}


class Browser:
    """A tab of chromium, driven over WebDriver."""

    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"
        wanted = {"goog:chromeOptions": CONFIG, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.root += f"/session/{answer['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def scheme(self, name):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def show(self, file, width):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("POST", "/url", {"url": file.as_uri()})
        until(lambda: self.run("return document.documentElement.hasAttribute('data-drawn')"))


def until(done, seconds=30):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def browser():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port))
        tab = Browser(port)
        yield tab
        tab.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_report(write_run(tmp_path_factory.mktemp("browser") / "run", SIZES))


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_every_chart_without_an_error_or_a_request(browser, file, width, scheme):
    browser.scheme(scheme)
    browser.log("performance")
    browser.show(file, width)
    assert browser.run("return [...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg'))")
    assert browser.run("return document.title") == "run: hbo report"
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [file.as_uri()]


def test_charts_follow_the_colour_scheme_while_the_page_is_open(browser, file):
    first = "return document.querySelector('[data-figure=global-p]').data[0].line.color"
    browser.scheme("light")
    browser.show(file, 1280)
    light = browser.run(first)
    browser.scheme("dark")
    until(lambda: browser.run(first) != light)


def test_a_legend_button_hides_its_series_in_every_chart_of_its_section(browser, file):
    browser.show(file, 1280)
    button = 'document.querySelector(\'[data-charts="local-p-"] [data-key="g3/4"]\')'
    hidden = (
        "return [...document.querySelectorAll('[data-figure^=local-p-]')]"
        ".every(c => c.data.filter(t => t.visible === false).map(t => t.name).join() === 'g4')"
    )
    assert not browser.run(hidden)
    browser.run(f"{button}.click()")
    assert browser.run(f"return {button}.getAttribute('aria-pressed')") == "false"
    assert browser.run(hidden)


def test_a_tooltip_names_the_dataset_as_text(browser, file):
    browser.show(file, 1280)
    browser.run("Plotly.Fx.hover(document.querySelector('[data-figure=global-p]'), [{curveNumber: 0, pointNumber: 2}])")
    said = "return document.querySelector('[data-figure=global-p] .hovertext')?.textContent || ''"
    until(lambda: browser.run(said))
    assert "<script>document.title=" in browser.run(said)
    assert "step 40" in browser.run(said)
