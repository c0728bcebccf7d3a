"""The program itself: its version, its help, and what a shell completes."""

import os
import subprocess
import sys

import hbo as package

AS_INSTALLED = "import sys; sys.argv[0] = 'hbo'; from hbo.cli import main; main()"


def completed(*words):
    """What bash is given to complete the last of some words with."""
    asked = {"_HBO_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-c", AS_INSTALLED]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, timeout=300)
    return done.stdout.split()


def test_the_version_has_the_programs_name(hbo):
    assert hbo("--version").stdout == f"hbo {package.__version__}\n"


def test_the_help_cuts_no_sentence(hbo):
    text = hbo("--help").stdout
    commands = text.partition("Commands:")[2]
    assert "demo" in commands and "..." not in commands
    assert "--install-completion" in text


def test_bash_completes_commands_and_options():
    assert completed("hbo", "rep") == ["report", "replay"]
    assert completed("hbo", "train", "run.yaml", "--re") == ["--resume"]
