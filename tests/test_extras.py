"""The library without what its extras bring."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hbo import extras
from hbo.errors import ConfigError

SHARED = Path(__file__).parent / "shared"
OPTIONAL = ("trl", "peft", "typer", "rich", "plotly", "gguf", "zstandard")


def run(*words):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_importing_the_callback_never_imports_trl():
    code = (
        "import sys, hbo; [getattr(hbo, name) for name in hbo.__all__]; import hbo.rewards.streamed, hbo.report.page, "
        "hbo.training.packing; print([name for name in sys.modules if name.partition('.')[0] in ('trl', 'typer', 'gguf')])"
    )
    assert run("-c", code).strip() == "[]"


def test_a_model_is_trained_where_nothing_optional_exists():
    said = run("-W", "ignore", str(SHARED / "trains_alone.py"), *OPTIONAL)
    assert "4 lines\nloaded:\n" in said  # one before training and three updates


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (None, "needs trl, which isn't installed: pip install 'hbo[train]'"),
        ("1.8.0", "needs trl>=1.9, but 1.8.0 is installed: pip install 'hbo[train]'"),
    ],
)
def test_a_missing_or_old_package_is_one_sentence(monkeypatch, found, sentence):
    def version(package):
        if package == "trl" and found is None:
            raise extras.PackageNotFoundError(package)
        return found if package == "trl" else "99.0"

    monkeypatch.setattr(extras, "version", version)
    with pytest.raises(ConfigError) as said:
        extras.check_extra("train", "hbo train")
    assert str(said.value) == f"hbo train {sentence}"


def test_a_later_release_is_not_taken_for_an_older_one(monkeypatch):
    monkeypatch.setattr(extras, "version", lambda package: "99.0rc1+cpu")
    extras.check_extra("train", "hbo train")
    extras.check_extra("cli", "hbo")


def test_the_command_without_its_packages_ends_in_one_sentence():
    code = (
        "import hbo.extras as e\n"
        "def gone(package): raise e.PackageNotFoundError(package)\n"
        "e.version = gone\n"
        "from hbo.__main__ import hbo_command\n"
        "hbo_command()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the command hbo needs rich, which isn't installed: pip install 'hbo[cli]'\n"


def test_an_older_trl_ends_the_command_in_one_sentence(tmp_path):
    stands_first = tmp_path / "trl-0.29.1.dist-info"
    stands_first.mkdir()
    (stands_first / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 0.29.1\n")
    file = tmp_path / "config.yaml"
    file.write_text("model: nowhere\nmixture: {datasets: {a: {path: nowhere.jsonl}}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "hbo", "train", str(file), "--output", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines() == [
        f"error: training by a configuration needs trl>={extras.EXTRAS['train']['trl']}, but 0.29.1 is installed: "
        "pip install 'hbo[train]'"
    ]
