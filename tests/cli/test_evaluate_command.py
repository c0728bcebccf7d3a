"""`hbo eval` as a user has it, with tiny random models."""

import json
import shutil
import sys

import pytest
from byte_models import byte_model, byte_tokenizer
from commands import refused
from local_rows import write_rows, xcopa, xnli
from peft import PeftModel
from tiny_runs import cache, config, model_folder, tokenizer  # noqa: F401
from transformers import LlamaForCausalLM


@pytest.fixture
def rows(tmp_path):
    """Local rows of xcopa, enough for scores to differ."""
    folder = tmp_path / "rows"
    for language in ("sw", "zh"):
        some = [xcopa(f"Mtu {i} alilia.", "cause", i % 2, f"Alisema {i}.", f"Aliona {3 * i}.") for i in range(20)]
        write_rows(folder / f"xcopa/{language}.jsonl", *some)
    return folder


@pytest.fixture
def run(tmp_path, model_folder):  # noqa: F811
    """A finished run, as far as evaluation sees it."""
    folder = tmp_path / "run"
    shutil.copytree(model_folder, folder / "model")
    text = f"model: {model_folder}\nmixture:\n  datasets:\n    a: a.jsonl\n"
    (folder / "config.yaml").write_text(text)
    line = {"step": 0, "start": 0, "global": {"a": 1.0}, "local": {"a": [1.0]}, "drawn": {"a": [0]}, "seconds": 0}
    (folder / "balance.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_run_gets_eval_json_and_a_section_on_its_page(hbo, run, rows):
    done = hbo("eval", run, "--tasks", "xcopa", "--data", rows)
    assert done.returncode == 0, done.stderr
    found = read(run / "eval.json")
    languages = found["tasks"]["xcopa"]["languages"]
    assert set(languages) == {"sw", "zh"}
    assert found["tasks"]["xcopa"]["accuracy"] == pytest.approx(
        (languages["sw"]["accuracy"] + languages["zh"]["accuracy"]) / 2
    )
    assert found["settings"] == {
        "num_fewshot": 0, "chat_template": False, "limit": None, "data": str(rows), "dtype": "float32"
    }  # fmt: skip
    assert found["averages"] == {}
    assert "xcopa" in done.stdout
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="evaluation"' in page and 'href="#evaluation"' in page


def test_a_page_without_evaluation_has_no_section(hbo, run):
    hbo("report", run)
    assert 'id="evaluation"' not in (run / "report.html").read_text(encoding="utf-8").partition("<script")[0]


def test_tasks_are_added_and_kept(hbo, run, rows):
    hbo("eval", run, "--tasks", "xcopa", "--data", rows)
    first = read(run / "eval.json")["tasks"]["xcopa"]
    for language in ("en", "sw"):
        write_rows(rows / f"xnli/{language}.jsonl", xnli("Somebody eats", 0), xnli("Nobody eats", 2))
    done = hbo("eval", run, "--tasks", "xcopa,xnli", "--data", rows)
    assert "xcopa: already in" in done.stderr and "--overwrite to start the file again" in done.stderr
    assert (
        "task xnli:" in done.stderr and "no rows in ar, de, es, hi, ru, zh; its mean is over en, sw only" in done.stderr
    )
    found = read(run / "eval.json")["tasks"]
    assert found["xcopa"] == first
    assert set(found["xnli"]["languages"]) == {"en", "sw"}


def test_the_chat_template_is_recorded_and_not_mixed(hbo, run, rows):
    hbo("eval", run, "--tasks", "xcopa", "--data", rows)
    command = ("eval", run, "--tasks", "xcopa", "--data", rows, "--chat-template")
    refused(hbo(*command), "chat_template false, not true", "--overwrite")
    assert hbo(*command, "--overwrite").returncode == 0
    assert read(run / "eval.json")["settings"]["chat_template"] is True


def test_a_lora_run_scores_as_if_merged(hbo, config, rows, model_folder, tmp_path):  # noqa: F811
    run, merged = tmp_path / "run", tmp_path / "merged"
    lora = {"r": 4, "target_modules": "all-linear"}
    assert hbo("train", config(lora=lora, train={"learning_rate": 0.1, "save_strategy": "no"})).returncode == 0
    base = LlamaForCausalLM.from_pretrained(model_folder)
    PeftModel.from_pretrained(base, run / "model").merge_and_unload().save_pretrained(merged)
    for file in model_folder.glob("*token*"):
        shutil.copy(file, merged)
    scores = {}
    for name in (run, run / "model", merged, model_folder):
        out = tmp_path / f"{len(scores)}.json"
        done = hbo("eval", name, "--tasks", "xcopa", "--data", rows, "--output", out)
        assert done.returncode == 0, done.stderr
        scores[name] = read(out)["tasks"]["xcopa"]["languages"]
    assert read(tmp_path / "0.json")["base_model"] == str(model_folder)
    assert scores[run] == scores[run / "model"] == scores[merged] != scores[model_folder]


def test_the_limit_counts_rows(hbo, model_folder, rows, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert hbo("eval", model_folder, "--tasks", "xcopa", "--data", rows, "--limit", 3).returncode == 0
    assert read(tmp_path / "eval.json")["tasks"]["xcopa"]["n"] == 6


@pytest.mark.slow  # all of lm-eval's tasks take half a minute to read
def test_a_task_that_only_lm_eval_knows_runs_on_its_own_rows(hbo, model_folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    row = {"question": "What is wet?", "distractor1": "Fire", "distractor2": "Sand", "distractor3": "Salt"}
    for split in ("train", "validation", "test"):  # a folder of the dataset's name is read before the Hub is asked
        write_rows(tmp_path / f"allenai/sciq/{split}.jsonl", {**row, "correct_answer": "Rain", "support": "It rains."})
    done = hbo("eval", model_folder, "--tasks", "sciq")
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "eval.json")["tasks"]["sciq"]
    assert (found["metric"], found["n"], found["languages"]) == ("acc,none", 1, {})
    refused(hbo("eval", model_folder, "--tasks", "xcopa_xx"), "neither hbo nor lm-eval has a task 'xcopa_xx'")


@pytest.fixture
def with_code(run, tmp_path, monkeypatch):
    """`run`, whose model works only with the code it brings."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", sys.path.copy())
    code = {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Model"}
    settings = read(run / "model" / "config.json") | {"model_type": "mine", "auto_map": code}
    (run / "model" / "config.json").write_text(json.dumps(settings))
    (run / "model" / "mine.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Mine(LlamaConfig):\n    model_type = 'mine'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Mine\n"
    )
    return run


def test_a_models_code_runs_if_the_command_or_its_run_says_so(hbo, with_code, rows, tmp_path):
    command = ("eval", with_code / "model", "--tasks", "xcopa", "--data", rows, "--output", tmp_path / "model.json")
    refused(hbo(*command), "can't be loaded")
    done = hbo(*command, "--trust-remote-code")
    assert done.returncode == 0, done.stderr
    refused(hbo("eval", with_code, "--tasks", "xcopa", "--data", rows), "can't be loaded")
    with (with_code / "config.yaml").open("a") as file:
        file.write("train: {trust_remote_code: true}\n")
    done = hbo("eval", with_code, "--tasks", "xcopa", "--data", rows)
    assert done.returncode == 0, done.stderr


def test_bad_input_is_one_sentence(hbo, model_folder, run, rows, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    some = ("--tasks", "xcopa", "--data", rows)
    refused(hbo("eval", model_folder, "--tasks", "multilingal"), "did you mean 'multilingual'")
    refused(hbo("eval", model_folder, "--tasks", "xcopa", "--data", "nowhere"), "nowhere: no such folder")
    refused(hbo("eval", "./nowhere", *some), "no such file or folder")
    refused(hbo("eval", "a" * 5000, *some), "can't be looked up")
    refused(hbo("eval", model_folder, *some, "--limit", 0), "--limit is 0")
    refused(hbo("eval", model_folder, *some, "--batch-size", 0), "--batch-size is 0")
    refused(hbo("eval", model_folder, *some, "--dtype", "int8"), "choose one of auto, float32")
    refused(hbo("eval", model_folder, *some, "--output", rows), "it is a folder")
    shutil.rmtree(run / "model")
    refused(hbo("eval", run, *some), "has written no model yet")
    refused(hbo("compare", "x.yaml", "--methods", "hbo", "--output", "g", "--limit", 3), "x.yaml: no such file")
    write_rows(
        rows / "mmlu.jsonl", {"question": "?", "subject": "anatomi", "choices": ["a", "b", "c", "d"], "answer": 0}
    )
    refused(
        hbo("eval", model_folder, "--tasks", "mmlu", "--data", rows), "not a subject of mmlu (did you mean 'anatomy'?)"
    )


def test_without_lm_eval_it_says_what_to_install(hbo, model_folder, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    refused(hbo("eval", model_folder, "--tasks", "xcopa"), "pip install 'hbo[eval]'")


def test_without_a_chat_template_the_option_is_refused(hbo, run, rows):
    (run / "model" / "chat_template.jinja").unlink()
    refused(
        hbo("eval", run, "--tasks", "xcopa", "--data", rows, "--chat-template"),
        "has no chat template; leave the option out",
    )


def test_a_token_without_an_embedding_is_one_sentence(hbo, rows, tmp_path):
    model = byte_model(tmp_path / "model", vocab_size=258)
    grown = byte_tokenizer()
    grown.add_tokens(["alilia"])
    grown.save_pretrained(model)
    done = hbo("eval", model, "--tasks", "xcopa", "--data", rows, "--output", tmp_path / "eval.json")
    refused(done, "a row of the task holds the token 'alilia' with id 258", "258 rows")


def test_prompts_that_the_model_has_no_positions_for_are_counted(hbo, rows, tmp_path):
    model = byte_model(tmp_path / "model", "gpt2", n_positions=24)
    done = hbo("eval", model, "--tasks", "xcopa", "--data", rows, "--output", tmp_path / "eval.json")
    assert done.returncode == 0, done.stderr
    assert "prompts of the task don't fit into the model's 24 positions" in done.stderr
    model = byte_model(tmp_path / "less", "gpt2", n_positions=8)
    done = hbo("eval", model, "--tasks", "xcopa", "--data", rows, "--output", tmp_path / "eval.json", "--overwrite")
    refused(done, "an answer of the task has", "8 positions only")
