"""Which tokens are targets, and where each is predicted from."""

import pytest
import torch

from hbo.scoring.targets import Targets

CPU = torch.device("cpu")
LABELS = torch.tensor([[-100, 5, -100, 7], [8, 9, -100, -100], [-100, -100, -100, -100]])
IDS = torch.arange(12).view(3, 4)


def test_labels_are_not_shifted_and_the_first_token_is_none():
    found = Targets.of({"input_ids": IDS, "labels": LABELS}, CPU)
    assert found.index_N.tolist() == [0, 2, 4]  # token t is predicted at t − 1; of row 1 the first label is left out
    assert found.label_N.tolist() == [5, 7, 9]
    assert found.row_N.tolist() == [0, 0, 1]
    assert found.counts == [2, 1, 0] and found.shape == (3, 4)


def test_padding_predicts_nothing_on_either_side():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]])
    found = Targets.of({"input_ids": IDS, "labels": LABELS, "attention_mask": mask}, CPU)
    assert found.label_N.tolist() == [7, 9]


@pytest.mark.parametrize("mask", [None, torch.ones(3, 1, 4, 4, dtype=torch.bool)], ids=["none", "4-D"])
def test_masks_that_tell_of_no_padding(mask):
    found = Targets.of({"input_ids": IDS, "labels": LABELS, "attention_mask": mask}, CPU)
    assert found.counts == [2, 1, 0]
    assert ("attention_mask" in found.inputs) == (mask is not None)


def test_only_what_a_model_is_called_with_is_taken():
    batch = {"input_ids": IDS, "labels": LABELS, "position_ids": IDS, "hbo_dataset": torch.zeros(3)}
    assert set(Targets.of(batch, CPU).inputs) == {"input_ids", "position_ids"}


def test_values_per_target_become_values_per_row():
    found = Targets.of({"input_ids": IDS, "labels": LABELS}, CPU)
    value = torch.tensor([1.0, 3.0, 10.0])
    assert found.sums(value).tolist() == [4, 10, 0]
    assert found.means(value)[:2].tolist() == [2, 10] and found.means(value)[2].isnan()
    assert found.weights().tolist() == [0.5, 0.5, 1.0]


def test_hidden_states_are_picked_where_targets_are_predicted_behind_virtual_tokens():
    found = Targets.of({"input_ids": IDS, "labels": LABELS}, CPU)
    hidden = torch.randn(3, 4, 6)
    expected = torch.stack([hidden[0, 0], hidden[0, 2], hidden[1, 0]])
    assert torch.equal(found.at(hidden), expected)
    assert torch.equal(found.at(torch.cat([torch.zeros(3, 2, 6), hidden], 1)), expected)
