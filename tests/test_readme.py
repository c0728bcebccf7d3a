"""Promises about the prose: its code runs, its configurations parse, its commands, keys and links exist."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import typer
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig

from hbo import cli, config_file
from hbo.actor_config import ActorConfig
from hbo.config import HBOConfig, RunConfig
from hbo.mixture_config import DatasetConfig, DifficultyConfig, MixtureConfig

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
MODEL = "Qwen/Qwen2.5-0.5B"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def blocks(language, pages=PAGES):
    """(where, text) of every fenced block in `language`."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in fence.finditer(text):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT).as_posix()}:{line}"))
    return found


def commands():
    """Every line of a console block and every code span of a page that calls hbo."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [
            line
            for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
            for line in block.splitlines()
        ]
        lines += re.findall(r"`(hbo [a-z][^`\n]*)`", text)
        found += [pytest.param(line, id=f"{page.name}: {line}") for line in lines if re.match(r"hbo [a-z]", line)]
    return found


@pytest.fixture
def tiny_model(tmp_path):
    """The folder of a random Llama whose tokenizer has a chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["one two three"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        eos_token_id=1, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(file, count):
    rows = [{"prompt": f"what is {i} plus {i}", "completion": f"{2 * i}"} for i in range(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def substituted(code, replacements):
    for old, new in replacements.items():
        assert old in code, f"the example no longer holds {old!r}: change this test with it"
        code = code.replace(old, new)
    return code


def test_the_example_for_trl_runs_and_updates(tmp_path, monkeypatch, tiny_model):
    (example,) = blocks("python", [ROOT / "README.md"])
    (code,) = example.values
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    small = (
        'SFTConfig("out", use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, dataloader_pin_memory=False, '
    )
    code = substituted(
        code, {MODEL: str(tiny_model), 'SFTConfig("out", ': small, "max_steps=2000": "max_steps=2", "=200": "=1"}
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    write_rows(tmp_path / "math.jsonl", 16)
    write_rows(tmp_path / "chat.jsonl", 8)
    exec(compile(code, "README.md", "exec"), {})
    lines = [json.loads(line) for line in (tmp_path / "out" / "balance.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert {len(levels) for levels in lines[-1]["local"].values()} == {4}
    assert lines[-1]["global"] != lines[0]["global"]


@pytest.mark.parametrize("code", blocks("python", [page for page in PAGES if page.name != "README.md"]))
def test_python_in_the_docs_runs(code):
    exec(compile(code, "docs", "exec"), {})


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_parses(text):
    data = yaml.safe_load(text)
    if "model" not in data:  # a part of a file
        data = {"model": "m", "mixture": {"datasets": {"a": "a.jsonl"}}} | data
    config = config_file.parse(data)
    assert set(config.train) <= set(SFTConfig.__dataclass_fields__)


@pytest.mark.parametrize("command", commands())
def test_commands_exist_with_their_options(command):
    known = typer.main.get_command(cli.app).commands
    _, name, *words = shlex.split(command.replace("…", "").replace("[", "").replace("]", ""), comments=True)
    assert name in known
    options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("section", [RunConfig, MixtureConfig, DatasetConfig, DifficultyConfig, HBOConfig, ActorConfig])
def test_every_key_is_documented_with_its_default(section):
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", chapter(section), re.MULTILINE))
    documented = {key: default.strip("` ") for key, default in rows.items()}
    expected = {key: shown_default(field) for key, field in section.model_fields.items()}
    if section is HBOConfig:
        del expected["temperature"]  # written under `mixture:`
        expected |= {"global": "true", "local": "true"}
    assert documented == expected


def chapter(section):
    titles = {
        RunConfig: "Top level", MixtureConfig: "mixture", DatasetConfig: "One dataset",
        DifficultyConfig: "difficulty", HBOConfig: "balance", ActorConfig: "balance.actor",
    }  # fmt: skip
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^##+ `?{re.escape(titles[section])}`?:?\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    return found


def shown_default(field):
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return "see below"
    return f"{value:.1e}".replace("e-0", "e-") if isinstance(value, float) and 0 < value < 1e-3 else str(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [ROOT / "docs" / "paper.md"], ids=lambda page: page.name)
def test_every_name_in_the_table_of_equations_exists(page):
    import importlib

    for name in re.findall(r"`(hbo(?:\.\w+)+)`", page.read_text(encoding="utf-8")):
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:cut]))
                break
            except ModuleNotFoundError:
                continue
        for part in parts[cut:]:
            found = getattr(found, part)
