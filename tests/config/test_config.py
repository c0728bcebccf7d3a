import math

import pytest

from hbo import METHODS, HBOConfig
from hbo.config.file import dump, load, parse
from hbo.errors import ConfigError

MINIMAL = {"model": "m", "mixture": {"datasets": {"a": "a.jsonl", "b": {"path": "b.jsonl", "weight": 2}}}}


def with_(**sections):
    return {**MINIMAL, **sections}


def test_defaults_are_the_papers():
    config = parse(MINIMAL)
    assert (config.balance.method, config.balance.update_every, config.difficulty.groups) == ("hbo", 200, 4)
    assert (config.balance.global_reward, config.balance.local_reward) == ("gradient_norm", "perplexity_ratio")
    assert (config.balance.actor.kind, config.balance.actor.learning_rate, config.balance.actor.steps) == (
        "softmax",
        1e-4,
        200,
    )
    assert config.balance.temperature == 1.0


@pytest.mark.parametrize(
    ("data", "fragments"),
    [
        ({"mixture": MINIMAL["mixture"]}, ["'model'", "missing"]),
        (with_(balanc={}), ["'balanc'", "'balance'"]),
        (with_(balance={"actor": {"rat": 1}}), ["balance.actor.rat", "'rate'"]),
        (with_(mixture={"datasets": {"a": {"path": "x", "fromat": "y"}}}), ["mixture.datasets.a.fromat", "'format'"]),
        (with_(mixture={"datasets": {}}), ["no dataset"]),
        (with_(balance={"method": "hob"}), ["'hob'", "'hbo'", "uniform"]),
        (with_(balance={"global": "nay"}), ["'global'", "true or false"]),
        (with_(difficulty={"groups": 0}), ["difficulty.groups", "0"]),
        (with_(difficulty={"metric": "size"}), ["difficulty.metric", "ifd"]),
        (with_(balance={"min_probability": -0.1}), ["min_probability"]),
        (with_(balance={"update_every": "often"}), ["update_every", "'often'"]),
        (with_(mixture={**MINIMAL["mixture"], "temperature": float("nan")}), ["temperature"]),
        (with_(mixture={**MINIMAL["mixture"], "eval_fraction": 1.0}), ["eval_fraction"]),
        (with_(mixture={**MINIMAL["mixture"], "eval_fraction": True}), ["eval_fraction", "can't be true or false"]),
        (with_(mixture={**MINIMAL["mixture"], "eval_accuracy": "some"}), ["eval_accuracy", "'some'"]),
        (with_(seed=-1), ["seed"]),
        (with_(seed=True), ["seed", "can't be true or false"]),
        (with_(balance={"probes": True}), ["balance.probes", "can't be true or false"]),
        (with_(balance={"method": "uniform", "global": True}), ["'global' is true", "no global_reward"]),
        (with_(balance={"method": "uniform", "temperature": 2}), ["uniform always has temperature inf", "set to 2"]),
    ],
)
def test_what_cannot_be_used_is_named_with_its_remedy(data, fragments):
    with pytest.raises(ConfigError) as error:
        parse(data)
    assert "\n" not in str(error.value)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_a_method_sets_defaults_and_the_user_overrides_them():
    assert parse(with_(balance={"method": "temperature"})).balance.temperature == 10.0
    assert parse(with_(balance={"method": "uniform"})).balance.temperature == math.inf
    mine = parse({**with_(balance={"method": "temperature"}), "mixture": {**MINIMAL["mixture"], "temperature": 3}})
    assert mine.balance.temperature == 3.0
    assert HBOConfig(method="proportional").is_static
    assert set(METHODS) >= {"hbo", "proportional", "temperature", "uniform"}
    assert all(METHODS[name] == HBOConfig(method=name) for name in METHODS)
    with pytest.raises(ConfigError, match="unknown method"):
        HBOConfig(method="nothing")


def test_a_method_named_after_its_temperature_keeps_it():
    mixture = {**MINIMAL["mixture"], "temperature": 1.0}
    with pytest.warns(UserWarning, match="mixture.temperature is 1, which is ignored: method uniform always has inf"):
        config = parse({**MINIMAL, "mixture": mixture, "balance": {"method": "uniform"}})
    assert config.balance.temperature == math.inf
    assert parse({**MINIMAL, "mixture": mixture, "balance": {"method": "proportional"}}).balance.temperature == 1.0


def test_false_freezes_a_level():
    config = parse(with_(balance={"global": False}))
    assert config.balance.global_reward is None
    assert config.balance.local_reward == "perplexity_ratio"


def test_a_list_of_datasets_is_named_by_its_paths():
    config = parse(with_(mixture={"datasets": [{"path": "data/one.jsonl.gz"}, {"path": "org/two"}]}))
    assert list(config.mixture.datasets) == ["one", "two"]


def write(tmp_path, content):
    file = tmp_path / "c.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


GOOD = "model: m\nmixture:\n  datasets:\n    a: a.jsonl\nbalance:\n  probes: 4\n"


def test_what_is_dumped_is_read_back(tmp_path):
    config = load(write(tmp_path, GOOD), ["balance.method=uniform", "train.learning_rate=1e-5", "lora.r=8"])
    again = load(write(tmp_path, dump(config)))
    assert (dump(again), again.balance) == (dump(config), config.balance)


def test_overrides_are_numbers_lists_and_infinity(tmp_path):
    words = ["balance.actor.learning_rate=1e-3", "mixture.temperature=.inf", "train.report_to=[tensorboard]", "seed=7"]
    config = load(write(tmp_path, GOOD), words)
    assert config.balance.actor.learning_rate == 1e-3
    assert config.balance.temperature == math.inf
    assert config.train == {"report_to": ["tensorboard"]}
    assert config.seed == 7


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (GOOD + "  probe: 5\n", "line 7"),
        ("model: [m\n", "not valid YAML"),
        ("", "holds no keys"),
        ("- 1\n", "holds no keys"),
        ("model: \xe9\n".encode("latin-1"), "not UTF-8"),
        ("model: !!python/object/apply:os.system [id]\n", "not valid YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, fragment):
    with pytest.raises(ConfigError, match="c.yaml") as error:
        load(write(tmp_path, content))
    assert fragment in str(error.value)


def test_a_missing_file_a_folder_and_a_bad_override_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load(tmp_path)
    for override in ("balance", "=3", "model.x=3"):
        with pytest.raises(ConfigError):
            load(write(tmp_path, GOOD), [override])
