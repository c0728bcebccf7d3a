import itertools
import json
from collections import Counter

import pytest
import torch
from datasets import Dataset
from tiny_training import QUIET, assert_same_weights, ledger, weights
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from hbo import HBOCallback, HBOConfig
from hbo.errors import ConfigError
from hbo.run.arguments import CHECKPOINTING

KINDS = {"GRPO": (GRPOTrainer, GRPOConfig), "RLOO": (RLOOTrainer, RLOOConfig)}
STATIC = {"method": "uniform"}

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")


def prompts(sizes=(21, 10), levels=1):
    rows = [
        {"prompt": f"{name} {i}", "hbo_dataset": name, "hbo_level": i % levels}
        for name, size in zip("ab", sizes, strict=True)
        for i in range(size)
    ]
    return Dataset.from_list(rows)


def favours_b(model, batch, **_):
    """A reward of a row that hbo can't know of: a prompt as the trainer collates it."""
    return torch.tensor([3.0 if row["hbo_dataset"] == "b" else 1.0 for row in batch])


@pytest.fixture
def generating(tmp_path, model_folder, tokenizer):
    def make(kind="GRPO", folder="out", *, balance=None, rows=None, max_passes=None, **options):
        trainer_class, config_class = KINDS[kind]
        groups: list[list[str]] = []  # the prompts of each generation

        def reward(prompts, completions, **_):
            groups.append(list(prompts))
            return [float(len(set(text))) for text in completions]

        settings = {
            **QUIET,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "num_generations": 2,
            "max_completion_length": 3,
            "max_steps": 6,
            "learning_rate": 1e-3,
            CHECKPOINTING: False,
        }
        trainer = trainer_class(
            str(model_folder),
            reward_funcs=reward,
            args=config_class(str(tmp_path / folder), **{**settings, **options}),
            train_dataset=prompts() if rows is None else rows,
            processing_class=tokenizer,
        )
        chosen = {"update_every": 2, "probes": 4, "actor": {"learning_rate": 3e-3}, **(balance or STATIC)}
        callback = HBOCallback(trainer, HBOConfig(**chosen), max_passes=max_passes)
        trainer.add_callback(callback)
        return trainer, callback, groups

    return make


def whole_groups(generation, times):
    """The prompts of a generation, each of which must stand there `times` times in a row."""
    parts = [generation[i : i + times] for i in range(0, len(generation), times)]
    assert all(len(set(part)) == 1 for part in parts), generation
    return [part[0] for part in parts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"num_iterations": 2}, {"steps_per_generation": 4}, {"steps_per_generation": 1, "num_generations": 4}],
)
def test_a_group_of_generations_holds_one_prompt_and_prompts_are_the_stream(generating, kind, options):
    trainer, callback, generations = generating(kind, **options)
    trainer.train()
    times = trainer.args.num_generations
    drawn = list(itertools.chain.from_iterable(whole_groups(each, times) for each in generations))
    position = callback.balancing.schedule.position(6)
    rows = callback.balancer.stream.rows(0, position)
    assert drawn == trainer.train_dataset.select(rows)["prompt"][:]
    assert callback.drawn_so_far(6).sum() == position == len(drawn)


def test_a_static_method_draws_prompts_by_its_probabilities(generating):
    trainer, callback, generations = generating(rows=prompts((60, 30)), max_steps=40, max_completion_length=1)
    trainer.train()
    counts = Counter(prompt[0] for each in generations for prompt in whole_groups(each, 2))
    assert counts.total() == 160
    assert counts["a"] / 160 == pytest.approx(0.5, abs=0.1)  # uniform, though a has twice the rows
    assert callback.drawn_so_far(40).ravel().tolist() == [counts["a"], counts["b"]]


def test_a_reward_of_ones_own_moves_the_prompts(generating, tmp_path):
    balance = {"global_reward": favours_b, "actor": {"learning_rate": 3e-2}}
    trainer, callback, generations = generating(balance=balance, max_steps=16)
    trainer.train()
    records = ledger(tmp_path / "out")
    assert [record["step"] for record in records] == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert records[1]["global_reward"] == {"a": 1.0, "b": 3.0}
    assert records[-1]["global"]["b"] == pytest.approx(0.75, abs=0.05)
    assert all(record["local_reward"] is None for record in records)
    assert sum(record["drawn"]["b"][0] for record in records[1:]) == callback.drawn_so_far(16)[1].sum()
    # An update takes effect with the first generation that begins afterwards, and is in the prompts.
    late = Counter(prompt[0] for each in generations[8:] for prompt in whole_groups(each, 2))
    assert late["b"] > late["a"]
    saved = json.dumps(callback.snapshot(), allow_nan=False)
    assert json.loads(saved)["schedule"] == [4, 7, 4, 2, 2, 2]


@pytest.mark.parametrize("options", [{}, {"num_iterations": 2}])
def test_a_resumed_run_draws_the_same_prompts(generating, tmp_path, options):
    options = {
        "balance": {"global_reward": favours_b, "actor": {"learning_rate": 3e-2}},
        "save_strategy": "steps",
        "save_steps": 4,
        "max_steps": 10,
        **options,
    }
    whole, _, generations = generating(**options)
    whole.train()
    expected = ledger(tmp_path / "out"), weights(whole)
    again, _, later = generating(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    assert later == generations[-len(later) :]
    assert len(later) == (6 if "num_iterations" not in options else 3)
    assert ledger(tmp_path / "out") == expected[0]
    assert_same_weights(weights(again), expected[1])


def test_a_checkpoint_of_other_generations_is_refused(generating, tmp_path):
    generating(save_strategy="steps", save_steps=2, max_steps=2)[0].train()
    again, _, _ = generating(num_iterations=2)
    with pytest.raises(ConfigError.__base__, match="come more or less often"):
        again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))


@pytest.mark.parametrize(
    "balance", [{}, {"global_reward": favours_b, "local_reward": "loss"}, {"global_reward": "loss"}]
)
def test_what_needs_completions_is_refused_before_training(generating, balance):
    with pytest.raises(ConfigError, match="GRPOTrainer's loss needs completions that are generated while training"):
        generating(balance={"method": "hbo", **balance})


def test_prompts_in_their_own_order_are_refused(generating):
    with pytest.raises(ConfigError, match="shuffle_dataset is false"):
        generating(shuffle_dataset=False)


def test_a_cap_on_passes_counts_prompts(generating):
    # Six steps take 4 prompts each, of 31: one pass is enough.
    trainer, callback, _ = generating(max_passes=1)
    trainer.train()
    assert callback.drawn_so_far(6).sum() == 24
    with pytest.raises(ConfigError, match="allows 31 draws of 31 rows, but training takes 32"):
        generating(max_passes=1, max_steps=8)
