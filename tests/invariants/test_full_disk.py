"""A disk that is full or read-only: one sentence, and what was saved before stays whole."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from commands import refused
from tiny_runs import cache, config, model_folder, tokenizer  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount a tmpfs"
)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own; `fill(left)` leaves so many bytes free, `empty()` makes space again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Disk:
    def __init__(self, folder):
        self.folder = folder

    def fill(self, left):
        block = (self.folder / "ballast").open("wb")
        with block:
            block.write(bytes(shutil.disk_usage(self.folder).free - left))

    def empty(self):
        (self.folder / "ballast").unlink()

    def read_only(self, on):
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder)], check=True)


def when(monkeypatch, target, do):
    """Calls `do` each time before `target` is called; returns a list with an item for each."""
    import importlib

    module, _, name = target.rpartition(".")
    owner_module, _, owner = module.rpartition(".")
    try:
        holder = importlib.import_module(module)
    except ModuleNotFoundError:
        holder = getattr(importlib.import_module(owner_module), owner)
    real, calls = getattr(holder, name), []

    def wrapped(*args, **kwargs):
        calls.append(name)
        do(len(calls))
        return real(*args, **kwargs)

    monkeypatch.setattr(holder, name, wrapped)
    return calls


# Where the disk runs full, the bytes then left, and which call of it is the one.
MOMENTS = {
    "the weights of a checkpoint": ("transformers.Trainer._save_checkpoint", 20_000, 2),
    "the optimizer of a checkpoint": ("transformers.Trainer._save_optimizer_and_scheduler", 4_000, 2),
    "the state of a checkpoint": ("transformers.TrainerState.save_to_json", 0, 2),
    "a line of balance.jsonl": ("hbo.training.callback.append_record", 0, 2),
}


@pytest.mark.parametrize(
    "moment", [name if name.startswith("a line") else pytest.param(name, marks=pytest.mark.slow) for name in MOMENTS]
)
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(hbo, config, disk, tmp_path, monkeypatch, moment):  # noqa: F811
    target, left, number = MOMENTS[moment]
    whole = config(output=str(tmp_path / "whole"))
    assert hbo("train", whole).returncode == 0
    run = disk.folder / "run"
    file = config(output=str(run))
    with monkeypatch.context() as patch:
        calls = when(patch, target, lambda call: disk.fill(left) if call == number else None)
        said = refused(hbo("train", file), "--resume", str(run))
        assert "No space left" in said or "is there space left?" in said
    assert len(calls) == number
    assert (run / "checkpoint-2" / "trainer_state.json").stat().st_size
    disk.empty()
    done = hbo("train", file, "--resume")
    assert done.returncode == 0, done.stderr
    assert lines(run) == lines(tmp_path / "whole")
    for name in ("eval", "macro_nll"):
        assert (
            json.loads((run / "metrics.json").read_text())[name]
            == json.loads((tmp_path / "whole" / "metrics.json").read_text())[name]
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "number", "told"),
    [
        ("transformers.Trainer.save_model", 3, "checkpoint-4 is whole"),
        ("hbo.run.finish.write_report", 1, "report.html"),
    ],
)  # checkpoints go through save_model too: of steps 2 and 4, then the model itself
def test_a_disk_that_fills_at_the_very_end_loses_no_training(hbo, config, disk, monkeypatch, target, number, told):  # noqa: F811
    run = disk.folder / "run"
    file = config(output=str(run))
    with monkeypatch.context() as patch:
        when(patch, target, lambda call: disk.fill(0) if call == number else None)
        refused(hbo("train", file), "No space left", told)
    disk.empty()
    assert hbo("train", file, "--resume").returncode == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and 'id="figures"' in page


def test_a_full_cache_is_one_sentence(hbo, config, disk, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HBO_CACHE", str(disk.folder))
    disk.fill(0)
    refused(hbo("train", config()), "HBO_CACHE")
    disk.empty()
    assert hbo("train", config(), "--overwrite").returncode == 0


@pytest.mark.slow
def test_a_cache_that_fills_while_rows_are_scored_keeps_what_is_scored(hbo, config, disk, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HBO_CACHE", str(disk.folder))
    file = config()
    with monkeypatch.context() as patch:
        when(patch, "hbo.scoring.score_cache.Journal.write", lambda call: disk.fill(0) if call == 1 else None)
        refused(hbo("train", file), "HBO_CACHE", "scores can't be kept")
    disk.empty()
    assert hbo("train", file, "--overwrite").returncode == 0


def test_a_read_only_folder_is_refused_before_anything_is_done(hbo, config, disk):  # noqa: F811
    disk.read_only(True)
    try:
        said = refused(hbo("train", config(output=str(disk.folder / "run"))), "can't be written to")
        assert "Read-only" in said or "read-only" in said
        refused(hbo("score", config(), "--output", disk.folder / "scores.parquet"), "can't be written to")
    finally:
        disk.read_only(False)


@pytest.mark.slow
def test_a_folder_that_turns_read_only_leaves_the_checkpoints_whole(hbo, config, disk, monkeypatch):  # noqa: F811
    run = disk.folder / "run"
    file = config(output=str(run))
    with monkeypatch.context() as patch:
        when(patch, "transformers.Trainer._save_checkpoint", lambda call: disk.read_only(True) if call == 2 else None)
        refused(hbo("train", file), "Read-only file system", "checkpoint-2 is whole")
    refused(hbo("train", file, "--resume"), "Read-only file system")
    disk.read_only(False)
    assert hbo("train", file, "--resume").returncode == 0


def lines(run):
    records = [json.loads(line) for line in (run / "balance.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]
