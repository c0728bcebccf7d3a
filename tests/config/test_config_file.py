"""A YAML file and overrides become a RunConfig, or one sentence that names file, line and key."""

import math

import pytest

from hbo.config.file import dump, load, parse, read_text
from hbo.errors import ConfigError

HEAD = """\
model: m
mixture:
  datasets:
    chat: {path: chat.jsonl}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return "run.yaml"

    return write


def refusal(file, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(file, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_minimal_file_gets_every_default(write):
    config = load(write(HEAD))
    assert config.model == "m"
    assert config.mixture.datasets["chat"].path == "chat.jsonl"
    assert config.balance.temperature == 1.0
    assert (config.seed, config.output, config.lora, config.train) == (0, None, None, {})


def test_the_example_of_the_documentation_is_read(write):
    text = """\
model: org/model
output: runs/one
seed: 3
mixture:
  temperature: .inf
  eval_fraction: 0.1
  datasets:
    general: {path: general.jsonl}
    math: {path: openai/gsm8k, name: main, split: train, columns: {prompt: question, completion: answer}, weight: 2}
difficulty: {metric: perplexity, groups: 8, model: null}
balance:
  method: hbo
  update_every: 50
  probes: 16
  global_reward: gradient_norm
  local_reward: perplexity_ratio
  actor: {kind: tracking, learning_rate: 1.0e-4, steps: 200}
train: {max_steps: 10, learning_rate: 1e-5}
lora: {r: 8}
"""
    config = load(write(text))
    assert config.mixture.datasets["math"].columns == {"prompt": "question", "completion": "answer"}
    assert config.balance.temperature == math.inf
    assert config.balance.actor.kind == "tracking"
    assert config.train["max_steps"] == 10
    assert config.lora == {"r": 8}


@pytest.mark.parametrize(
    ("tail", "line", "key", "hint"),
    [
        ("diffculty: {groups: 2}\n", 5, "diffculty", "difficulty"),
        ("    math: {path: m, wieght: 2}\n", 5, "mixture.datasets.math.wieght", "weight"),
        ("  temprature: 2\n", 5, "mixture.temprature", "temperature"),
        ("difficulty:\n  groups: 2\n  metrc: ifd\n", 7, "difficulty.metrc", "metric"),
        ("balance:\n  probs: 2\n", 6, "balance.probs", "probes"),
        ("balance:\n  globl: false\n", 6, "balance.globl", "global"),
        ("balance:\n  actor:\n    kind: mlp\n    hiden: 3\n", 8, "balance.actor.hiden", "hidden"),
    ],
)
def test_an_unknown_key_at_any_depth_names_its_line_and_the_nearest(write, tail, line, key, hint):
    message = refusal(write(HEAD + tail))
    assert message.startswith(f"run.yaml, line {line}: unknown key '{key}' (did you mean '{hint}'?); known keys here: ")
    assert f" {hint}" in message.split("known keys here:")[1]


def test_an_unknown_key_like_no_other_lists_those_there_are(write):
    message = refusal(write(HEAD + "difficulty: {zzz: 1}\n"))
    assert message.endswith(
        "unknown key 'difficulty.zzz'; known keys here: metric, groups, model, ifd, drop_easiest, precision, examples"
    )


def test_an_unknown_key_comes_before_other_complaints(write):
    assert "line 6: unknown key 'sed'" in refusal(write(HEAD + "difficulty: {groups: 0}\nsed: 1\n"))


@pytest.mark.parametrize(
    ("tail", "line", "key"),
    [
        ("seed: -1\n", 5, "seed"),
        ("seed: soon\n", 5, "seed"),
        (f"seed: {2**32}\n", 5, "seed"),
        ("seed: 1.5\n", 5, "seed"),
        ("train: [1]\n", 5, "train"),
        ("lora: 8\n", 5, "lora"),
        ("balance: hbo\n", 5, "balance"),
        ("  temperature: 0\n", 5, "mixture.temperature"),
        ("  temperature: -1\n", 5, "mixture.temperature"),
        ("  temperature: .nan\n", 5, "mixture.temperature"),
        ("  temperature: warm\n", 5, "mixture.temperature"),
        ("  eval_fraction: 1\n", 5, "mixture.eval_fraction"),
        ("  eval_fraction: -0.1\n", 5, "mixture.eval_fraction"),
        ("    math: {path: m, weight: 0}\n", 5, "mixture.datasets.math.weight"),
        ("    math: {path: m, weight: .inf}\n", 5, "mixture.datasets.math.weight"),
        ("    math:\n      path: m\n      data_files: 5\n", 7, "mixture.datasets.math.data_files"),
        ("    math: 5\n", 5, "mixture.datasets.math"),
        ("difficulty:\n  groups: 0\n", 6, "difficulty.groups"),
        ("difficulty:\n  groups: 1025\n", 6, "difficulty.groups"),
        ("difficulty:\n  groups: 2.5\n", 6, "difficulty.groups"),
        ("difficulty: {metric: length}\n", 5, "difficulty.metric"),
        ("balance:\n  probes: 0\n", 6, "balance.probes"),
        ("balance:\n  update_every: 0\n", 6, "balance.update_every"),
        ("balance:\n  update_lag: -1\n", 6, "balance.update_lag"),
        ("balance:\n  min_probability: 1\n", 6, "balance.min_probability"),
        ("balance:\n  min_probability: -0.1\n", 6, "balance.min_probability"),
        ("balance:\n  temperature: 0\n", 6, "balance.temperature"),
        ("balance:\n  global_reward: 5\n", 6, "balance.global_reward"),
        ("balance:\n  actor: {kind: lstm}\n", 6, "balance.actor.kind"),
        ("balance:\n  actor: {rate: 2}\n", 6, "balance.actor.rate"),
        ("balance:\n  actor: {steps: 0}\n", 6, "balance.actor.steps"),
        ("balance:\n  actor: {learning_rate: .inf}\n", 6, "balance.actor.learning_rate"),
    ],
)
def test_a_value_that_can_not_be_used_names_line_and_key(write, tail, line, key):
    message = refusal(write(HEAD + tail))
    assert message.startswith(f"run.yaml, line {line}: '{key}' is ")
    assert "input should be" in message


@pytest.mark.parametrize("tier", ["global", "local"])
def test_freezing_takes_true_or_false_only(write, tier):
    assert f"line 5: balance: '{tier}' is 'maybe'; it must be true or false" in refusal(
        write(HEAD + f"balance: {{{tier}: maybe}}\n")
    )


def test_an_unknown_method_names_the_nearest_and_all(write):
    message = refusal(write(HEAD + "balance: {method: unifrom}\n"))
    assert "run.yaml, line 5" in message
    assert "unknown method 'unifrom' (did you mean 'uniform'?); choose one of hbo, " in message


@pytest.mark.parametrize(
    ("text", "where", "key"),
    [
        (HEAD.removeprefix("model: m\n"), "run.yaml", "model"),
        ("model: m\n", "run.yaml", "mixture"),
        ("model: m\nmixture:\n  temperature: 1\n", "run.yaml, line 2", "mixture.datasets"),
        (HEAD + "    math: {name: main}\n", "run.yaml, line 5", "mixture.datasets.math.path"),
    ],
)
def test_a_missing_key_is_named_with_its_section(write, text, where, key):
    assert refusal(write(text)) == f"{where}: the key '{key}' is missing; add it"


def test_a_mixture_without_datasets_says_so(write):
    assert "line 3: mixture.datasets: the mixture names no dataset" in refusal(
        write("model: m\nmixture:\n  datasets: {}\n")
    )


LIST = "model: m\nmixture:\n  datasets:\n"


def test_a_list_takes_the_stems_as_names(write):
    config = load(write(LIST + "  - path: data/chat.jsonl.gz\n    weight: 2\n  - math.parquet\n  - path: org/code/\n"))
    assert {name: entry.path for name, entry in config.mixture.datasets.items()} == {
        "chat": "data/chat.jsonl.gz",
        "math": "math.parquet",
        "code": "org/code/",
    }
    assert config.mixture.datasets["chat"].weight == 2


def test_a_list_never_loses_one_of_two_entries_of_the_same_name(write):
    message = refusal(write(LIST + "  - path: a/train.jsonl\n  - path: b/train.jsonl\n"))
    assert "two entries would be named 'train'; write `datasets:` as a mapping" in message


def test_an_unknown_key_in_a_list_names_its_own_line(write):
    message = refusal(write(LIST + "  - path: chat.jsonl\n  - path: math.jsonl\n    wieght: 2\n"))
    assert message.startswith("run.yaml, line 6: unknown key 'mixture.datasets.math.wieght' (did you mean 'weight'?)")


@pytest.mark.parametrize("again", ["seed: 1\nseed: 2\n", "balance: {probes: 2,\n probes: 3}\n"])
def test_a_key_written_twice_is_refused(write, again):
    assert "line 6: the key" in refusal(write(HEAD + again))
    assert "is already in line 5" in refusal(write(HEAD + again))


def test_a_dataset_named_twice_is_refused(write):
    assert "line 5: the key 'chat' is already in line 4" in refusal(write(HEAD + "    chat: other.jsonl\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"model: caf\xe9\n", "run.yaml: not UTF-8 (byte 10); save it as UTF-8"),
        ("model: m\nmixture: [\n", "run.yaml, line 3: not valid YAML ("),
        ("model: m\n\tx: 1\n", "run.yaml, line 2: not valid YAML ("),
        ("model: \x01\n", "run.yaml: not valid YAML ("),
        ("output: !!timestamp 2024-13-45\n", "run.yaml: not valid YAML ("),
        ("mixture: &a\n  datasets: *a\n", "run.yaml: holds more than 100000 keys and values"),
        ("", "run.yaml: holds no keys"),
        ("# only a comment\n", "run.yaml: holds no keys"),
        ("- a\n- b\n", "run.yaml: holds no keys"),
        ("just words", "run.yaml: holds no keys"),
        ("a: 1\n---\nb: 2\n", "run.yaml, line 2: not valid YAML ("),
    ],
    ids=[
        "latin-1",
        "open list",
        "tab",
        "control",
        "no date",
        "loop",
        "empty",
        "comment",
        "list",
        "words",
        "two documents",
    ],
)
def test_what_is_no_configuration_is_refused_in_one_sentence(write, text, message):
    assert refusal(write(text)).startswith(message)


def test_yaml_can_not_run_code(write):
    assert "not valid YAML" in refusal(write("model: !!python/object/apply:os.getcwd []\n"))


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; give the path"):
        read_text(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_text(tmp_path)


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1E-4"])
def test_an_override_reads_numbers_as_people_write_them(write, text):
    config = load(write(HEAD), [f"balance.actor.learning_rate={text}", f"train.learning_rate={text}"])
    assert config.balance.actor.learning_rate == 1e-4
    assert config.train == {"learning_rate": 1e-4}


@pytest.mark.parametrize("text", [".inf", "inf"])
def test_an_override_reads_infinity(write, text):
    assert load(write(HEAD), [f"mixture.temperature={text}"]).balance.temperature == math.inf


def test_overrides_win_over_the_file_and_the_last_over_the_first(write):
    file = write(HEAD + "seed: 1\nbalance: {probes: 8, update_every: 5}\n")
    config = load(file, ["seed=2", "seed=3", "balance.probes=16", "mixture.datasets.chat.weight=2", "output=a=b"])
    assert (config.seed, config.balance.probes, config.balance.update_every) == (3, 16, 5)
    assert config.mixture.datasets["chat"].weight == 2
    assert config.output == "a=b"


def test_an_override_reaches_what_the_file_writes_for_short(write):
    file = write(HEAD.replace("{path: chat.jsonl}", "chat.jsonl") + "balance: {update_every: 50}\n")
    config = load(file, ["mixture.datasets.chat.weight=3", "balance.update_every.local=10"])
    assert (config.mixture.datasets["chat"].path, config.mixture.datasets["chat"].weight) == ("chat.jsonl", 3)
    assert config.balance.update_every == {"global": 50, "local": 10}
    found = load(write(LIST + "  - a.jsonl\n  - path: b.jsonl\n"), ["mixture.datasets.a.weight=3"]).mixture.datasets
    assert {name: (entry.path, entry.weight) for name, entry in found.items()} == {
        "a": ("a.jsonl", 3), "b": ("b.jsonl", None)
    }  # fmt: skip


def test_an_override_reaches_names_with_dots_and_places_in_lists(write):
    file = write(HEAD + "    v1.0: {path: a.jsonl, also: [{path: b.jsonl}]}\n")
    entry = load(file, ["mixture.datasets.v1.0.also.0.where.no=on"]).mixture.datasets["v1.0"]
    assert [source.path for source in entry.sources] == ["a.jsonl", "b.jsonl"]
    assert entry.also[0].where == {"no": "on"}
    assert "'1' isn't a position in the list, which has 1 entries" in refusal(
        file, "mixture.datasets.v1.0.also.1.path=c"
    )


def test_an_override_of_one_dataset_leaves_its_alias_alone(write):
    file = write(HEAD + "    a: &a {path: a.jsonl}\n    b: *a\n")
    found = load(file, ["mixture.datasets.a.weight=3"]).mixture.datasets
    assert (found["a"].weight, found["b"].weight) == (3, None)


def test_names_that_yaml_might_take_for_truths_stay_names(write):
    file = write(
        HEAD + "    no: {path: no, columns: {prompt: on}, where: {lang: [no, nn], off: no}, group_by: yes}\n"
        "    null: null.jsonl\n"
    )
    found = load(file, ["mixture.datasets.on.path=on.jsonl"]).mixture.datasets
    assert list(found) == ["chat", "no", "null", "on"]
    entry = found["no"]
    assert (entry.path, entry.columns, entry.group_by) == ("no", {"prompt": "on"}, "yes")
    assert entry.where == {"lang": ["no", "nn"], "off": "no"}


def test_the_old_words_for_truths_are_understood_where_one_is_meant(write):
    file = write(HEAD + "    a: {path: a, drop_unusable: yes}\n  eval_accuracy: off\nbalance: {local: No}\n")
    config = load(file)
    assert (config.mixture.datasets["a"].drop_unusable, config.mixture.eval_accuracy) == (True, False)
    assert config.balance.local_reward is None


@pytest.mark.parametrize(
    ("entry", "key", "word"),
    [
        ("path: null", ".path", "null"),
        ("path: a, group_by: true", ".group_by", "true"),
        ("path: a, name: 2024", ".name", "2024"),
        ("path: a, where: {lang: [null]}", ".where: 'lang'", "null"),
        ("path: a, where: {lang: null}", ".where: 'lang'", "null"),
        ("path: a, columns: {prompt: null}", ".columns: 'prompt'", "null"),
        ("path: a, columns: {prompt: 5}", ".columns: 'prompt'", "5"),
        ("path: a, columns: [true]", ".columns", "true"),
    ],
)
def test_what_is_no_text_where_a_name_is_meant_is_refused_with_how_to_write_it(write, entry, key, word):
    message = refusal(write(HEAD + f"    x: {{{entry}}}\n"))
    assert f"mixture.datasets.x{key}" in message
    assert "quote it" in message and f"('{word}')" in message


def test_an_override_makes_the_sections_it_needs_and_null_empties_one(write):
    assert load(write(HEAD + "train:\n"), ["train.bf16=true", "lora.r=4"]).train == {"bf16": True}
    assert load(write(HEAD + "lora: {r: 4}\n"), ["lora=null"]).lora is None
    assert load(write(HEAD), ["balance.local=false"]).balance.local_reward is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("balance.probes", "'balance.probes' isn't an override; write key=value, such as balance.probes=8"),
        ("=5", "'=5' isn't an override"),
        ("model.size=3", "'model.size=3': 'model' is a single value, so it has no keys to set"),
        ("seed=[1", "'seed=[1', line 1: not valid YAML"),
        (
            "output=!!timestamp 2024-13-45",
            "'output=!!timestamp 2024-13-45': not valid YAML (month must be in 1..12); fix it, or quote the value",
        ),
        ("balance.probs=8", "run.yaml: unknown key 'balance.probs' (did you mean 'probes'?)"),
        ("seed=", "run.yaml: 'seed' is None, but"),
    ],
)
def test_a_bad_override_is_named(write, override, message):
    assert message in refusal(write(HEAD), override)


def test_a_bad_override_does_not_blame_the_line_it_overrides(write):
    file = write(HEAD + "seed: 1\nbalance:\n  probes: 1\n")
    assert refusal(file, "seed=x").startswith("run.yaml: 'seed' is 'x'")
    assert refusal(file, "balance={probes: 0}").startswith("run.yaml: 'balance.probes' is 0")


def my_reward(model, batch, **context):
    """A reward of a user's own."""


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["balance.method=uniform", "difficulty.groups=7"],
        ["balance.global=false", "mixture.temperature=2.5", "mixture.datasets.chat.columns=[a, b]"],
        ["balance.actor={kind: mlp, hidden: 3}", "lora={r: 8, target_modules: [q]}", "train.learning_rate=1e-5"],
        ["model=modèle", "output=runs/é", "seed=7", "balance.temperature=3"],
    ],
    ids=str,
)
def test_what_is_dumped_loads_to_the_same_settings(write, overrides):
    text = dump(load(write(HEAD), overrides))
    again = load(write(text))
    assert dump(again) == text
    assert load(write(text), overrides) == again


def test_the_prior_is_dumped_in_one_place(write):
    text = dump(load(write(HEAD), ["balance.temperature=3"]))
    assert "temperature: 3.0" in text.split("balance:")[0]
    assert text.count("temperature:") == 1


def test_a_callable_reward_is_dumped_by_its_name():
    config = parse({"model": "m", "mixture": {"datasets": {"a": "a"}}, "balance": {"global_reward": my_reward}})
    assert f"global_reward: {__name__}:my_reward\n" in dump(config)


def test_plain_data_is_parsed_without_a_file():
    with pytest.raises(ConfigError, match="^configuration: unknown key 'sed'"):
        parse({"model": "m", "mixture": {"datasets": {"a": "a"}}, "sed": 1})


def test_a_recipe_that_came_with_the_package_is_found_where_no_such_file_is(write, tmp_path, monkeypatch):
    monkeypatch.setattr("hbo.config.file._RECIPES", tmp_path / "installed")
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "own.yaml").write_text(HEAD + "seed: 7\n")
    assert load("recipes/own.yaml").seed == 7
    assert "recipes/other.yaml: no such file" in refusal("recipes/other.yaml")
    assert "own.yaml: no such file" in refusal("own.yaml")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.yaml").write_text(HEAD + "seed: 8\n")
    assert load("recipes/own.yaml").seed == 8
