import gzip
import importlib.metadata
import json
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from commands import refused
from transformers import AutoModelForCausalLM, AutoTokenizer

from hbo.config.file import load


def test_the_module_is_the_command(config, tmp_path):
    words = [sys.executable, "-m", "hbo", "train", str(config()), "balance.probe=1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    refused(done, "'probes'")


def test_a_run_writes_the_files_of_the_contract(hbo, config, tmp_path):
    file = config()
    done = hbo("train", file)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    records = [json.loads(line) for line in (run / "balance.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 4, 8]
    keys = {"step", "start", "global", "local", "global_reward", "local_reward", "global_reward_se", "local_reward_se"}
    assert all(set(record) == keys | {"drawn", "seconds", "probe_examples"} for record in records)
    sizes = {"a": 57, "b": 19}
    roots = {name: size**0.5 for name, size in sizes.items()}
    for name, root in roots.items():
        assert records[0]["global"][name] == pytest.approx(root / sum(roots.values()), rel=1e-12)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["method"] == "hbo"
    assert metrics["steps"] == 8
    assert metrics["eval"]["a"]["n"] == 3
    assert metrics["eval"]["b"]["n"] == 1
    nll = [metrics["eval"][name]["nll"] for name in "ab"]
    assert metrics["macro_nll"] == pytest.approx(sum(nll) / 2)
    ratios = [metrics["eval"][name]["nll"] / metrics["eval_before"][name]["nll"] for name in "ab"]
    assert metrics["relative_nll"] == pytest.approx(sum(ratios) / 2)
    assert metrics["macro_nll"] < sum(metrics["eval_before"][name]["nll"] for name in "ab") / 2
    AutoModelForCausalLM.from_pretrained(run / "model")
    AutoTokenizer.from_pretrained(run / "model")
    assert (run / "checkpoint-8").is_dir()
    groups = json.loads((run / "mixture.json").read_text())["datasets"]
    assert {name: [group["rows"] for group in groups[name]["groups"]] for name in "ab"} == metrics["sizes"]
    assert sum(sum(taken) for taken in metrics["drawn"].values()) == 8 * 4
    assert all(group["low"] <= group["examples"][0]["score"] <= group["high"] for group in groups["a"]["groups"])
    assert groups["a"]["held_out"] == 3
    assert "<html" in (run / "report.html").read_text()
    assert f"| {metrics['macro_nll']:.3f} |" in (run / "model" / "README.md").read_text()
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved["mixture"]["temperature"] == 2.0

    # The same folder again is refused, and resuming a finished run changes nothing.
    refused(hbo("train", file), "holds another run", "--resume", "--overwrite")
    before = (run / "balance.jsonl").read_text(), metrics["eval"]
    assert hbo("train", file, "--resume").returncode == 0
    assert (run / "balance.jsonl").read_text() == before[0]
    assert json.loads((run / "metrics.json").read_text())["eval"] == before[1]

    # Draws being pure, a step's rows can be printed without training.
    lines = [json.loads(line) for line in hbo("replay", run, "--step", "3").stdout.splitlines()]
    assert len(lines) == 4
    assert {line["dataset"] for line in lines} <= {"a", "b"}
    assert all(line["prompt"][0]["role"] == "user" for line in lines)
    assert hbo("report", run, "--output", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and 'id="figures"' in page
    assert 20_000 < len(page) < 1_000_000  # no library of charts is in it


@pytest.mark.parametrize("loss", ["nll", "dft", None])
def test_the_log_has_losses_of_datasets_or_the_run_says_that_it_has_not(hbo, config, tmp_path, loss):
    train = {"max_steps": 2, "save_strategy": "no", "logging_steps": 1} | ({"loss_type": loss} if loss else {})
    done = hbo("train", config(difficulty={"groups": 1}, balance={"method": "uniform"}, train=train))
    assert done.returncode == 0, done.stderr
    is_there = '"loss/a"' in (tmp_path / "run" / "log.jsonl").read_text()
    assert is_there is ("the log has no loss/<dataset>" not in " ".join((done.stdout + done.stderr).split()))
    assert is_there or loss != "nll"


def test_a_checkout_that_is_not_installed_runs(hbo, config, tmp_path, monkeypatch):
    known = importlib.metadata.version

    def version(name):
        if name == "hbo":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr("hbo.run.finish.version", version)
    done = hbo("train", config())
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["environment"]["hbo"]


def test_scores_are_one_row_per_example_and_made_once(hbo, config, tmp_path):
    file = config()
    first = hbo("score", file, "--output", tmp_path / "scores.parquet")
    assert first.returncode == 0, first.stderr
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column_names == ["dataset", "row", "ifd", "perplexity", "perplexity_alone", "loss", "tokens"]
    assert table.num_rows == 80
    row = table.to_pylist()[7]
    assert row["ifd"] == pytest.approx(row["perplexity"] / row["perplexity_alone"], rel=1e-4)
    again = hbo("score", file, "--output", tmp_path / "again.parquet")
    assert "read from the cache" in again.stdout
    assert pq.read_table(tmp_path / "again.parquet").equals(table)


def test_lora_writes_an_adapter(hbo, config, tmp_path):
    done = hbo("train", config(lora={"r": 2, "target_modules": ["q_proj", "v_proj"]}))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").is_file()
    assert "library_name: peft" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_without_a_command_the_help_is_shown_as_it_is(hbo):
    done = hbo()
    assert done.returncode == 0
    assert done.stdout.count("\n") > 10
    assert "replay" in done.stdout
    assert "error" not in done.stderr


def test_the_plan_shows_the_prior_with_its_weights(hbo, config, write_rows):
    data = {"a": {"path": str(write_rows("a", 60)), "weight": 1}, "b": {"path": str(write_rows("b", 20)), "weight": 3}}
    done = hbo("check", config(mixture={"datasets": data}))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("b ")]
    assert "75.0%" in line, done.stdout


def test_the_check_finds_rows_that_are_held_out_and_trained_on(hbo, config, tmp_path):
    files = {}
    for name in "ab":
        rows = [{"prompt": f"{name} {i // 2}?", "completion": "yes"} for i in range(40)]
        (tmp_path / f"twice-{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files[name] = str(tmp_path / f"twice-{name}.jsonl")
    done = hbo("check", config(mixture={"datasets": files, "eval_fraction": 0.1}))
    assert done.returncode == 0, done.stderr
    assert "tokens: median  longest" in done.stdout
    assert "2 warnings:" in done.stdout
    assert "dataset 'a': 4 held-out rows are trained on as well" in done.stdout


def test_a_strategy_of_no_means_no(hbo, config, tmp_path):
    done = hbo("train", config(), "train.save_strategy=no", "train.max_steps=4")
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_dry_run_writes_nothing(hbo, config, tmp_path):
    done = hbo("train", config(), "--dry-run", "balance.update_every=2")
    assert done.returncode == 0, done.stderr
    assert "4 updates" in done.stdout
    assert not (tmp_path / "run").exists()


def test_a_packed_run_resumes_to_the_bit_and_replays_its_examples(hbo, config, tmp_path):
    train = {"packing": True, "max_length": 96, "per_device_train_batch_size": 2}
    file = config(train=train)
    plan = hbo("train", file, "--dry-run")
    assert "8 steps of 2 packed rows" in plan.stdout
    assert hbo("train", file).returncode == 0
    run = tmp_path / "run"
    whole = (run / "model" / "model.safetensors").read_bytes()
    balance, tokens = (run / "balance.jsonl").read_text(), json.loads((run / "metrics.json").read_text())["tokens"]
    first = json.loads(balance.splitlines()[0])
    assert first["global"]["a"] == pytest.approx(57**0.5 / (57**0.5 + 19**0.5), rel=1e-12)  # as without packing
    assert all(held > 1 for held in first["examples_per_row"]["a"])
    shown = [[json.loads(line) for line in hbo("replay", run, "--step", step).stdout.splitlines()] for step in (1, 8)]
    for examples in shown:
        assert len(examples) > 2
        assert len({(example["dataset"], example["group"]) for example in examples}) <= 2
        assert len({(example["dataset"], example["row"]) for example in examples}) == len(examples)

    shutil.rmtree(run / "checkpoint-8")
    (run / "trainer_state.json").unlink()
    refused(hbo("train", file, "train.packing=false", "--resume"), "train.packing")
    again = hbo("train", file, "--resume")
    assert again.returncode == 0, again.stderr
    assert (run / "model" / "model.safetensors").read_bytes() == whole
    assert json.loads((run / "metrics.json").read_text())["tokens"] == tokens
    probabilities = [json.loads(line)["local"] for line in balance.splitlines()]
    assert [json.loads(line)["local"] for line in (run / "balance.jsonl").read_text().splitlines()] == probabilities


def test_a_static_method_measures_nothing(hbo, config, tmp_path):
    done = hbo("train", config(balance={"method": "uniform"}, mixture={"temperature": None}))
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "balance.jsonl").read_text().splitlines()]
    assert len(records) == 1
    assert records[0]["global"] == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("balance.probe=3", ["balance.probe", "'probes'"]),
        ("train.learning_rat=1", ["train.learning_rat", "'learning_rate'"]),
        ("lora.rank=4", ["lora.rank"]),
        ("mixture.temperature=0", ["mixture.temperature"]),
        ("difficulty.groups=0", ["difficulty.groups"]),
        ("difficulty.groups=90", ["dataset 'b' 19 rows", "ask for at most"]),
        ("balance.min_probability=0.9", ["min_probability"]),
        ("model=/no/such/folder", ["/no/such/folder"]),
        ("mixture.datasets.a.path=/no/such.jsonl", ["/no/such.jsonl"]),
        ("balance.global_reward=nothing", ["global_reward", "gradient_norm"]),
        ("train.max_length=3", ["max_length"]),
        ("train={packing: true, packing_strategy: wrapped}", ["packing_strategy 'wrapped'"]),
        ("train={packing: true, max_length: null}", ["packing needs max_length"]),
        ("train.accelerator_config={dispatch_batches: true}", ["dispatch_batches", "leave it out"]),
        ("nonsense", ["key=value"]),
    ],
)
def test_bad_settings_are_one_sentence(hbo, config, tmp_path, override, fragments):
    refused(hbo("train", config(), override), *fragments)


def test_bad_files_are_one_sentence_with_the_line(hbo, config, tmp_path):
    good = '{"prompt": "a", "completion": "b"}\n'
    cases = {
        "broken.jsonl": (good + "{not json\n").encode(),
        "latin.jsonl": good.encode() + '{"prompt": "é", "completion": "b"}\n'.encode("latin-1"),
        "empty.jsonl": b"",
        "shape.jsonl": b'{"left": "a", "right": "b"}\n',
        "cut.jsonl.gz": gzip.compress(good.encode() * 1000)[:60],
    }
    expected = {
        "broken.jsonl": ["line 2"],
        "latin.jsonl": ["UTF-8"],
        "empty.jsonl": ["'a'"],
        "shape.jsonl": ["left", "right", "messages"],
        "cut.jsonl.gz": ["cut.jsonl.gz"],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        refused(hbo("train", config(), f"mixture.datasets.a.path={tmp_path / name}"), *expected[name])
    assert not (tmp_path / "run" / "balance.jsonl").exists()


def test_a_folder_with_other_files_is_never_cleared(hbo, config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    refused(hbo("train", config(), "--overwrite"), "thesis.tex")
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"


def test_an_interrupted_demo_goes_on_with_resume(hbo, config, tmp_path, monkeypatch):
    run = load(config(difficulty={"groups": 1}, train={"max_steps": 4, "save_steps": 2}))
    monkeypatch.setattr("hbo.demo.demo_config", lambda *_, **__: run)
    assert hbo("demo").returncode == 0
    folder = tmp_path / "run"
    finished = json.loads((folder / "metrics.json").read_text())
    for path in (folder / "checkpoint-4", folder / "model"):
        shutil.rmtree(path)
    (folder / "metrics.json").unlink()
    done = hbo("demo", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"going on from {folder / 'checkpoint-2'}" in done.stderr + done.stdout
    assert json.loads((folder / "metrics.json").read_text())["eval"] == finished["eval"]


def test_what_is_not_read_and_not_rendered_is_said(hbo, config, tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{i}?"},
                {"role": "assistant", "content": "one", "weight": 0},
                {"role": "user", "content": "no"},
                {"role": "assistant", "content": "two", "reasoning_content": "three is wrong"},
            ],
            "topic": "x",
        }
        for i in range(20)
    ]
    file = tmp_path / "thoughts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = config(
        mixture={"datasets": {"a": str(file)}}, difficulty={"groups": 1}, train={"max_steps": 2, "save_strategy": "no"}
    )
    cut = "dataset 'a': part of 20 of 20 answers is not in the tokens: the chat template cuts it"
    unread = (
        "dataset 'a': columns that are not read: topic (20 rows); `columns: {system: NAME}` puts one before the answer"
    )
    for words in (("check", settings), ("check", settings), ("train", settings, "--dry-run")):
        done = hbo(*words)
        assert done.returncode == 0, done.stderr
        assert cut in done.stdout and unread in done.stdout
    assert unread in hbo("train", settings, "--dry-run", "model=owner/model").stdout
    done = hbo("train", settings)
    assert done.returncode == 0, done.stderr
    assert f"warning: {cut}" in done.stderr
    example = json.loads((tmp_path / "run" / "mixture.json").read_text())["datasets"]["a"]["groups"][0]["examples"][0]
    assert example["response"] == "three is wrong\ntwo"
    assert example["prompt"].endswith("?\nassistant: one\nuser: no")
