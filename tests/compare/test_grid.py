"""Which cells a grid has, and what is refused before anything runs."""

import math

import pytest
import yaml

from hbo.compare.grid import cells, plan, seed_numbers
from hbo.config.file import dump, load
from hbo.errors import ConfigError, HBOError


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "model": "nothing",
                "seed": 5,
                "mixture": {"datasets": {"a": "a.jsonl", "b": "b.jsonl"}},
                "balance": {"update_every": 7},
                "train": {"max_steps": 4},
            }
        )
    )
    return file


def grid(config, methods=("hbo", "mos+"), seeds=(0, 1), vary=()):
    return cells(config, methods, seeds, vary, config.parent / "grid")


def test_every_method_has_every_seed_and_the_same_held_out_rows(config):
    found = grid(config)
    assert [(cell.method, cell.seed) for cell in found] == [("hbo", 0), ("mos+", 0), ("hbo", 1), ("mos+", 1)]
    assert {cell.config.mixture.split_seed for cell in found} == {5}
    assert {cell.config.balance.update_every for cell in found} == {7}
    assert len({cell.folder for cell in found}) == 4


def test_a_method_keeps_its_own_rewards_when_the_file_is_a_runs_resolved_one(config):
    config.write_text(dump(load(config)))
    found = {cell.method: cell.config for cell in grid(config, ["hbo", "proportional", "uniform", "mos", "exp3"], [0])}
    assert found["hbo"] == load(config, ["output=" + str(found["hbo"].output), "seed=0", "mixture.split_seed=5"])
    assert all(found[name].balance.is_static for name in ("proportional", "uniform"))
    assert (found["proportional"].balance.temperature, found["uniform"].balance.temperature) == (1.0, math.inf)
    assert (found["mos"].balance.global_reward, found["mos"].balance.local_reward) == ("transferability", None)
    assert found["exp3"].balance.actor.kind == "exp3"
    assert {run.balance.update_every for run in found.values()} == {7}


def test_varied_settings_are_rows_of_their_own(config):
    found = grid(config, methods=["hbo"], seeds=[0], vary=["balance.probes=4,8", "train.learning_rate=1.0e-3"])
    assert [cell.label for cell in found] == [
        f"hbo, balance.probes={probes}, train.learning_rate=1.0e-3" for probes in (4, 8)
    ]
    assert [cell.config.balance.probes for cell in found] == [4, 8]
    assert [cell.config.train["learning_rate"] for cell in found] == [1e-3, 1e-3]


def test_an_interval_for_each_level_is_one_value(config):
    found = grid(config, methods=["hbo"], seeds=[0], vary=["balance.update_every={global: 50, local: 100},200"])
    assert [cell.config.balance.update_every for cell in found] == [{"global": 50, "local": 100}, 200]


def test_weights_are_varied_and_the_held_out_rows_stay(config):
    found = grid(config, methods=["hbo", "proportional"], seeds=[0], vary=["mixture.datasets.b.weight=0.5,null"])
    assert [cell.config.mixture.datasets["b"].weight for cell in found] == [0.5, 0.5, None, None]
    assert found[0].label == "hbo, mixture.datasets.b.weight=0.5"
    assert {cell.config.mixture.split_seed for cell in found} == {5}


def test_a_dataset_whose_name_ends_like_the_key_keeps_its_rows(config):
    data = yaml.safe_load(config.read_text())
    data["mixture"]["datasets"] = {"a": "a.jsonl", "a.weight": "b.jsonl"}
    config.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="same held-out rows"):
        grid(config, methods=["hbo"], seeds=[0], vary=["mixture.datasets.a.weight=c.jsonl,d.jsonl"])
    weighed = grid(config, methods=["hbo"], seeds=[0], vary=["mixture.datasets.a.weight.weight=2,3"])
    assert [cell.config.mixture.datasets["a.weight"].weight for cell in weighed] == [2, 3]


def test_a_share_of_the_data_is_varied_at_one_budget_only(config):
    found = grid(config, methods=["hbo"], seeds=[0], vary=["mixture.train_fraction=0.2,1"])
    assert [cell.config.mixture.train_fraction for cell in found] == [0.2, 1]
    epochs = yaml.safe_load(config.read_text()) | {"train": {"num_train_epochs": 1}}
    config.write_text(yaml.safe_dump(epochs))
    with pytest.raises(ConfigError, match="set train.max_steps"):
        grid(config, methods=["hbo"], seeds=[0], vary=["mixture.train_fraction=0.2,1"])


def test_what_is_varied_is_typed_as_in_a_file(config):
    found = grid(
        config, methods=["hbo"], seeds=[0, 1], vary=["train.learning_rate=1e-4,'2e-4'", "train.bf16=off", "lora.r='4'"]
    )
    assert [cell.config.train["learning_rate"] for cell in found] == [1e-4, 2e-4, 1e-4, 2e-4]
    assert [(cell.config.train["bf16"], cell.config.lora) for cell in found] == [(False, {"r": 4})] * 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ["hb"]}, "unknown method.*hbo"),
        ({"methods": ["hbo", "hbo"]}, "--methods names a value twice"),
        ({"seeds": []}, "--seeds names nothing"),
        ({"vary": ["balance.probes"]}, "isn't a list of values"),
        ({"vary": ["balance.probe=4,8"]}, "unknown key 'balance.probe'"),
        ({"vary": ["balance.probes=4", "balance.probes=8"]}, "names a key twice"),
        ({"vary": ["seed=1,2"]}, "use --seeds"),
        ({"vary": ["balance.method=hbo"]}, "use --methods"),
        ({"vary": ["mixture.eval_fraction=0.1,0.2"]}, "same held-out rows"),
        ({"vary": ["mixture.datasets.a.max_rows=3,4"]}, "same held-out rows"),
        ({"vary": ["mixture.datasets.a.path=c.jsonl,d.jsonl"]}, "same held-out rows"),
        ({"vary": ["mixture.datasets.weight=c.jsonl,d.jsonl"]}, "same held-out rows"),
        ({"vary": ["mixture.datasets.aa.weight=1,2"]}, "has no dataset 'aa'.*did you mean 'a'.*it has a, b"),
        ({"vary": ["mixture.datasets.a.weight=0,2"]}, "mixture.datasets.a.weight' is 0.*greater than 0"),
        ({"vary": ["train.max_length=64,128"]}, "changes the held-out rows too"),
        ({"vary": ["train.truncation_mode=keep_start,keep_end"]}, "changes the held-out rows too"),
        ({"vary": ["train.max_steps=4,8"]}, "same budget of steps"),
        ({"vary": ["train.learning_rate=1e-4,fast"]}, "train.learning_rate is 'fast', but takes a number"),
        (
            {"vary": ["train.completion_only_loss=no"]},
            "train.completion_only_loss is false, which `hbo train` doesn't support",
        ),
        ({"vary": ["train.learning_rat=1,2"]}, "unknown key 'train.learning_rat'.*learning_rate"),
        ({"vary": ["lora.rank=1,2"]}, "unknown key 'lora.rank'"),
    ],
)
def test_a_grid_that_cannot_be_is_one_sentence(config, given, message):
    with pytest.raises(HBOError, match=message) as error:
        grid(config, **given)
    assert "\n" not in str(error.value)
    assert not (config.parent / "grid" / "runs").exists() or not list((config.parent / "grid" / "runs").iterdir())


def test_seeds_are_whole_numbers():
    assert seed_numbers("0,12") == [0, 12]
    with pytest.raises(ConfigError, match="--seeds '0,x'"):
        seed_numbers("0,x")


def test_the_plan_says_steps_and_estimates_once_a_cell_is_finished(config):
    found = grid(config)
    lines = list(plan(found))
    assert lines[0] == "hbo, seed 0: 4 steps, to run"
    assert lines[-1] == "4 runs: 0 finished, 4 to run"
    found[0].folder.mkdir(parents=True, exist_ok=True)
    (found[0].folder / "metrics.json").write_text('{"train_seconds": 120.0}')
    lines = list(plan(found))
    assert lines[0] == "hbo, seed 0: 4 steps, finished"
    assert lines[-1].startswith("4 runs: 1 finished, 3 to run, about 6 minutes of training")
