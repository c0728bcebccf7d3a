"""The table of rewards: what it says of each is so, and whoever asks about one asks it."""

import inspect
from pathlib import Path

import pytest

from hbo import METHODS, HBOConfig
from hbo.config.rewards import REWARDS, is_of_dataset, is_signed, needs, spec_of
from hbo.errors import ConfigError
from hbo.rewards import built_in, per_row, reward_function
from hbo.rewards.choose import check_rewards

DOCS = Path(__file__).parents[2] / "docs"
each_reward = pytest.mark.parametrize("name", REWARDS)


def surprise(model, batch, *, loss, **context):
    return loss


@each_reward
def test_the_function_of_each_reward_is_there_and_takes_what_it_needs(name):
    spec, function = REWARDS[name], built_in(name)
    arguments = list(inspect.signature(function).parameters)
    if not spec.of_a_row:
        assert arguments == (["standing"] if spec.of_the_run else ["model", "sets"])
        return
    named = {"gradient_norm", "reference", "loss_alone"} & {*arguments}
    promised = {"loss_alone" if need == "without_instruction" else need for need in spec.needs}
    assert named == promised - {"batch", "token_loss"}
    assert reward_function("global_reward", name) is reward_function("global_reward", spec.function) is function


@each_reward
def test_a_reward_is_known_by_its_name_its_path_and_its_function(name):
    assert spec_of(REWARDS[name].function) is spec_of(name) is REWARDS[name]
    if REWARDS[name].of_a_row:
        assert spec_of(built_in(name)) is REWARDS[name]


def test_the_users_own_have_no_entry():
    for reward in (None, surprise, "my_rewards:surprise", lambda *_: 1, object()):
        assert spec_of(reward) is None
        assert not needs(reward)
        assert not is_signed(reward)
        assert not is_of_dataset(reward)


@each_reward
def test_each_reward_can_be_chosen_for_the_datasets_and_those_of_rows_for_the_groups(name):
    check_rewards(HBOConfig(global_reward=name))
    if not REWARDS[name].of_a_row:
        with pytest.raises(ConfigError, match="an unknown reward"):
            check_rewards(HBOConfig(local_reward=name))
    else:
        check_rewards(HBOConfig(local_reward=name))


@each_reward
def test_an_actor_over_all_groups_takes_every_reward_but_those_on_rows_set_aside(name):
    config = HBOConfig(method="mos+", local_reward=name)
    if "dev_rows" in REWARDS[name].needs:
        with pytest.raises(ConfigError, match=f"'{name}'.* set aside, and method mos\\+ rewards groups"):
            check_rewards(config)
    else:
        check_rewards(config)


@each_reward
def test_only_signed_rewards_are_refused_by_actors_that_need_them_above_zero(name):
    asked = {"global_reward": name, "actor": {"kind": "tracking"}}
    if is_signed(name):
        with pytest.raises(ConfigError, match="may be negative"):
            HBOConfig(**asked)
    else:
        HBOConfig(**asked)


def test_what_can_be_read_off_training_batches_and_what_can_be_measured_on_any_loss():
    for name in ("gradient_norm", "perplexity_ratio", "loss_ratio", "perplexity", "loss"):
        assert REWARDS[name].is_streamable
    for name in ("token_gradient_norm", "ifd_ratio", "batch_gradient_norm", "entropy"):
        assert not REWARDS[name].is_streamable
    for name in ("gradient_norm", "loss_ratio", "loss"):
        assert REWARDS[name].fits_any_loss
    for name in ("token_gradient_norm", "perplexity_ratio", "ifd_ratio", "perplexity", "transferability"):
        assert not REWARDS[name].fits_any_loss


@each_reward
def test_the_docs_name_each_reward_and_the_table_says_what_it_means(name):
    assert f"`{name}`" in (DOCS / "methods.md").read_text(encoding="utf-8")
    assert REWARDS[name].meaning.startswith(("the ", "how "))


def test_each_function_of_a_row_has_an_entry():
    known = {spec.function for spec in REWARDS.values()}
    for name, function in inspect.getmembers(per_row, inspect.isfunction):
        assert function.__module__ != per_row.__name__ or f"{per_row.__name__}:{name}" in known


def test_the_rewards_of_every_method_are_in_the_table():
    for config in METHODS.values():
        assert {config.global_reward, config.local_reward} <= {*REWARDS, None}
