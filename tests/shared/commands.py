"""The command line in this process, and what a refusal looks like."""

import sys
import warnings
from types import SimpleNamespace

import pytest

from hbo.cli import main


@pytest.fixture
def hbo(monkeypatch, capsys):
    """`hbo("train", file)` → returncode, stdout, stderr; importing trl anew for every call would take most of the time."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["hbo", *map(str, words)])
        code = 0
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return run


def refused(done, *fragments):
    """Sees that a command ended in one sentence and exit code 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1, done.stderr
    for fragment in fragments:
        assert fragment in error[0], error[0]
    return error[0]
