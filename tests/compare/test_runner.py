"""Real grids of tiny runs: to a table, killed, stopped, two at once, shared by two processes, with a cell that crashes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_runs import cache, config, model_folder, tokenizer  # noqa: F401

from hbo.folder.paths import last_checkpoint
from hbo.folder.status import is_gone, read_status

pytestmark = pytest.mark.slow


def command(file, output, methods="hbo,uniform", seeds="0,1", *more):
    words = ["--methods", methods, "--seeds", seeds, "--output", str(output), *more]
    return [sys.executable, "-m", "hbo", "compare", str(file), *words]


def run(*words, code=0):
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=500)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def results(output):
    """What must not depend on when and how often the grid was started."""
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "overhead")} for line in lines]


def stamps(output):
    return {f.parent.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in output.glob("runs/*/metrics.json")}


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(holds, process):
    deadline = time.monotonic() + 300
    while not holds():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def has_trained(folder):
    told = read_status(folder)
    return (folder / "metrics.json").exists() or bool(told and told.trains and told.done)


def test_a_grid_runs_to_a_table_and_nothing_runs_twice(config, tmp_path):  # noqa: F811
    output = tmp_path / "grid"
    run(config(), output)
    files, table = stamps(output), (output / "comparison.md").read_text()
    assert len(results(output)) == len(files) == 4
    assert results(output)[0]["steps"] == 4
    assert "<table" in (output / "comparison.html").read_text()
    held_out = {tuple(sorted(line["nll_before"].items())) for line in results(output)}
    assert len(held_out) == 1  # of the same model on the same rows, whatever the seed
    run(config(), output)
    assert stamps(output) == files
    assert (output / "comparison.md").read_text() == table
    assert "4 runs: 4 finished, 0 to run" in run(config(), output, "hbo,uniform", "0,1", "--dry-run").stdout


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(config, tmp_path):  # noqa: F811
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(config(), whole)
    process = subprocess.Popen(command(config(), killed), stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: len(stamps(killed)) >= 2, process)
    time.sleep(1.0)  # somewhere inside the third
    for pid in (process.pid, *children(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    before = stamps(killed)
    assert 2 <= len(before) < 4
    run(config(), killed)
    after = stamps(killed)
    assert {name: after[name] for name in before} == before
    assert results(killed) == results(whole)


def test_two_processes_share_a_grid(config, tmp_path):  # noqa: F811
    output = tmp_path / "grid"
    file = config()
    both = [subprocess.Popen(command(file, output), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=500)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    started = [line for text in said for line in text.splitlines() if line.endswith(("starts", "goes on"))]
    assert len(started) == len(set(started)) == 4
    assert len(results(output)) == 4


def test_two_at_once_overlap_and_end_as_one_by_one(config, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums are rounded by how many threads share them
    alone, together = tmp_path / "alone", tmp_path / "together"
    run(config(), alone, "hbo,uniform", "0")
    said = run(config(), together, "hbo,uniform", "0", "--jobs", "2").stderr.splitlines()
    assert results(together) == results(alone)
    assert said[0].startswith("2 runs, 2 to do, 2 at once")
    assert [line.endswith("starts") for line in said[1:]] == [True, True, False, False]  # no result before both run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_all_that_run_and_they_go_on_as_if_it_had_not(config, tmp_path, number, code):  # noqa: F811
    file = config(train={"max_steps": 400, "save_strategy": "no", "logging_steps": 100}, balance={"update_every": 50})
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    process = subprocess.Popen(
        command(file, stopped, "hbo,uniform", "0", "--jobs", "2"),
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    folders = [stopped / "runs" / f"{method}-seed0" for method in ("hbo", "uniform")]
    wait_until(lambda: all(has_trained(folder) for folder in folders), process)
    process.send_signal(number)
    assert "the same command goes on" in process.communicate(timeout=100)[1]
    assert process.returncode == code
    finished = stamps(stopped)  # on a busy machine one may end before the other begins to train
    assert len(finished) < 2
    cut = [folder for folder in folders if folder.name not in finished]
    assert [len(list(folder.glob("checkpoint-*"))) for folder in cut] == [1] * len(cut)
    said = run(file, stopped, "hbo,uniform", "0", "--jobs", "2").stderr
    assert said.count("goes on") == len(cut)
    assert finished.items() <= stamps(stopped).items()
    run(file, whole, "hbo,uniform", "0", "--jobs", "2")
    assert results(stopped) == results(whole)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_cell_that_crashes_costs_only_itself(config, tmp_path, jobs):  # noqa: F811
    output = tmp_path / "grid"
    (output / "runs").mkdir(parents=True)
    for cell in ("hbo-seed0", "uniform-seed1"):
        (output / "runs" / cell).write_text("a file stands where this cell wants its folder")
    done = run(config(), output, "hbo,uniform", "0,1", "--jobs", jobs, code=1)
    assert "hbo, seed 0: failed" in done.stderr
    *_, first, second, last = done.stderr.splitlines()
    assert first.startswith("failed: hbo, seed 0: error: ") and first.endswith("hbo-seed0.log")
    assert second.startswith("failed: uniform, seed 1: error: ") and second.endswith("uniform-seed1.log")
    assert last == "error: 2 of 4 runs failed; the same command tries them again"
    assert [(line["method"], line["seed"]) for line in results(output)] == [("uniform", 0), ("hbo", 1)]


def test_a_cell_that_cannot_start_leaves_what_it_finds(config, tmp_path):  # noqa: F811
    output = tmp_path / "grid"
    cell = output / "runs" / "uniform-seed0"
    cell.mkdir(parents=True)
    (cell / "config.yaml").write_text("of a run without checkpoints")
    (cell / "balance.jsonl").write_text("of it")
    run(config(mixture={"datasets": {"a": str(tmp_path / "nowhere.jsonl")}}), output, "uniform", "0", code=1)
    assert {path.name: path.read_text() for path in cell.iterdir()} == {
        "config.yaml": "of a run without checkpoints",
        "balance.jsonl": "of it",
    }


def test_settings_vary(config, tmp_path):  # noqa: F811
    output = tmp_path / "grid"
    run(config(), output, "hbo,mos+", "0", "--vary", "balance.probes=2,4")
    assert [line["label"] for line in results(output)] == [
        f"{method}, balance.probes={probes}" for probes in (2, 4) for method in ("hbo", "mos+")
    ]


def test_another_configuration_does_not_take_over_a_grid(config, tmp_path):  # noqa: F811
    output, file = tmp_path / "grid", config()
    run(file, output, "uniform", "0")
    changed = yaml.safe_load(file.read_text())
    changed["train"]["max_steps"] = 3
    file.write_text(yaml.safe_dump(changed))
    done = run(file, output, "uniform", "0", code=2)
    assert "another configuration" in done.stderr
    assert results(output)[0]["steps"] == 4


def test_a_grid_of_before_a_key_was_added_goes_on(config, tmp_path):  # noqa: F811
    output, file = tmp_path / "grid", config()
    run(file, output, "uniform", "0")
    cell = output / "runs" / "uniform-seed0.yaml"
    written = yaml.safe_load(cell.read_text())
    del written["difficulty"]["drop_easiest"]
    written["train"]["max_steps"] = str(written["train"]["max_steps"])  # as it was written, before values were typed
    cell.write_text(yaml.safe_dump(written))
    trained = stamps(output)
    run(file, output, "uniform", "0")
    assert stamps(output) == trained


def test_finished_cells_are_evaluated_once(config, tmp_path):  # noqa: F811
    output, data, words = tmp_path / "grid", tmp_path / "data" / "xcopa", ("uniform", "0")
    data.mkdir(parents=True)
    row = {"premise": "Mtoto alilia.", "choice1": "Alianguka.", "choice2": "Alilala.", "question": "cause", "label": 0}
    for language in ("sw", "zh"):
        (data / f"{language}.jsonl").write_text(2 * (json.dumps(row) + "\n"))
    run(config(), output, *words)
    assert {line["benchmarks"] for line in results(output)} == {None}
    trained = stamps(output)
    asked = ("--eval", "xcopa", "--data", str(data.parent))
    done = run(config(), output, *words, *asked)
    assert done.stderr.count("is evaluated") == 1
    assert stamps(output) == trained
    assert [set(line["benchmarks"]) for line in results(output)] == [{"benchmark xcopa"}]
    assert "Accuracy on benchmarks" in (output / "comparison.md").read_text()
    assert "is evaluated" not in run(config(), output, *words, *asked).stderr
    said = run(config(), output, *words, *asked, "--limit", "1", code=1).stderr
    assert said.count("limit null, not 1") == 2  # when it fails, and again at the end


TWO = f"{sys.executable} -m torch.distributed.run --nproc-per-node 2 -m"


def test_two_processes_per_cell_draw_what_one_does(config, tmp_path):  # noqa: F811
    file, alone, together = config(global_batch_size=8), tmp_path / "1", tmp_path / "2"
    run(file, alone, "hbo,uniform", "0", "--jobs", "2")
    run(file, together, "hbo,uniform", "0", "--jobs", "2", "--launcher", TWO)
    for one, two in zip(*(ledgers(output) for output in (alone, together)), strict=True):
        assert [line["drawn"] for line in one] == [line["drawn"] for line in two]
        assert [line["global"] for line in one] == [pytest.approx(line["global"], rel=1e-5) for line in two]
    assert [line["macro_nll"] for line in results(together)] == pytest.approx(
        [line["macro_nll"] for line in results(alone)], rel=1e-4
    )
    assert len(list(together.glob("runs/hbo-seed0/checkpoint-2/rng_state_*"))) == 2  # there were two processes


def ledgers(output):
    files = sorted(output.glob("runs/*/balance.jsonl"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def test_a_signal_reaches_all_processes_of_a_launcher(config, tmp_path):  # noqa: F811
    file = config(train={"max_steps": 4000, "save_strategy": "no"}, balance={"update_every": 50})
    output = tmp_path / "grid"
    words = command(file, output, "uniform", "0", "--launcher", TWO)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    folder = output / "runs" / "uniform-seed0"
    wait_until(lambda: (told := read_status(folder)) and told.phase == "training" and told.done, process)
    process.send_signal(signal.SIGTERM)
    assert "the same command goes on" in process.communicate(timeout=100)[1]
    assert process.returncode == 143
    assert is_gone(read_status(folder)) or read_status(folder).end == "interrupted"
    assert last_checkpoint(folder) is not None
    assert len(list(last_checkpoint(folder).glob("rng_state_*"))) == 2  # of both processes
    assert not (folder / "stop").exists()


def test_a_search_for_the_best_mixture_goes_on_and_is_never_made_anew(config, tmp_path):  # noqa: F811
    output, file = tmp_path / "grid", config(train={"max_steps": 2, "save_strategy": "no"})
    words = [sys.executable, "-m", "hbo", "compare", str(file), "--mixtures", "4", "--output", str(output)]
    listed = subprocess.run([*words, "--dry-run"], capture_output=True, text=True, timeout=500)
    assert "mixture 1, seed 1000: 2 steps, to run" in listed.stdout and "8 runs: 0 finished, 8 to run" in listed.stdout
    assert "best static mixture found, seed 0: 2 steps, to run" in listed.stdout and not output.exists()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(stamps(output)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "of 6 runs are finished" in (output / "comparison.md").read_text()
    before = stamps(output)
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())  # lines are broken at the terminal's width
    assert "Headroom" in said and "Seeds of uniform differ by" in said
    assert {name: stamps(output)[name] for name in before} == before and len(stamps(output)) == 8
    assert [line["label"] for line in results(output)] == ["uniform", "best static mixture found"]
    found = (output / "best_mixture.json").read_text()
    assert "Is there anything to win on this mixture?" in (output / "comparison.html").read_text()
    again = subprocess.run([*words, "--seeds", "0,1"], capture_output=True, text=True, timeout=500)
    assert again.returncode == 0, again.stderr
    assert (output / "best_mixture.json").read_text() == found
    assert [line["label"] for line in results(output)] == 2 * ["uniform", "best static mixture found"]
    weights = {
        str(yaml.safe_load(cell.read_text())["mixture"]["datasets"]["a"]["weight"])
        for cell in output.glob("runs/best-static-mixture-found-seed*.yaml")
    }
    assert weights == {str(json.loads(found)["datasets"]["a"]["share"])}
    other = subprocess.run([*words[:-3], "5", *words[-2:]], capture_output=True, text=True, timeout=500)
    assert other.returncode == 2 and "was found from 4 mixtures" in other.stderr
