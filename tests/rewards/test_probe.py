import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from accelerate.utils.memory import should_reduce_batch_size
from datasets import Dataset
from tiny_models import one_at_a_time, tiny

from hbo.config import HBOConfig
from hbo.core.groups import Groups
from hbo.errors import ConfigError, RewardError
from hbo.rewards.probe import Probe
from hbo.scoring.batches import pad
from hbo.scoring.processes import Processes


def mixture(sizes=(12, 6), levels=2):
    words = np.random.default_rng(0)
    rows = []
    for k, size in enumerate(sizes):
        for i in range(size):
            ids = words.integers(5, 60, 4 + i % 5).tolist()
            rows.append({"input_ids": ids, "labels": [-100, *ids[1:]], "hbo_dataset": "ab"[k], "hbo_level": i % levels})
    data = Dataset.from_list(rows)
    return data, Groups.from_columns(data["hbo_dataset"][:], data["hbo_level"][:])


def probe(**config):
    data, groups = mixture()
    return Probe(
        data, groups, HBOConfig(**{"probes": 4, "probe_pool": 3, "probe_tokens": 40, **config}), pad_token_id=0
    )


def batch_of(data, rows):
    return pad([(np.array(data[i]["input_ids"]), np.array(data[i]["labels"])) for i in rows], 0)


def test_the_local_reward_of_an_unmoved_model_is_one():
    measured = probe()
    model = tiny()
    measured.measure_reference(model)
    assert measured.measure(model, 1).local_KL == pytest.approx(np.ones((2, 2)), rel=1e-5)


def test_rewards_are_means_over_each_choices_own_probes():
    measured = probe()
    model = tiny()
    measured.measure_reference(model)
    reference = dict(measured.reference)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    found = measured.measure(model, 7)
    cells = measured.probes(7)
    for k in range(2):
        norms = []
        for j in range(2):
            rows = cells[k * 2 + j].tolist()
            norm_B, loss_B = (values.numpy() for values in one_at_a_time(model, batch_of(measured.rows, rows)))
            ratio = np.exp(loss_B - np.array([reference[row] for row in rows]))
            assert found.local_KL[k, j] == pytest.approx(ratio.mean(), rel=1e-4)
            norms.append(norm_B.mean())
        assert found.global_K[k] == pytest.approx(np.mean(norms), rel=1e-4)
    assert found.examples == 8


def test_the_norm_of_a_token_is_the_gradient_norm_times_the_root_of_the_targets():
    plain, scaled = probe(), probe(global_reward="token_gradient_norm", probe_tokens=12)
    model = tiny()
    found = []
    for each in (plain, scaled):
        each.measure_reference(model)
        rows = np.concatenate(each.probes(7))
        found.append(each.values(model, rows, (each.functions[0], None))[0])
    targets = [sum(label != -100 for label in plain.rows[row]["labels"][1:]) for row in rows.tolist()]
    assert len(set(targets)) > 1
    np.testing.assert_allclose(found[1], found[0] * np.sqrt(targets), rtol=1e-4)


def together(measured, model, step, ranks=2):
    """What processes measure that run one after the other; each sees the sum of the shares of those before it."""
    parts = []

    def total(array):
        parts.append(array)
        return array if array.ndim == 2 else np.full_like(array, array.max())

    for rank in range(ranks):
        measured.measure(model, step, Processes(rank, ranks, total))
    shares = [part for part in parts if part.ndim == 2]
    assert len(shares) == ranks
    return measured.measure(model, step, Processes(0, 1, lambda array: sum(shares) if array.ndim == 2 else array))


def test_processes_together_measure_what_one_does():
    measured = probe()
    model = tiny()
    measured.measure_reference(model)
    measured.settle(model)
    found, alone = together(measured, model, 3), measured.measure(model, 3)
    assert found.global_K == pytest.approx(alone.global_K, rel=1e-6)
    assert found.local_KL == pytest.approx(alone.local_KL, rel=1e-6)


def test_the_verdict_and_the_batches_of_probes_stand_in_the_checkpoint():
    measured, model = probe(probe_tokens=None), tiny()
    measured.measure_reference(model)
    assert "one pass" in measured.settle(model)
    measured.sizing.of_training = 30
    expected = measured.measure(model, 3)
    again = probe(probe_tokens=None)
    again.load_state_dict(json.loads(json.dumps(measured.state_dict())))
    assert again.facts == measured.facts
    assert again.room.tokens == measured.room.tokens == 30
    assert again.measure(model, 3).global_K.tolist() == expected.global_K.tolist()


@pytest.mark.parametrize("most", [2, 1])
def test_a_batch_that_memory_has_no_room_for_is_halved_and_measured_again(most):
    measured, model = probe(), tiny()
    measured.measure_reference(model)
    expected = measured.measure(model, 3)
    assert measured.room.tokens == 40

    def lacks(layer, args):
        if len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    handle = model.model.layers[1].register_forward_pre_hook(lacks)
    found = measured.measure(model, 3)
    assert found.global_K == pytest.approx(expected.global_K, rel=1e-5)
    assert measured.room.tokens < 40
    tokens = measured.room.tokens
    handle.remove()
    measured.measure(model, 4)
    assert measured.room.tokens == measured.state_dict()["sizing"]["tokens"] == tokens  # the verdict is kept


def test_a_row_that_memory_has_no_room_for_is_told_of_before_training():
    measured, model = probe(), tiny()

    def lacks(layer, args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.model.layers[1].register_forward_pre_hook(lacks)
    with pytest.raises(RewardError, match="too little memory") as caught:
        measured.measure_reference(model)
    assert not should_reduce_batch_size(caught.value)  # by which accelerate would make training's batch smaller


def test_probes_come_from_the_pool_and_change_with_the_step():
    data, groups = mixture((80, 40))
    measured = Probe(data, groups, HBOConfig(probes=8, probe_pool=15), pad_token_id=0)
    pools = [set(pool.tolist()) for pool in measured.pool]
    assert [len(pool) for pool in pools] == [15] * 4
    for cell, rows in enumerate(measured.probes(5)):
        assert len(set(rows.tolist())) == 4
        assert set(rows.tolist()) <= pools[cell]
    assert any((a != b).any() for a, b in zip(measured.probes(5), measured.probes(10), strict=True))
    assert all((a == b).all() for a, b in zip(measured.probes(5), measured.probes(5), strict=True))


def test_a_reference_that_is_known_is_not_measured():
    data, groups = mixture()
    data = data.add_column("hbo_reference", np.arange(18) / 10)
    measured = Probe(data, groups, HBOConfig(), pad_token_id=0)
    measured.measure_reference(None)
    assert measured.reference[7] == pytest.approx(0.7)


def test_a_reward_of_ones_own_is_called_with_what_was_measured():
    seen = []

    def mine(model, batch, *, loss, reference, **context):
        seen.append((sorted(context), loss.shape, reference.shape))
        return loss * 0 + 2.5

    measured = probe(global_reward=mine, local_reward="loss")
    model = tiny()
    measured.measure_reference(model)
    assert measured.measure(model, 1).global_K.tolist() == [2.5, 2.5]
    assert all(shape == again for _, shape, again in seen)


def test_a_reward_of_ones_own_need_not_be_hashable():
    @dataclass
    class Constant:
        value: float

        def __call__(self, model, batch, *, loss, **context):
            return loss * 0 + self.value

    measured = probe(local_reward=Constant(2.5))
    model = tiny()
    measured.measure_reference(model)
    assert measured.measure(model, 1).local_KL.tolist() == [[2.5, 2.5], [2.5, 2.5]]


def test_an_unknown_reward_names_the_known_ones():
    with pytest.raises(ConfigError, match="gradient_norm"):
        probe(global_reward="gradientnorm")
    with pytest.raises(ConfigError, match="can't be imported"):
        probe(local_reward="no.such.module:fn")


def test_ifd_ratio_is_that_of_ifd_now_and_at_the_start():
    data, groups = mixture()
    config = HBOConfig(local_reward="ifd_ratio", global_reward=None, probes=4, probe_pool=3, probe_tokens=40)
    measured = Probe(data, groups, config, pad_token_id=0, opening=[3, 4])
    model = tiny()

    def ifd(row):
        ids = torch.tensor([data[row]["input_ids"]])
        alone = torch.tensor([[3, 4, *data[row]["input_ids"][1:]]])
        with torch.no_grad():
            given = model(ids, labels=torch.tensor([data[row]["labels"]])).loss
            without = model(alone, labels=alone.where(torch.arange(alone.shape[1]) >= 2, -100)).loss
        return float(torch.exp(given - without))

    rows = [cell.tolist() for cell in measured.probes(7)]
    start = [[ifd(row) for row in cell] for cell in rows]
    measured.measure_reference(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
    expected = [
        np.mean([ifd(row) / was for row, was in zip(*pair, strict=True)]) for pair in zip(rows, start, strict=True)
    ]
    again = Probe(data, groups, config, pad_token_id=0, opening=[3, 4])
    again.load_state_dict(json.loads(json.dumps(measured.state_dict())))
    found = again.measure(model, 7).local_KL
    assert found.ravel() == pytest.approx(expected, rel=1e-4)
    assert np.abs(found - 1).max() > 0.01


def test_a_frozen_level_has_no_reward():
    measured = probe(local_reward=None)
    model = tiny()
    measured.measure_reference(model)
    found = measured.measure(model, 1)
    assert found.local_KL is None
    assert found.global_K.shape == (2,)
