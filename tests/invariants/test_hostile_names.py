"""Names of datasets become log keys, files and HTML: nothing leaves the run folder, nothing runs in the report."""

import json
import shutil
import sys
import unicodedata

import chromium
import pyarrow.parquet as pq
import pytest
import yaml
from commands import refused
from tiny_runs import cache, config, model_folder, tokenizer, write_rows  # noqa: F401 - fixtures

from hbo.config.file import load

NAMES = [
    "../x",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\"quotes\" 'of' `all` kinds",
    "two\nlines\r\n\ttabbed",
    "n" * 300,
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "emoji 👩‍🚀🏳️‍🌈",
    unicodedata.normalize("NFC", "café"),
    unicodedata.normalize("NFD", "café"),
    "CAFÉ",
    "a/b.c",
    ".",
    "..",
    "con",
    "[red]markup[/]",
    "{{ 7 * 7 }} ${HOME} %s %(x)s {0}",
    "\x1b[2Jescape\x07\x00nul",
    "null",
    "1e5",
    "- a: &b *b",
    "__proto__",
    "constructor",
    "👍" * 100,
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tokenizer):  # noqa: F811
    """A finished run over datasets of all these names, made once."""
    import os
    import subprocess

    import torch
    from tiny_runs import BALANCE, TRAIN, tiny_model

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("hostile")
    tiny_model().save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    rows = [write_rows(home / f"{i}.jsonl", 6, f"set {i}") for i in range(len(NAMES))]
    data = {
        "model": str(home / "model"),
        "mixture": {"datasets": dict(zip(NAMES, rows, strict=True))},
        "difficulty": {"groups": 2},
        "balance": BALANCE,
        "train": {**TRAIN, "report_to": "tensorboard", "eval_strategy": "steps", "eval_steps": 4},
    }
    (home / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    before = {path for path in home.rglob("*") if "cache" not in path.parts}
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "hbo",
        "train",
        str(home / "config.yaml"),
        "--output",
        str(home / "run"),
    ]
    environment = {**os.environ, "HBO_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return home, before, done


def test_nothing_is_written_outside_the_run_folder_and_the_cache(run):
    home, before, _ = run
    allowed = (home / "run", home / "cache")
    new = [p for p in home.rglob("*") if p not in before and not any(p == a or a in p.parents for a in allowed)]
    assert new == []
    assert not (home.parent / "x").exists()
    # Inside the folder no name has become a path either.
    inside = {path.name for path in (home / "run").rglob("*")}
    assert not inside & {"x", "passwd", "b.c", "con"}


def test_no_escape_sequence_of_a_name_reaches_the_terminal(run):
    _, _, done = run
    assert "\x1b[2J" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr


def test_every_file_gives_the_names_back(run):
    folder = run[0] / "run"
    assert list(load(folder / "config.yaml").mixture.datasets) == NAMES
    records = [json.loads(line) for line in (folder / "balance.jsonl").read_text(encoding="utf-8").split("\n") if line]
    assert len(records) == 3
    assert all(list(record["global"]) == NAMES for record in records)
    assert list(json.loads((folder / "metrics.json").read_text())["eval"]) == NAMES
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    keys = set().union(*log)
    for name in NAMES:
        assert {f"eval_{name}_loss", f"balance/p/{name}", f"balance/p/{name}/g2"} <= keys
    assert any(f"loss/{name}" in keys for name in NAMES)


def test_scores_in_parquet_keep_the_names(run, hbo, monkeypatch, tmp_path):
    monkeypatch.setenv("HBO_CACHE", str(run[0] / "cache"))
    done = hbo("score", run[0] / "config.yaml", "--output", tmp_path / "scores.parquet")
    assert done.returncode == 0, done.stderr
    assert "\x1b[2J" not in done.stdout
    assert list(dict.fromkeys(pq.read_table(tmp_path / "scores.parquet")["dataset"].to_pylist())) == NAMES


def test_a_run_with_such_names_is_resumed_and_replayed(run, hbo, monkeypatch):
    home = run[0]
    monkeypatch.setenv("HBO_CACHE", str(home / "cache"))
    before = (home / "run" / "balance.jsonl").read_text()
    shutil.rmtree(home / "run" / "checkpoint-4")
    done = hbo("train", home / "config.yaml", "--output", home / "run", "--resume")
    assert done.returncode == 0, done.stderr
    drop = lambda text: [{**json.loads(line), "seconds": 0} for line in text.split("\n") if line]  # noqa: E731
    assert drop((home / "run" / "balance.jsonl").read_text()) == drop(before)
    shown = hbo("replay", home / "run", "--step", "1")
    assert {json.loads(line)["dataset"] for line in shown.stdout.splitlines()} <= set(NAMES)


@pytest.fixture
def browser():
    with chromium.browser() as tab:
        yield tab


@pytest.mark.skipif(not chromium.FOUND, reason="needs chromium and chromedriver")
def test_nothing_of_a_name_runs_in_the_report(run, browser):
    browser.width(1280)
    browser.log("performance")
    browser.show(run[0] / "run" / "report.html")
    assert browser.run("return document.title") == "run: hbo report"
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert (
        browser.run("return [...document.querySelectorAll('script')].some(s => s.textContent.startsWith('alert'))")
        is False
    )
    assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [(run[0] / "run" / "report.html").as_uri()]
    assert not [e for e in events if e["method"] == "Page.javascriptDialogOpening"]
    text = browser.run("return document.body.textContent")
    assert "<script>alert(1)</script>" in text
    assert "7 * 7" in text


@pytest.mark.parametrize("name", ["", "   ", "\n", "\ud800"])
def test_a_name_that_is_no_text_is_refused(tmp_path, name):
    from datasets import Dataset

    from hbo import build_mixture
    from hbo.errors import ConfigError

    with pytest.raises(ConfigError):
        build_mixture({name: Dataset.from_list([{"text": "a"}])}, cache_dir=tmp_path)


def test_a_name_with_half_a_surrogate_is_refused_on_the_terminal(hbo, config):  # noqa: F811
    file = config()
    file.write_text(file.read_text().replace("  datasets:\n", '  datasets:\n    "half \\uD800": a.jsonl\n'))
    refused(hbo("train", file), "unpaired surrogate")


def test_a_name_that_would_share_the_log_keys_of_a_group_is_refused(hbo, config, tmp_path):  # noqa: F811
    rows = write_rows(tmp_path / "c.jsonl", 20)
    refused(hbo("train", config(mixture={"datasets": {"a": rows, "a/g1": rows}})), "'a/g1'", "'a'", "rename")
