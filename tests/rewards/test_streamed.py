"""balance.rewards: stream, in a real trainer."""

import copy
import json
import warnings

import numpy as np
import pytest
from peft import LoraConfig
from tiny_training import assert_same_weights, ledger, token_rows, weights

from hbo import HBOConfig
from hbo.errors import ConfigError
from hbo.rewards.choose import measurer_for
from hbo.rewards.gradients import gradient_norms_and_losses
from hbo.rewards.probe import Probe
from hbo.rewards.streamed import Window
from hbo.scoring.batches import pad
from hbo.training.groups import groups_of

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")
STREAM = {"rewards": "stream", "update_every": 3}  # windows of 2 steps of 4 rows


def measured_alone(model, numbers, rows):
    batch = pad(
        [(np.array(row["input_ids"]), np.array(row["labels"])) for row in map(rows.__getitem__, map(int, numbers))], 1
    )
    norm, loss = gradient_norms_and_losses(model, batch)
    return norm.double().numpy(), loss.double().numpy()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_rewards_are_those_of_the_training_rows_in_the_window(make_trainer, tmp_path, accumulation):
    """A model that doesn't learn has the same norms and losses whenever they are measured."""
    rows = token_rows(sizes=(16, 16))
    trainer, callback = make_trainer(
        rows=rows,
        balance={**STREAM, "update_every": 6, "probes": 16, "temperature": 1e9},
        max_steps=6,
        learning_rate=0.0,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=accumulation,
    )
    trainer.train()
    window = 8 // accumulation
    position = callback.balancing.schedule.position
    seen = callback.balancer.stream.rows(position(max(0, 6 - window)), position(6))
    cells = callback.balancing.groups.cell_N[seen]
    counts = np.bincount(cells, minlength=4)
    assert counts.min() >= 2  # no group is topped up
    norm, loss = measured_alone(trainer.model, seen, rows)
    has_norm = (len(seen) - 1 - np.arange(len(seen))) // callback.balancing.schedule.rows % 2 == 0  # every second step
    assert np.bincount(cells[has_norm], minlength=4).min() >= 1
    assert not has_norm.all()
    record = ledger(tmp_path / "out")[1]
    assert record["probe_examples"] == len(seen)
    for k, name in enumerate("ab"):
        groups = [norm[has_norm & (cells == 2 * k + j)].mean() for j in range(2)]
        assert record["global_reward"][name] == pytest.approx(np.mean(groups), rel=1e-3)
        for j in range(2):
            pool = callback.balancing.measurer.probe.pool[2 * k + j]
            start = measured_alone(trainer.model, pool, rows)[1].mean()
            expected = np.exp(loss[cells == 2 * k + j].mean() - start)
            assert record["local_reward"][name][j] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_watching_leaves_no_trace_on_training(make_trainer, checkpointing):
    frozen = {**STREAM, "actor": {"learning_rate": 1e-300}}
    options = {"dropout": 0.2, "gradient_checkpointing": checkpointing}
    watched, callback = make_trainer("on", balance=frozen, **options)
    watched.train()
    plain, _ = make_trainer("off", balance={"method": "proportional"}, **options)
    plain.train()
    assert not callback.balancing.measurer.failed
    assert_same_weights(weights(watched), weights(plain))
    # TRL and accelerate leave hooks of their own; ours are gone.
    assert not any(
        "hbo" in getattr(hook, "__module__", "")
        for module in watched.model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    )


@pytest.mark.parametrize("save_steps", [4, 5])
@pytest.mark.parametrize(("peft", "bf16", "workers"), [(False, False, 0), (True, True, 0), (False, False, 2)])
def test_resume_is_bitwise_also_in_the_middle_of_a_window(make_trainer, tmp_path, save_steps, peft, bf16, workers):
    options = {
        "balance": STREAM,
        "bf16": bf16,
        "use_cpu": True,
        "dataloader_num_workers": workers,
        "save_strategy": "steps",
        "save_steps": save_steps,
        "dropout": 0.1,
        "peft_config": LoraConfig(r=2, task_type="CAUSAL_LM") if peft else None,
    }
    whole, _ = make_trainer("whole", **copy.deepcopy(options))
    whole.train()
    expected = weights(whole), ledger(tmp_path / "whole")
    again, callback = make_trainer("whole", **copy.deepcopy(options))
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{save_steps}"))
    assert not callback.balancing.measurer.failed
    assert_same_weights(weights(again), expected[0])
    assert ledger(tmp_path / "whole") == expected[1]
    assert expected[1][-1]["global"] != expected[1][0]["global"]


def test_groups_that_training_hardly_shows_are_topped_up_by_probes(make_trainer, tmp_path):
    trainer, callback = make_trainer(rows=token_rows(sizes=(200, 8)), balance={**STREAM, "probes": 8}, max_steps=3)
    trainer.train()
    record = ledger(tmp_path / "out")[1]
    assert all(value > 0 for value in record["global_reward"].values())
    assert all(value > 0 for values in record["local_reward"].values() for value in values)
    seen = sum(map(sum, record["drawn"].values()))
    assert record["probe_examples"] > min(seen, 12)
    assert callback.balancer.skipped == 0


def test_a_group_seen_too_rarely_is_topped_up_by_what_it_lacks(make_trainer):
    trainer, callback = make_trainer(
        balance={**STREAM, "probes": 32, "probe_pool": 16}, rows=token_rows(sizes=(40, 40))
    )
    trainer.train()
    window = callback.balancing.measurer
    assert [len(rows) for rows in window.probe.probes(3)] == [16] * 4  # so 4 are enough
    seen = np.ones((2, 3, 4))
    seen[:, 0] = [0, 1, 2, 9], [7, 3, 4, 0]  # rows with a norm, rows with a loss
    window.load_state_dict({**window.state_dict(), "seen": seen.tolist()})
    measured = []
    values = window.probe.values
    window.probe.values = lambda model, rows, *rest, **more: measured.append(rows) or values(model, rows, *rest, **more)
    rewards = window.measure(trainer.model, 3)
    per_group = [np.isin(probes, measured[0]).sum() for probes in window.probe.probes(3)]
    assert per_group == [1, 1, 0, 4]
    assert rewards.examples == 7 + 3 + 4 + sum(per_group)


def test_losses_alone_need_no_gradient(make_trainer, tmp_path):
    trainer, callback = make_trainer(balance={**STREAM, "global_reward": "loss"})
    trainer.train()
    assert not callback.balancing.measurer.failed
    assert all(value > 0 for value in ledger(tmp_path / "out")[-1]["global_reward"].values())


@pytest.mark.trl
def test_another_loss_falls_back_to_probes_with_one_warning(make_trainer, tmp_path):
    # TRL before 1.10 computes it outside of the model, which it gives no labels then.
    why = "isn't the mean of its target tokens|the model was not called once for each batch"
    with pytest.warns(UserWarning, match=f"measured on probes: .*({why})") as said:
        trainer, callback = make_trainer(balance=STREAM, loss_type="dft")
        trainer.train()
    assert sum("on probes" in str(warning.message) for warning in said) == 1
    assert callback.balancing.measurer.failed
    probed, _ = make_trainer("probed", balance={**STREAM, "rewards": "probe"}, loss_type="dft")
    probed.train()
    assert ledger(tmp_path / "out") == ledger(tmp_path / "probed")


def test_a_parameter_without_rule_falls_back_before_training(make_trainer, tmp_path):
    def stray(trainer):
        up, mlp = trainer.model.model.layers[0].mlp.up_proj, trainer.model.model.layers[1].mlp
        mlp.register_forward_hook(lambda module, args, output: output + args[0] @ up.weight.T @ up.weight)

    for rewards in ("stream", "probe"):
        trainer, callback = make_trainer(rewards, balance={**STREAM, "rewards": rewards})
        stray(trainer)
        with pytest.warns(UserWarning, match="up_proj.weight' is used outside of its own layer"):
            trainer.train()
        assert rewards == "probe" or callback.balancing.measurer.failed
    assert ledger(tmp_path / "stream") == ledger(tmp_path / "probe")


def test_time_in_hooks_counts_as_balancing(make_trainer, monkeypatch):
    original, spent = Window.after_step, []

    def counted(window, processes):
        spent.append(original(window, processes))
        return 100.0

    monkeypatch.setattr(Window, "after_step", counted)
    trainer, callback = make_trainer(balance=STREAM)
    trainer.train()
    assert len(spent) == 12
    assert max(spent) > 0
    assert callback.balancing.balance_seconds > 1200


def own_reward(model, batch, *, loss, **_):
    return loss


@pytest.mark.trl  # SFTTrainer's options
@pytest.mark.parametrize(
    ("balance", "train", "message"),
    [
        ({"global_reward": own_reward}, {}, "global_reward needs a pass of its own"),
        ({"global_reward": "token_gradient_norm"}, {}, "global_reward needs a pass of its own"),
        ({"local_reward": "test_streamed:own_reward"}, {}, "local_reward needs a pass of its own"),
        (
            {},
            {"padding_free": True, "max_length": None},
            "rewards: stream doesn't work with padding_free.*set rewards: probe",
        ),
        ({}, {"torch_compile": True}, "rewards: stream doesn't work with torch_compile"),
        ({"rewards": "streams"}, {}, "rewards' is 'streams'.*'probe' or 'stream'"),
    ],
)
def test_what_cannot_be_streamed_is_refused(make_trainer, balance, train, message):
    with warnings.catch_warnings(), pytest.raises(ConfigError, match=message):
        warnings.simplefilter("ignore")  # TRL's own about padding_free
        make_trainer(balance={**STREAM, **balance}, **train)


def test_without_streaming_nothing_is_watched(make_trainer):
    trainer, callback = make_trainer(balance={"rewards": "probe"})
    trainer.train()
    assert isinstance(callback.balancing.measurer, Probe)


def test_a_window_survives_json():
    rows = token_rows()
    config = HBOConfig(rewards="stream", probes=4)
    window = measurer_for(rows, groups_of(rows), config, pad_token_id=1)
    window._sums += np.random.default_rng(0).random(window._sums.shape)
    other = measurer_for(rows, groups_of(rows), config, pad_token_id=1)
    other.load_state_dict(json.loads(json.dumps(window.state_dict())))
    assert np.array_equal(other._sums, window._sums)
    other.load_state_dict(window.probe.state_dict())
    assert not other._sums.any()
