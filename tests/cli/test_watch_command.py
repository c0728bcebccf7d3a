import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from commands import refused

from hbo.watch.server import Pages, Server
from hbo.watch.view import Watcher


def test_once_in_a_pipe_is_plain_lines(hbo, going):
    done = hbo("watch", going.folder, "--once")
    assert done.returncode == 0, done.stderr
    assert "step 60 of 120, loss 2.000" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith("update 3  ")]) == 4
    assert "\x1b" not in done.stdout


def test_it_ends_with_the_run_and_writes_nothing(hbo, going):
    going.finish()
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in going.folder.iterdir()}
    done = hbo("watch", going.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "finished at step 120"
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in going.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--interval", "0"], ["--interval", "0.1"]),
        (["--interval", "nan"], ["--interval"]),
        (["--interval", "soon"], ["--interval", "a valid "]),
        (["--port", "8000"], ["--web"]),
        (["--web", "--port", "70000"], ["--port", "65535"]),
        (["--web", "--once"], ["--web", "--once"]),
    ],
)
def test_bad_options_are_one_sentence(hbo, going, words, fragments):
    refused(hbo("watch", going.folder, *words), *fragments)


def test_a_folder_that_is_no_run_is_one_sentence(hbo, tmp_path):
    refused(hbo("watch", tmp_path), "holds no run")
    refused(hbo("watch", tmp_path / "nowhere", "--once", "--wait"), "no such folder", "--wait")
    refused(hbo("watch", tmp_path / "nowhere", "--web"), "no such folder")


def test_a_port_in_use_is_one_sentence(hbo, going):
    with Server(Pages(Watcher(going.folder), 1.0), 0) as taken:
        refused(hbo("watch", going.folder, "--web", "--port", taken.server_address[1]), "is in use", "--port")


class Terminal:
    """`hbo watch` in a terminal of `columns` × `lines`."""

    def __init__(self, columns, lines, *words):
        self.master, slave = os.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hbo", "watch", *map(str, words)],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen[-2000:]
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")

    def end(self):
        try:
            self.until("\0never", 30)
        except OSError:  # how a terminal says that nobody is left at its other side
            return self.process.wait(30)
        finally:
            os.close(self.master)


def test_in_a_terminal_it_waits_follows_and_ends(tmp_path, going):
    going.say(phase="scoring", done=5, total=40, trains=False)
    shown = Terminal(80, 24, going.folder, "--interval", "0.1")
    shown.until("scoring 5 of 40")
    going.say(done=60)
    shown.until("step 60 of 120")
    shown.resize(60, 20)
    going.finish()
    assert shown.end() == 0
    last = shown.seen.rpartition("\x1b[?1049l")[2]  # what stays when the second screen is left
    assert "finished at step 120" in last
    assert "general" in last


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_leaving_gives_the_terminal_back_without_a_word(going, number, code):
    before = {path.name: path.read_bytes() for path in going.folder.iterdir()}
    shown = Terminal(80, 24, going.folder)
    shown.until("step 60 of 120")
    shown.process.send_signal(number)
    assert shown.end() == code
    assert "\x1b[?25h" in shown.seen
    assert shown.seen.rpartition("\x1b[?1049l")[2].strip("\x1b[?25h\r\n") == ""
    assert {path.name: path.read_bytes() for path in going.folder.iterdir()} == before
