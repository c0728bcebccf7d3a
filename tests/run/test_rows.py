"""How `train:` makes the tokens of a run's rows, and what becomes of rows that a template refuses."""

import json

import pytest
import yaml
from byte_models import STRICT, byte_model
from commands import refused
from transformers import AutoConfig, AutoTokenizer

from hbo.config import RunConfig
from hbo.errors import ConfigError, HBOError, ModelError
from hbo.progress import silent
from hbo.run.arguments import training_arguments, typed
from hbo.run.model import find_model
from hbo.run.rows import read_data
from hbo.training.callback import HBOCallback

# The turn's end is whatever the tokenizer's end token is.
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'assistant' else '|' }}{% endfor %}"


START, END = 0, 1  # <|im_start|>, <|im_end|>


IGNORED = -100


@pytest.fixture
def rows_of(tmp_path, model_folder):
    """Tokenizer, and dataset → tokens and labels of its first row, as the keys of `train:` make them."""

    def make(rows, **train):
        for name, row in rows.items():
            (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        run = typed(
            RunConfig(
                model=str(model_folder),
                output=str(tmp_path / "run"),
                mixture={"eval_fraction": 0, "datasets": {name: str(tmp_path / f"{name}.jsonl") for name in rows}},
                difficulty={"groups": 1},
                train={"bf16": False, **train},
            )
        )
        found = find_model(run)
        data = read_data(run, found, training_arguments(run), silent).train
        return found.tokenizer, {row["hbo_dataset"]: (row["input_ids"], row["labels"]) for row in data}

    return make


@pytest.fixture
def template(tmp_path):
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    return str(tmp_path / "own.jinja")


ROW = {"prompt": "one", "completion": "two"}


def test_a_template_of_ones_own_renders_every_row(rows_of, template, tokenizer):
    _, found = rows_of({"a": ROW}, chat_template_path=template)
    asked, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one|", "two"))
    assert found["a"] == ([*asked, *answer, END], [IGNORED] * len(asked) + [*answer, END])


def test_the_template_of_another_tokenizer_comes_with_its_end_token(rows_of, model_folder, tmp_path, tokenizer):
    other = AutoTokenizer.from_pretrained(model_folder)
    other.chat_template, other.eos_token = TEMPLATE, "<|im_start|>"
    other.save_pretrained(tmp_path / "other")  # no model beside it
    asked, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one|", "two"))
    for train, end in ({}, START), ({"eos_token": "<|im_end|>"}, END):
        own, found = rows_of({"a": ROW}, chat_template_path=str(tmp_path / "other"), **train)
        assert (own.chat_template, own.eos_token_id) == (TEMPLATE, end)
        assert found["a"] == ([*asked, *answer, end], [IGNORED] * len(asked) + [*answer, end])


def test_the_end_token_ends_answers_and_plain_text(rows_of, template, tokenizer):
    own, found = rows_of({"a": ROW, "b": {"text": "one two"}}, chat_template_path=template, eos_token="<|im_start|>")
    assert (own.eos_token_id, own.pad_token_id) == (START, END)
    assert found["a"][0][-1] == found["a"][1][-1] == START
    text = tokenizer("one two", add_special_tokens=False)["input_ids"]
    assert found["b"] == ([*text, START], [IGNORED, *text[1:], START])


def test_the_padding_token_is_the_one_that_is_named(rows_of):
    own, _ = rows_of({"a": ROW}, pad_token="a")
    assert (own.pad_token, own.eos_token_id) == ("a", END)


def test_a_row_that_is_too_long_keeps_the_end_that_is_asked_for(rows_of, template, tokenizer):
    row = {"prompt": "one two three four", "completion": "alpha beta gamma"}
    _, whole = rows_of({"a": row}, chat_template_path=template)
    ids, labels = whole["a"]
    length = len(ids) - 1
    _, start = rows_of({"a": row}, chat_template_path=template, max_length=length)
    assert start["a"] == (ids[:length], labels[:length])
    _, end = rows_of({"a": row}, chat_template_path=template, max_length=length, truncation_mode="keep_end")
    assert end["a"] == (ids[-length:], labels[-length:])
    # Nothing stands before the first token that is left, so it is no target.
    _, end = rows_of({"a": row}, chat_template_path=template, max_length=3, truncation_mode="keep_end")
    assert end["a"] == (ids[-3:], [IGNORED, *labels[-2:]])


@pytest.mark.parametrize("key", ["assistant_only_loss", "completion_only_loss"])
def test_answers_alone_are_targets_and_plain_text_has_none(rows_of, key):
    turns = [{"role": role, "content": "one"} for role in ("user", "assistant", "user", "assistant")]
    found = [rows_of({"a": {"messages": turns}}, **train)[1] for train in ({}, {key: True})]
    assert found[0] == found[1]
    with pytest.raises(ConfigError, match=rf"train\.{key} is true, but dataset 'b' is plain text"):
        rows_of({"a": ROW, "b": {"text": "one"}}, **{key: True})


@pytest.mark.parametrize(
    ("train", "error", "words"),
    [
        ({"eos_token": "<end>"}, ModelError, r"train\.eos_token is '<end>', which the tokenizer .* doesn't know"),
        ({"pad_token": "<pad>"}, ModelError, r"train\.pad_token is '<pad>', which the tokenizer .* doesn't know"),
        ({"chat_template_path": "none.jinja"}, ConfigError, r"chat_template_path: none\.jinja can't be read"),
        ({"chat_template_path": "./none"}, ConfigError, r"chat_template_path: model '\./none': no such file"),
        ({"chat_template_path": "a.jsonl"}, ConfigError, r"a\.jsonl isn't a chat template; give a \.jinja file"),
        ({"chat_template_path": "bare"}, ConfigError, "bare has a tokenizer without a chat template"),
        ({"chat_template_path": "new"}, ConfigError, r"new writes <\|new\|>, which the model's tokenizer doesn't know"),
    ],
)
def test_a_template_or_a_token_that_can_not_be_used_is_refused(
    rows_of, model_folder, tmp_path, monkeypatch, train, error, words
):
    monkeypatch.chdir(tmp_path)
    for name, text in (("bare", None), ("new", TEMPLATE + "<|new|>")):
        other = AutoTokenizer.from_pretrained(model_folder)
        other.add_tokens(["<|new|>"])
        other.chat_template = text
        other.save_pretrained(name)
    with pytest.raises(error, match=words) as caught:
        rows_of({"a": ROW}, **train)
    assert isinstance(caught.value, HBOError)


def test_a_run_trains_with_them_and_saves_them(hbo, config, template, tmp_path, monkeypatch):
    made = []

    class Spy(HBOCallback):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr("hbo.run.train.HBOCallback", Spy)
    keys = {
        "chat_template_path": template,
        "eos_token": "<|im_start|>",
        "pad_token": "a",
        "truncation_mode": "keep_end",
    }
    train = {"max_steps": "2", "max_length": 12, "data_seed": 7, "padding_free": "yes", "save_strategy": "no", **keys}
    done = hbo("train", config(difficulty={"groups": 1}, balance={"method": "uniform"}, train=train))
    assert done.returncode == 0, done.stderr
    model = tmp_path / "run" / "model"
    saved = AutoTokenizer.from_pretrained(model)
    assert (saved.chat_template, saved.eos_token, saved.pad_token) == (TEMPLATE, "<|im_start|>", "a")
    assert AutoConfig.from_pretrained(model).eos_token_id == START
    assert AutoConfig.from_pretrained(model).pad_token_id == saved.pad_token_id
    # The rows of a step, as they were drawn and as they are found again: by data_seed, and not by seed.
    (callback,) = made
    rows = callback.trainer.train_dataset
    drawn = [
        [rows[name][i] for name in ("hbo_dataset", "hbo_row")] for i in callback.balancing.sampler.window(1).tolist()
    ]
    replay = [json.loads(line) for line in hbo("replay", tmp_path / "run", "--step", "2").stdout.splitlines()]
    assert [[line["dataset"], line["row"]] for line in replay] == drawn
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text().replace("data_seed: 7", "data_seed: 0"))
    assert [json.loads(line) for line in hbo("replay", tmp_path / "run", "--step", "2").stdout.splitlines()] != replay


def test_batches_without_padding_train_as_padded_ones(hbo, config, tmp_path):
    losses = []
    for is_flat in (False, True):
        train = {"max_steps": 2, "padding_free": is_flat, "save_strategy": "no", "logging_steps": 1, "loss_type": "nll"}
        file = config(difficulty={"groups": 1}, balance={"method": "uniform"}, train=train)
        assert hbo("train", file, "--overwrite").returncode == 0
        lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
        losses.append([line[name] for line in lines for name in ("loss", "loss/a") if name in line])
    assert len(losses[0]) >= 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


GOOD = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


TWICE = [GOOD[0], *GOOD]


SYSTEM = [{"role": "system", "content": "Be brief."}, *GOOD]


REFUSES = "the tokenizer's chat template refuses the conversation (Conversation roles must alternate)"


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("strict"), template=STRICT)


@pytest.fixture
def written(tmp_path, strict):
    def write(rows, model=strict, difficulty=None, eval_fraction=0.1, **entry):
        file = tmp_path / "a.jsonl"
        file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
        config = {
            "model": str(model),
            "output": str(tmp_path / "run"),
            "mixture": {"datasets": {"a": {"path": str(file), **entry}}, "eval_fraction": eval_fraction},
            "difficulty": difficulty or {"groups": 1},
            "balance": {"method": "proportional"},
            "train": {"max_steps": 1, "per_device_train_batch_size": 4, "bf16": False, "report_to": "none"},
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return tmp_path / "config.yaml"

    return write


def test_they_are_left_out_and_counted_in_check_training_and_the_mixture_file(hbo, written, tmp_path):
    file = written([TWICE if i in (3, 9, 15) else GOOD for i in range(23)], drop_unusable=True)
    told = f"can't be used and are left out: 3 as {REFUSES} (the first: row 3)"
    done = hbo("check", file)
    assert done.returncode == 0, done.stderr
    assert f"dataset 'a': 3 training rows {told}" in done.stdout
    done = hbo("train", file)
    assert done.returncode == 0, done.stderr
    assert f"warning: dataset 'a': 3 training rows {told}" in done.stderr
    assert json.loads((tmp_path / "run" / "mixture.json").read_text())["left_out"] == {"a": {REFUSES: 3}}


def test_without_leave_it_is_one_sentence_with_file_and_line(hbo, written, tmp_path):
    file = written([GOOD] * 5 + [TWICE] + [GOOD] * 6)
    for command in ("check", "train", "score"):
        sentence = refused(hbo(command, file), REFUSES, "drop_unusable: true")
        assert f"dataset 'a', row 5 ({tmp_path / 'a.jsonl'}, line 6): " in sentence


def test_held_out_rows_that_fall_away_are_counted_and_fail_nothing(hbo, written, tmp_path):
    rows = [GOOD] * 20
    config = written(rows, eval_fraction=0.05)
    done = hbo("train", config)
    assert done.returncode == 0, done.stderr
    (held,) = set(range(20)) - {row for row in range(20) if row not in held_rows(config)}
    rows[held] = TWICE
    done = hbo("train", written(rows, eval_fraction=0.05, drop_unusable=True), "--overwrite")
    assert done.returncode == 0, done.stderr
    assert f"dataset 'a': 1 held-out row can't be used and is left out: 1 as {REFUSES}" in done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["eval"] == {}


def held_rows(config):
    from hbo.config.file import load
    from hbo.data.held_out import hold_out
    from hbo.data.mixture import read_mixture

    run = load(config)
    return hold_out(read_mixture(run.mixture.datasets), run.mixture.eval_fraction, run.split_seed)[1]["hbo_row"][:]


def test_a_system_message_that_no_template_of_the_family_takes_goes_into_the_users(hbo, written):
    done = hbo("train", written([SYSTEM if i % 5 == 0 else GOOD for i in range(20)]))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the chat template takes no system message; that of 4 rows stands at the start of") == 1


def test_rows_that_only_the_scorer_refuses_count_as_hard(hbo, written, strict, tmp_path):
    model = byte_model(tmp_path / "model")
    file = written([TWICE if i == 3 else GOOD for i in range(20)], model, {"groups": 2, "model": str(strict)})
    done = hbo("train", file)
    assert done.returncode == 0, done.stderr
    assert f"dataset 'a': 1 rows can't be scored by {strict} and count as hard: 1 as {REFUSES}" in done.stderr
    mixture = json.loads((tmp_path / "run" / "mixture.json").read_text())
    assert sum(group["rows"] for group in mixture["datasets"]["a"]["groups"]) == 18
