"""A tab of Debian's chromium, driven over WebDriver by its chromedriver."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

FOUND = shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))
ARTEFACTS = Path(os.environ.get("HBO_ARTEFACTS", Path(__file__).parents[2] / "artefacts"))
_CONFIG = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]}
_DRAWN = (
    "return document.documentElement.getAttribute('data-drawn') === String(document.querySelectorAll('.chart').length)"
)


class Browser:
    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"
        wanted = {"goog:chromeOptions": _CONFIG, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.root += f"/session/{answer['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.load(answer)["value"]

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def scheme(self, name):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def width(self, pixels):
        self.devtools("Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=False)

    def show(self, file):
        self.call("POST", "/url", {"url": file.as_uri()})
        until(lambda: self.run(_DRAWN))

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.devtools("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def point_at(self, selector):
        """Moves the mouse to the middle of an element, as a hand would: over its place, not by an event of its own."""
        box = self.run(
            f"const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center', "
            "behavior: 'instant'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]"
        )
        for shift in (3, 0):
            self.devtools("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + shift, y=box[1] + shift)

    def keep(self, name):
        """A picture of the whole page, kept in the folder of artefacts."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        (ARTEFACTS / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        tab = Browser(port)
        try:
            yield tab
        finally:
            with suppress(OSError):  # what went wrong before is the news
                tab.call("DELETE", "")  # or the browser would outlive its driver
    finally:
        driver.terminate()
        driver.wait()


def until(done, seconds=180):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
