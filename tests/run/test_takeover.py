"""`--overwrite`: the run in the folder is there, to the byte, until another has done a step in its place."""

import json
import os
import shutil
import signal
from pathlib import Path

import forked
import pytest
import ranks
from commands import refused
from transformers import Trainer

from hbo.errors import ConfigError, DataError
from hbo.folder import status
from hbo.rewards.probe import Probe
from hbo.run import takeover
from hbo.run.takeover import Takeover, let_go, put_back, recover, set_aside
from hbo.training.live_log import Teller

FORMER = {
    "config.yaml": "former",
    "balance.jsonl": "former",
    "metrics.json": "former",
    "checkpoint-4/trainer_state.json": "former",
    "model/model.safetensors": "former",
    "runs/then/events": "former",
    "status.json": "former",
    "notes.txt": "mine",
}
NEW = {
    "config.yaml": "new",
    "balance.jsonl": "new",
    "checkpoint-1/model": "new",
    "runs/now/events": "new",
    ".config.yaml.x1": "ne",
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def held(files):
    return {name: text.encode() for name, text in files.items()}


def begun(folder):
    """A new run has begun in the place of the former one."""
    write(folder, FORMER)
    (folder / "status.json").write_text("new")
    set_aside(folder, b"former")
    assert sorted(path.name for path in folder.iterdir()) == [".former", "notes.txt", "status.json"]
    write(folder, NEW)


def test_what_was_set_aside_is_put_back_to_the_byte(tmp_path):
    begun(tmp_path)
    assert put_back(tmp_path)
    assert tree(tmp_path) == held(FORMER)
    assert not put_back(tmp_path)


def test_after_the_first_step_nothing_of_it_is_left(tmp_path):
    begun(tmp_path)
    let_go(tmp_path)
    assert tree(tmp_path) == held(NEW | {"notes.txt": "mine", "status.json": "new"})


class Killed(BaseException):
    pass


def killed_at(monkeypatch, n):
    """The n-th change of the file system isn't made any more, nor any after it."""
    left = [n]
    for owner, name in (
        *((Path, name) for name in ("rename", "replace", "mkdir", "rmdir", "unlink", "write_bytes")),
        (takeover.shutil, "rmtree"),
    ):
        original = getattr(owner, name)

        def wrapped(*args, original=original, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("n", range(26))
def test_killed_at_any_change_of_the_folder_the_next_start_finds_the_former_run(tmp_path, monkeypatch, n):
    write(tmp_path, FORMER)
    (tmp_path / "status.json").unlink()
    with monkeypatch.context() as patch:
        killed_at(patch, n)
        try:
            set_aside(tmp_path)
            write(tmp_path, NEW)
            put_back(tmp_path)
        except Killed:
            pass
    recover(tmp_path)
    assert tree(tmp_path) == held({name: text for name, text in FORMER.items() if name != "status.json"})


def test_killed_while_the_former_run_is_removed_the_new_one_stays(tmp_path, monkeypatch):
    begun(tmp_path)
    with monkeypatch.context() as patch:
        killed_at(patch, 1)
        with pytest.raises(Killed):
            let_go(tmp_path)
    assert (tmp_path / ".former.gone").is_dir()
    assert not recover(tmp_path)
    assert tree(tmp_path) == held(NEW | {"notes.txt": "mine", "status.json": "new"})


def test_a_run_is_not_taken_from_a_process_that_is_just_beginning(tmp_path):
    begun(tmp_path)
    Teller(tmp_path).begin("training", 4)
    with pytest.raises(ConfigError, match=f"process {os.getpid()} is starting a run there"):
        recover(tmp_path)
    before = tree(tmp_path)
    told = json.loads((tmp_path / "status.json").read_text()) | {"host": "another"}  # of which nothing can be known
    (tmp_path / "status.json").write_text(json.dumps(told))
    assert tree(tmp_path).keys() == before.keys()
    assert recover(tmp_path)
    assert tree(tmp_path) == held(FORMER)


def test_what_cannot_be_moved_stays(tmp_path, monkeypatch):
    write(tmp_path, FORMER)
    original = Path.rename

    def rename(self, target):
        if self.name == "model":
            raise PermissionError(13, "Permission denied")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(DataError, match="can't be moved out of the way .Permission denied."):
        set_aside(tmp_path)
    assert tree(tmp_path) == held(FORMER)


def test_a_second_beginning_takes_nothing_of_the_first(tmp_path):
    """`auto_find_batch_size` begins again, before the first step or after some."""
    write(tmp_path, FORMER)
    mine = Takeover(tmp_path, Teller(tmp_path), print, is_first=True)
    mine.begin()
    write(tmp_path, NEW)
    mine.begin()
    mine.on_step_end(None, None, None)
    mine.begin()
    assert {name: tree(tmp_path)[name] for name in NEW} == held(NEW)
    assert not list(tmp_path.glob(".former*"))


@pytest.fixture
def finished(hbo, config, tmp_path):
    """A configuration, its run's folder, and what is in it."""
    file = config(train={"max_steps": 2, "save_steps": 2, "report_to": "tensorboard"})
    assert hbo("train", file).returncode == 0
    run = tmp_path / "run"
    assert {"model", "checkpoint-2", "metrics.json", "report.html", "runs"} <= {path.name for path in run.iterdir()}
    return file, run, tree(run)


def fails(owner, name, error):
    """A patch with which `owner.name` raises."""

    def raising(*args, **kwargs):
        raise error

    return owner, name, raising


ENDS = {
    "the optimizer": fails(Trainer, "create_optimizer", ValueError("no optimizer")),
    "the first probe": fails(Probe, "settle", ValueError("odd")),
    "the first step": fails(Trainer, "training_step", RuntimeError("out of memory")),
    "Ctrl-C": fails(Trainer, "training_step", KeyboardInterrupt()),
}


def test_a_run_that_dies_before_its_first_step_leaves_the_former_one(hbo, finished, monkeypatch):
    file, run, before = finished
    for when, patch in ENDS.items():
        with monkeypatch.context() as patched:
            patched.setattr(*patch)
            try:
                done = hbo("train", file, "--overwrite", "train.learning_rate=0.5")
            except (ValueError, RuntimeError):  # what nobody can foresee is a traceback
                assert when != "Ctrl-C"
            else:
                assert done.returncode == 130
                assert "so the earlier run was put back" in " ".join(done.stderr.split())
        assert tree(run) == before, when
    # It is the same run as ever: it can be resumed.
    assert hbo("train", file, "--resume").returncode == 0


def test_resuming_without_a_checkpoint_begins_as_carefully(hbo, finished, monkeypatch):
    file, run, _ = finished
    shutil.rmtree(run / "checkpoint-2")
    before = tree(run)
    with monkeypatch.context() as patched:
        patched.setattr(*ENDS["Ctrl-C"])
        assert hbo("train", file, "--resume").returncode == 130
    assert tree(run) == before
    assert hbo("train", file, "--resume").returncode == 0
    assert tree(run)["model/model.safetensors"] == before["model/model.safetensors"]
    assert not list(run.glob(".former*"))


def test_a_run_that_trains_replaces_the_former_one(hbo, finished, monkeypatch):
    file, run, before = finished
    seen = []
    original = Trainer.training_step

    def step(self, *args, **kwargs):
        seen.append({path.name for path in run.iterdir()})
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", step)
    done = hbo("train", file, "--overwrite", "train.max_steps=3", "train.save_steps=3")
    assert done.returncode == 0, done.stderr
    assert ".former" in seen[0]  # … in which checkpoint-2 lies
    assert "checkpoint-2" not in seen[0]
    assert not any(".former" in names for names in seen[1:])
    assert {path.name for path in run.glob("*checkpoint*")} == {"checkpoint-3"}
    assert not list(run.glob(".former*"))
    assert json.loads((run / "metrics.json").read_text())["steps"] == 3
    assert not {name for name in before if name.startswith("runs/")} & tree(run).keys()


def die():
    Trainer.training_step = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_killed_before_its_first_step_gives_way_at_the_next_start(hbo, finished, tmp_path):
    file, run, before = finished
    words = ["train", file, "--overwrite", "train.learning_rate=0.5"]
    killed = forked.start(words, tmp_path / "log", {"HBO_CACHE": tmp_path / "cache"}, die)
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    assert tree(run) != before
    assert (run / ".former" / "metrics.json").is_file()
    done = hbo("train", file)
    refused(done, "holds another run")
    assert "the earlier run was put back" in done.stderr
    assert tree(run) == before
    assert status.read_status(run).end == "finished"


def fail_as_the_second(rank):
    if rank == 1:
        Trainer.training_step = fails(None, None, RuntimeError("out of memory"))[-1]


@pytest.mark.slow
def test_processes_put_the_former_run_back_together(finished, tmp_path):
    cache = tmp_path / "cache"
    file, run, before = finished
    words = ["train", file, "--overwrite", "train.per_device_train_batch_size=2"]
    codes = ranks.run([*words, "train.learning_rate=0.5"], cache, tmp_path / "log", before=fail_as_the_second)
    assert 0 not in codes
    assert tree(run) == before
    codes = ranks.run(words, cache, tmp_path / "log")
    assert codes == [0, 0], ranks.said(tmp_path / "log", 0)
    assert not list(run.glob(".former*"))
    assert tree(run) != before
    assert json.loads((run / "metrics.json").read_text())["steps"] == 2
