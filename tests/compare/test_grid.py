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
        ({"vary": ["mixture.split_seed=1,2"]}, "same held-out rows"),
        ({"vary": ["mixture.datasets.a.path=c.jsonl,d.jsonl"]}, "same held-out rows"),
        ({"vary": ["train.max_steps=4,8"]}, "same budget of steps"),
        ({"vary": ["train={max_steps: 10},{max_steps: 200}"]}, "--vary train: a whole section.*train.learning_rate"),
        ({"vary": ["mixture={datasets: [a.jsonl]}"]}, "--vary mixture: a whole section.*mixture.temperature"),
        ({"vary": ["balance.update_every=50,100,50"]}, "--vary balance.update_every has '50' twice"),
        (
            {"vary": ["balance.probes=4", "train.learning_rate=1e-4,2e-4,0.0001"]},
            "--vary train.learning_rate: '1e-4' and '0.0001' make the same run",
        ),
        ({"vary": ["model=a/b,a_b"]}, "'hbo, model=a/b' and 'hbo, model=a_b' would share.*hbo-model=a_b-seed0"),
        ({"vary": ["mixture.datasets.aa.weight=1,2"]}, "has no dataset 'aa'.*did you mean 'a'.*it has a, b"),
        ({"vary": ["mixture.datasets.a.weight=0,2"]}, "mixture.datasets.a.weight' is 0.*greater than 0"),
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


@pytest.mark.filterwarnings("ignore:mixture.temperature")
def test_a_method_that_leaves_a_varied_key_alone_is_no_twin(config):
    found = grid(config, methods=["hbo", "uniform"], seeds=[0], vary=["mixture.temperature=1,2"])
    assert [cell.config.balance.temperature for cell in found] == [1, math.inf, 2, math.inf]


def test_folders_have_names_that_file_systems_take(config):
    short = grid(config, methods=["hbo"], seeds=[0], vary=["balance.probes=4", "train.learning_rate=1e-4"])
    assert short[0].folder.name == "hbo-balance.probes=4-train.learning_rate=1e-4-seed0"
    names = [f"dataset_{i}" for i in range(7)]
    data = yaml.safe_load(config.read_text())
    data["mixture"]["datasets"] = {name: f"{name}.jsonl" for name in names}
    config.write_text(yaml.safe_dump(data))
    long = grid(
        config, ["hbo"], [0, 1], [f"mixture.datasets.{name}.weight=1{',2' * (i == 6)}" for i, name in enumerate(names)]
    )
    assert len({cell.folder for cell in long}) == 4
    for cell in long:
        cell.folder.mkdir(parents=True)
        cell.folder.with_name(f"{cell.folder.name}.eval.log").touch()
        assert cell.folder.name.endswith(f"-seed{cell.seed}")


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
