"""A method is one set of defaults, and a static sampler is HBO with both levels frozen."""

import math

import pytest

from hbo import METHODS, HBOConfig
from hbo.config.methods import SETTINGS, method_of
from hbo.errors import ConfigError


def test_hbo_is_the_default_configuration():
    assert METHODS["hbo"] == HBOConfig()
    assert not METHODS["hbo"].is_static


@pytest.mark.parametrize(
    ("method", "temperature"), [("proportional", 1.0), ("temperature", 10.0), ("uniform", math.inf)]
)
def test_static_methods_measure_nothing_and_differ_by_their_temperature(method, temperature):
    config = METHODS[method]
    assert config.is_static
    assert (config.global_reward, config.local_reward) == (None, None)
    assert config.temperature == temperature


@pytest.mark.parametrize("method", SETTINGS)
def test_every_method_is_public_knows_its_name_and_sets_only_real_fields(method):
    assert METHODS[method].method == method
    assert set(method_of(method).defaults) <= set(HBOConfig.model_fields)


def test_methods_differ_from_each_other():
    unnamed = {
        (
            config.is_flat,
            config.is_stratified,
            config.is_placebo,
            config.model_copy(update={"method": ""}).model_dump_json(),
        )
        for config in METHODS.values()
    }
    assert len(unnamed) == len(METHODS)


@pytest.mark.parametrize("method", ["hbo2", "", None, 3, ["hbo"]])
def test_what_is_no_method_is_refused_with_the_choices(method):
    with pytest.raises(ConfigError, match="unknown method.*choose one of hbo, proportional, temperature, uniform"):
        method_of(method)


def test_what_the_user_sets_wins_over_the_method():
    assert HBOConfig(method="temperature", temperature=3).temperature == 3
    assert HBOConfig(method="uniform", global_reward="gradient_norm").global_reward == "gradient_norm"
    assert HBOConfig(method="uniform", global_reward="gradient_norm").local_reward is None
