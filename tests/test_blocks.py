"""Promises about the code in the prose: Python runs, YAML is a configuration, commands are the command line's own."""

import contextlib
import doctest
import importlib
import importlib.util
import json
import pkgutil
import re
import tomllib

import pytest
import torch
import typer
import yaml
from peft import LoraConfig, get_peft_model
from prose import PAGES, ROOT, blocks, blocks_of, called, command_lines
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import hbo
from hbo import METHODS, cli
from hbo.benchmarks.tasks import tasks_named
from hbo.compare.grid import cells, seed_numbers
from hbo.config.file import load, parse
from hbo.demo import SETUPS
from hbo.errors import HBOError
from hbo.integrations.section import section_of
from hbo.run.arguments import adapter, training_arguments

# What the pages call by these names lies in the folder in which their code runs: a name that is a folder's goes before
# the Hub's, so a random model stands in for the real one, and a few rows for a data set.
MODELS = ("Qwen/Qwen2.5-0.5B",)
FILES = {
    "math.jsonl": ("prompt", "completion", 16),
    "chat.jsonl": ("prompt", "completion", 8),
    "data/support.jsonl": ("question", "answer", 2),
}
ADAPTERS = {"runs/lora/model": "Qwen/Qwen2.5-0.5B"}
# And these are made smaller, so that every page takes seconds.
SMALLER = {
    r"max_steps=2000": "max_steps=2",
    r"update_every=200": "update_every=1",
    r'SFTConfig\("out", ': 'SFTConfig("out", use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, dataloader_pin_memory=False, ',
    r'TrainingArguments\("out", ': 'TrainingArguments("out", use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False, ',
}
FSDP = "a configuration of accelerate, compared with examples/distributed/fsdp2.yaml"
# page → reasons why blocks of it aren't run: each is a gap that somebody chose
UNRUN = {
    "docs/guides/eight-gpus.md": [FSDP],
    "docs/integrations/unsloth.md": ["unsloth isn't where these tests run; make test-integrations trains with it"],
    "docs/integrations/llama-factory.md": [
        "LLaMA-Factory pins older libraries than these tests have; make test-integrations runs it"
    ],
}
SHELL = ("sh", "bash", "console")
FOREIGN = {
    "axolotl": "trains; the section in its YAML is looked up",
    "docker": "builds and runs images",
    "echo": "writes a file of one line",
    "hf": "logs in to the Hub",
    "pip": "installs a package; its extra is looked up",
    "swift": "ms-swift's own command; make test-integrations runs it",
    ".venv/bin/pre-commit": "writes a hook into the checkout",
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder that holds what the pages speak of."""
    folder = tmp_path_factory.mktemp("desk")
    for name in MODELS:
        save_model(folder / name)
    for name, (ask, answer, count) in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows = [{ask: f"what is {i} plus {i}", answer: f"{2 * i}"} for i in range(count)]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, base in ADAPTERS.items():
        model = LlamaForCausalLM.from_pretrained(folder / base)
        get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder / name)
    (readme,) = blocks_in("README.md", "yaml")
    lora, qlora = blocks_in("docs/guides/lora.md", "yaml")
    assert "load_in_4bit" in qlora.text
    for name, text in (("run.yaml", readme), ("config.yaml", readme), ("lora.yaml", lora)):
        (folder / name).write_text(text.text, encoding="utf-8")
    return folder


def blocks_in(page, language):
    return [block for block in blocks(language) if block.page == page]


def save_model(folder):
    """A random Llama whose tokenizer has a chat template."""
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
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def smaller(code):
    for pattern, less in SMALLER.items():
        code = re.sub(pattern, less, code)
    return code


@pytest.fixture
def workplace(desk, tmp_path, monkeypatch):
    """A folder of one's own with everything of the desk in it."""
    for each in desk.iterdir():
        if each.name != "cache":
            (tmp_path / each.name).symlink_to(each)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HBO_CACHE", str(desk / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", desk / "cache")
    return tmp_path


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")}))
def test_python_runs_from_the_top_of_a_page_to_its_end(page, workplace):
    space = {}
    for block in blocks_in(page, "python"):
        exec(compile(smaller(block.text), str(block), "exec"), space)
    if page == "README.md":
        lines = [json.loads(line) for line in (workplace / "out" / "balance.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [0, 1, 2]
        assert {len(levels) for levels in lines[-1]["local"].values()} == {4}
        assert lines[-1]["global"] != lines[0]["global"]


def test_the_notebook_runs_from_top_to_bottom(workplace):
    cells = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    space = {}
    for number, cell in enumerate(cell for cell in cells if cell["cell_type"] == "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        code = smaller("".join(cell["source"]))
        exec(compile(code, f"cell {number}", "exec"), space)
    assert (workplace / "out" / "report.html").is_file()


def test_the_example_for_trl_is_ten_lines():
    (block,) = blocks_in("README.md", "python")
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 10


def test_what_is_made_smaller_is_still_there():
    code = "".join(block.text for block in blocks("python"))
    assert [pattern for pattern in SMALLER if not re.search(pattern, code)] == []
    assert [name for name in (*MODELS, *FILES, *ADAPTERS) if f'"{name}"' not in code] == []


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_configuration(block):
    data = yaml.safe_load(block.text)
    if "hbo" in data:  # another program's, with a section of ours
        section_of(data["hbo"])
        return
    if "model" not in data:  # a part of a file
        data = {"model": "m", "mixture": {"datasets": {"a": "a.jsonl"}}} | data
    config = parse({"output": "runs/a"} | data)
    training_arguments(config)
    adapter(config)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_parses(block):
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("bibtex"), ids=str)
def test_the_citation_is_that_of_the_citation_file(block):
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"title\s*=\s*\{(.*?)\}", block.text)[1] in citation
    assert re.search(r"arXiv:(\S+?)\}", block.text)[1] in citation


@pytest.mark.parametrize("block", blocks(*SHELL), ids=str)
def test_commands_are_understood(block, workplace):
    for words in command_lines(block.text):
        understand(words, workplace)


def understand(words, folder):
    """Fails unless the program, its options and its configuration are there."""
    if "--config_file" in words:
        assert (ROOT / words[words.index("--config_file") + 1]).is_file(), words
    for setting in (word for word in words if word.startswith("HBO={")):
        section_of(yaml.safe_load(setting[4:]))
    program, rest = called(words)
    if program == "hbo":
        understand_hbo(rest, folder)
    elif program == "make":
        targets = [word for word in rest if "=" not in word]
        known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert targets and set(targets) <= set(known), words
    elif program.startswith("hbo.integrations."):
        assert importlib.util.find_spec(program), words
        section_of(
            {key[4:]: yaml.safe_load(value) for key, _, value in (w.partition("=") for w in rest) if key[:4] == "hbo."}
        )
    elif program == "python":
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        for option in (word for word in rest if word.startswith("--")):
            assert f'"{option}"' in source, words
    else:
        assert program in FOREIGN, f"{words}: the test knows no program of this name"
        for extra in re.findall(r"hbo\[(\w+)\]", " ".join(rest)):
            assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def understand_hbo(words, folder):
    commands = typer.main.get_command(cli.app).commands
    assert words[0] in commands, words
    given = commands[words[0]].make_context(words[0], list(words[1:])).params
    if "config" not in given:
        assert given.get("method", "hbo") in METHODS and given.get("setup", "multitask") in SETUPS, words
        if words[0] == "eval":
            assert tasks_named(given["tasks"])
        return
    with contextlib.chdir(folder if (folder / given["config"]).exists() else ROOT):
        if words[0] == "compare":
            assert cells(
                given["config"],
                (given["methods"] or "uniform").split(","),
                seed_numbers(given["seeds"]),
                given["vary"] or (),
                given["output"],
            )
        else:
            load(given["config"], given["overrides"] or ())


SPANS = sorted({span for page in PAGES for span in re.findall(r"`(hbo [a-z][^`\n]*)`", page.read_text("utf-8"))})


@pytest.mark.parametrize("span", SPANS)
def test_commands_inside_sentences_exist_with_their_options(span):
    known = typer.main.get_command(cli.app).commands
    ((_, name, *words),) = command_lines(span.replace("…", "").replace("[", "").replace("]", ""))
    assert name in known
    options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


def test_no_block_is_passed_over_in_silence():
    tried = {"python", "yaml", "json", "bibtex", *SHELL, "text"}  # text is what a program prints, so no code
    assert [str(block) for block in blocks() if block.language not in tried and block.unrun is None] == []
    found = {}
    for block in blocks():
        if block.unrun is not None:
            found.setdefault(block.page, []).append(block.unrun)
    assert found == UNRUN


def test_the_fsdp_file_in_the_guide_is_the_example_for_eight():
    (block,) = [block for block in blocks() if block.unrun == FSDP]
    example = yaml.safe_load((ROOT / "examples" / "distributed" / "fsdp2.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(block.text) == example | {"num_processes": 8}


def test_a_block_that_is_not_run_says_why():
    page = "<!-- not run: needs two hosts -->\n```sh\nssh b\n```\n\n- a\n\n    ```python\n    x = 1\n    ```\n\n````text\n```\n````\n"
    found = blocks_of("page.md", page)
    assert [(block.line, block.language, block.unrun) for block in found] == [
        (2, "sh", "needs two hosts"), (8, "python", None), (12, "text", None)
    ]  # fmt: skip
    assert found[1].text == "x = 1\n"


@pytest.mark.parametrize("text", ["```python\n1 +\n", "```sh\nhbo check\n```\n```\n", "~~~sh\nhbo tain\n~~~\n"])
def test_a_fence_that_hides_a_block_is_noticed(text):
    with pytest.raises(AssertionError, match="never closed"):
        blocks_of("page.md", text)


@pytest.mark.parametrize(
    "line",
    [
        "hbo tain run.yaml",
        "hbo train",
        "hbo train run.yaml --outptu x",
        "hbo train run.yaml balance.probs=8",
        "hbo compare run.yaml --methods hbo2 --output x",
        "hbo demo --setup three",
        "hbo eval model --tasks",
        "make dmeo",
        "make",
        "python examples/dpo.py --modle x",
        "python examples/none.py",
        "torchrun --nproc_per_node 2 -m hbo trian run.yaml",
        "accelerate launch --config_file none.yaml -m hbo train run.yaml",
        "pip install 'hbo[evil]'",
        "curl https://example.org",
    ],
)
def test_a_wrong_command_is_noticed(line, workplace):
    ((words),) = command_lines(line)
    with pytest.raises((AssertionError, typer._click.exceptions.ClickException, hbo.errors.HBOError, OSError)):
        understand(words, workplace)


PROGRAMS = ("hbo.__main__", "hbo.demo.cldr_program")  # not to be imported
TRAINERS = ("axolotl", "llamafactory", "swift")  # whose integrations are imported where they are, not here


@pytest.mark.parametrize(
    "module", [each.name for each in pkgutil.walk_packages(hbo.__path__, "hbo.") if each.name not in PROGRAMS]
)
def test_examples_in_docstrings_run(module):
    try:
        found = importlib.import_module(module)
    except (ModuleNotFoundError, HBOError) as missing:
        if not any(trainer in str(missing) for trainer in TRAINERS):
            raise
        pytest.skip(f"{missing}; make test-integrations imports it")
    assert doctest.testmod(found).failed == 0
