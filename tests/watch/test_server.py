import json
import shutil
import socket
import threading
from http.client import HTTPConnection

import chromium
import pytest
from chromium import until

from hbo.watch.server import Pages, Server
from hbo.watch.view import Watcher

SHOWN = "document.querySelector('iframe:not(.coming)')"
BUTTON = f"{SHOWN}.contentDocument.querySelector('[data-charts^=global-p] button[data-key=d1]')"


def served(going, port=0):
    server = Server(Pages(Watcher(going.folder), 0.2), port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    return server


def close(server):
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser():
    with chromium.browser() as tab:
        yield tab


@pytest.fixture
def server(going):
    running = served(going)
    yield running
    close(running)


def ask(server, path="/", method="GET", **headers):
    connection = HTTPConnection(*server.server_address, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers or "no_host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def raw(server, text):
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(text)
        return connection.makefile("rb").readline().decode()


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_it_serves_the_frame_the_state_and_the_report(server, going):
    code, body, headers = ask(server)
    assert (code, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"multitask" in body
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    state = json.loads(ask(server, "/state")[1])
    assert state["text"].startswith("step 60 of 120, loss 2.000")
    assert (state["state"], state["ended"]) == ("running", False)
    page = ask(server, "/page?v=1")[1]
    assert b"Share of the rows asked" in page
    assert json.loads(ask(server, "/state")[1])["version"] == state["version"]
    going.finish()
    state, old = json.loads(ask(server, "/state")[1]), state["version"]
    assert (state["text"], state["ended"]) == ("finished at step 120", True)
    assert state["version"] != old
    assert ask(server, "/page")[1] != page


def test_the_report_of_a_run_that_goes_on_draws_its_loss(server):
    assert b"training loss (nats per token)" in ask(server, "/page")[1]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//", "//page", "/page/", "/page%00", "/./page", "/state/../page",
        "/balance.jsonl", "/config.yaml", "/page;x", "/PAGE", "\\..\\page", "page", "*", "http://127.0.0.1/page",
        "/%70age", "/..%2f..%2fetc/passwd", "/favicon.ico",
    ],
)  # fmt: skip
def test_nothing_else_is_served(server, path):
    assert raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).split()[1] == "404"


def test_a_nul_in_a_path_is_nothing(server):
    assert raw(server, b"GET /page\0 HTTP/1.1\r\nHost: localhost\r\n\r\n").split()[1] == "404"


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/9.x\r\n\r\n", b"\r\n"])
def test_what_is_no_request_does_not_stop_it(server, text):
    raw(server, text)
    assert ask(server)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "ANYTHING"])
def test_nothing_can_be_written(server, method):
    code, _, headers = ask(server, method=method)
    assert (code, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/state", "/page", "/no"])
def test_head_is_get_without_the_body(server, path):
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    code, whole, _ = ask(server, path)
    assert head.startswith(f"HTTP/1.0 {code} ".encode())
    assert (body, len(whole) > 0) == (b"", True)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
@pytest.mark.parametrize("path", ["/", "/state", "/page"])
def test_a_name_that_only_points_here_is_refused(server, host, path):
    assert ask(server, path, Host=host)[0] == 403


def test_without_a_host_it_is_refused(server):
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").split()[1] == "403"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.1:1"])
def test_a_tunnel_may_have_another_port(server, host):
    assert ask(server, Host=host)[0] == 200


def test_before_training_there_is_no_report_yet(server, going):
    (going.folder / "balance.jsonl").unlink()
    going.say(phase="scoring", done=3, total=9, trains=False)
    state = json.loads(ask(server, "/state")[1])
    assert state["text"].startswith("scoring 3 of 9, ")
    assert state["version"] is None
    assert ask(server, "/page")[0] == 503


def test_damage_and_removal_are_told(server, going):
    ledger = going.folder / "balance.jsonl"
    ledger.write_text(ledger.read_text() + "{}\n")
    assert "balance.jsonl, line 5" in json.loads(ask(server, "/state")[1])["text"]
    shutil.rmtree(going.folder)
    state = json.loads(ask(server, "/state")[1])
    assert (state["state"], state["ended"], state["version"]) == ("removed", True, None)


@pytest.mark.slow
@pytest.mark.skipif(not chromium.FOUND, reason="needs chromium and chromedriver")
def test_in_a_browser_the_page_refreshes_in_place_and_outlives_its_server(browser, going):
    browser.log("browser")
    server = served(going)
    going.say(phase="scoring", done=3, total=9, trains=False)
    browser.call("POST", "/url", {"url": server.url})
    said = "return document.getElementById('text').textContent"
    until(lambda: browser.run(said).startswith("scoring 3 of 9"))
    going.say()
    until(lambda: browser.run(f"return !!{SHOWN}"))
    browser.run(f"{BUTTON}.click(); {SHOWN}.contentDocument.querySelector('#global-p summary').click()")
    browser.run(
        f"{SHOWN}.contentWindow.scrollTo(0, 500); {BUTTON}.focus({{preventScroll: true}}); window.before = {SHOWN}"
    )
    browser.run(f"window.gaps = 0; setInterval(() => {{ if (!{SHOWN}) window.gaps++ }}, 1)")
    going.update(4)
    until(lambda: browser.run(f"return {SHOWN} !== window.before"))
    assert browser.run(f"return {SHOWN}.contentWindow.scrollY") == 500
    assert browser.run(f"return {BUTTON}.getAttribute('aria-pressed')") == "false"
    assert browser.run(f"return {SHOWN}.contentDocument.activeElement === {BUTTON}")
    assert browser.run(f"return {SHOWN}.contentDocument.querySelector('#global-p details').open")
    assert browser.run("return window.gaps") == 0
    until(lambda: browser.run("return document.querySelectorAll('iframe').length") == 1)
    assert browser.log("browser") == []

    port = server.server_address[1]
    close(server)
    until(lambda: "has ended" in browser.run(said))
    assert browser.run(f"return {SHOWN}.contentWindow.scrollY") == 500
    server = served(going, port)
    going.finish()
    until(lambda: browser.run(said) == "finished at step 120. This page no longer refreshes.")
    until(
        lambda: "6 updates" in browser.run(f"return {SHOWN}.contentDocument.querySelector('header, main').textContent")
    )
    close(server)
