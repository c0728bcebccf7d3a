"""The report of a run that goes on, at an address of this machine: three things to GET, and nothing else.

`/` is a frame that asks for `/state` again and again, and shows `/page`, the report as it would be written now.
"""

from __future__ import annotations

import errno
import json
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hbo.errors import ConfigError, DataError
from hbo.folder.paths import CONFIG, EVALUATION, LEDGER, LOG, METRICS_FILE, MIXTURE, TRAINER_STATE, Stamp, stamp_of
from hbo.folder.run import read_run
from hbo.report.markup import allowed, asset, rendered
from hbo.report.page import render
from hbo.text import one_line, visible
from hbo.watch.lines import ending, headline
from hbo.watch.view import Watcher

ADDRESS = "127.0.0.1"
# A page elsewhere whose name is made to point here (DNS rebinding) would ask with its own name.
_HOSTS = ("127.0.0.1", "localhost")
_FILES = (LEDGER, LOG, CONFIG, MIXTURE, METRICS_FILE, EVALUATION, TRAINER_STATE)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FRAMED = "frame-ancestors 'self'"
Answer = tuple[int, str, bytes, str]  # status, content type, body, content security policy


class Pages:
    """What the server answers, made when it is asked for and kept as long as the run's files stay as they are."""

    def __init__(self, watcher: Watcher, interval: float) -> None:
        self.watcher = watcher
        self._shell = shell(watcher.name, interval).encode()
        self._lock = threading.Lock()  # a Watcher remembers, and pages are costly
        self._page: tuple[list[Stamp | None], bytes] | None = None

    def answer(self, path: str) -> Answer | None:
        """The answer to a path, or None where there is nothing."""
        match path.partition("?")[0]:
            case "/":
                return 200, "text/html", self._shell, POLICY
            case "/state":
                with self._lock:
                    body = json.dumps(self._state()).encode()
                return 200, "application/json", body, "default-src 'none'"
            case "/page":
                with self._lock:
                    return self._report()
        return None

    def _state(self) -> dict[str, Any]:
        try:
            view = self.watcher.look()
        except DataError as error:
            return {"text": visible(str(error)), "state": "failed", "ended": False, "version": None}
        is_shown = bool(view.rows)
        return {
            "text": ending(view) if view.has_ended else headline(view),
            "state": view.state,
            "ended": view.has_ended,
            "version": str(hash(tuple(self._stamps()))) if is_shown and view.state != "removed" else None,
        }

    def _report(self) -> Answer:
        stamps = self._stamps()
        if self._page is None or self._page[0] != stamps:
            try:
                self._page = stamps, render(read_run(self.watcher.folder)).encode()
            except DataError as error:
                return 503, "text/plain", visible(str(error)).encode(), _FRAMED
        return 200, "text/html", self._page[1], _FRAMED

    def _stamps(self) -> list[Stamp | None]:
        return [stamp_of(self.watcher.folder / name) for name in _FILES]


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "hbo", ""
    timeout = 30  # of a client that says nothing
    pages: Pages

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # http.server knows no other methods than those above, and calls them not implemented.
        self._send((405 if code == 501 else code, "text/plain", b"", "default-src 'none'"), with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        host = (self.headers.get("Host") or "").strip().lower()
        if host.rpartition(":")[0] not in _HOSTS and host not in _HOSTS:
            self._send((403, "text/plain", b"ask for 127.0.0.1 or localhost\n", "default-src 'none'"), with_body)
            return
        # As it was asked for: http.server takes two slashes at the start for one.
        found = self.pages.answer(self.requestline.split()[1])
        self._send(found or (404, "text/plain", b"there is no such page\n", "default-src 'none'"), with_body)

    def _send(self, answer: Answer, with_body: bool) -> None:
        code, kind, body, policy = answer
        self.send_response(code)
        headers = {**_HEADERS, "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}
        if code == 405:
            headers["Allow"] = "GET, HEAD"
        for name, value in {**headers, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Serves `pages` at 127.0.0.1.

    Raises:
        ConfigError: The port is taken, or not ours to take.
    """

    def __init__(self, pages: Pages, port: int) -> None:
        handler = type("Handler", (_Handler,), {"pages": pages})
        try:
            super().__init__((ADDRESS, port), handler)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror or error})"
            raise ConfigError(
                f"port {port} of {ADDRESS} {reason}; give another --port, or leave it out for a free one"
            ) from None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Binds without the look-up of this machine's name that http.server makes, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a browser that has left is no error."""


def serve(watcher: Watcher, port: int, interval: float, say: Callable[[str], None]) -> None:
    """Serves the run's page until interrupted, also when the run has ended.

    Raises:
        ConfigError: The port is taken, or not ours to take.
    """
    with Server(Pages(watcher, interval), port) as server:
        say(f"{one_line(watcher.name)}: {server.url} (Ctrl-C ends the page, not the run)")
        server.serve_forever()


_SCRIPT, _STYLE = asset("watch/shell.js"), asset("watch/shell.css")
POLICY = (
    f"default-src 'none'; script-src {allowed(_SCRIPT)}; style-src {allowed(_STYLE)}; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def shell(name: str, interval: float) -> str:
    """The frame as HTML.

    Args:
        name: The run's.
        interval: Seconds between two looks.
    """
    milliseconds = f"{1000 * interval:.0f}"
    return rendered("watch/shell.html", title=name, style=_STYLE, script=_SCRIPT, interval=milliseconds)
