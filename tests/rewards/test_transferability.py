import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_probe import batch_of, mixture
from tiny_models import FAMILIES, tiny

from hbo.errors import RewardError
from hbo.rewards.transferability import alikeness, hidden_size, mean_states


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rows_state_is_the_mean_over_its_own_tokens(family):
    model, data = tiny(family).eval(), mixture()[0]
    found = mean_states(model, batch_of(data, [0, 3, 13]))
    assert found.shape == (hidden_size(model), 3)
    for column, number in enumerate([0, 3, 13]):
        ids = torch.tensor([data[number]["input_ids"]])
        with torch.no_grad():
            alone = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].mean(0)
        assert found[:, column] == pytest.approx(alone.numpy(), rel=1e-3, abs=1e-5)


def test_adapters_are_seen_through():
    model = get_peft_model(tiny(), LoraConfig(r=2, target_modules=["q_proj"])).eval()
    assert mean_states(model, batch_of(mixture()[0], [0])) == pytest.approx(
        mean_states(tiny().eval(), batch_of(mixture()[0], [0])), rel=1e-4, abs=1e-6
    )


def test_a_model_without_a_hidden_state_is_refused():
    model = tiny().eval()
    model.base_model.register_forward_hook(lambda module, args, output: output.to_tuple(), always_call=True)
    with pytest.raises((RewardError, AttributeError)):
        mean_states(model, batch_of(mixture()[0], [0]))


def test_alikeness_is_the_mean_cosine_with_all_itself_included():
    state = np.array([[1.0, 0.0], [1.0, 1.0], [-3.0, 0.0]])
    half = np.sqrt(0.5)
    assert alikeness(state) == pytest.approx([(1 + half - 1) / 3, (half + 1 - half) / 3, (-1 - half + 1) / 3])


def test_what_was_not_seen_counts_for_nobody():
    state = np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]])
    assert alikeness(state)[[0, 2]] == pytest.approx([0.5, 0.5])
    assert np.isnan(alikeness(state)[1])
