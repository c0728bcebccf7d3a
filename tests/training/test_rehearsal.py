"""Options of which nothing can be made are named before any row is read."""

import pytest
from commands import refused
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from hbo.errors import ConfigError
from hbo.run.rehearsal import rehearse

NEEDS_OPTIONS = {  # of schedules that have none by themselves
    "cosine_with_min_lr": {"min_lr": 0.0},
    "cosine_warmup_with_min_lr": {"min_lr": 0.0},
    "warmup_stable_decay": {"num_decay_steps": 10},
}


def arguments(**train):
    return TrainingArguments("out", use_cpu=True, report_to="none", **train)


@pytest.mark.parametrize("schedule", list(SchedulerType))
def test_a_schedule_with_what_it_needs_passes(schedule):
    options = NEEDS_OPTIONS.get(schedule.value)
    with_eval = {"eval_strategy": "steps"} if schedule.value in ("reduce_lr_on_plateau", "greedy") else {}
    rehearse(arguments(lr_scheduler_type=schedule, lr_scheduler_kwargs=options, warmup_steps=0.1, **with_eval))


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"])
def test_an_optimizer_of_torch_passes(optim):
    assert optim in list(OptimizerNames)
    rehearse(arguments(optim=optim))


REFUSED = [
    ("train.optim_args=what", "train.optim (adamw_torch_fused, optim_args what)"),
    ("train.adam_beta1=1.5", "train.optim (adamw_torch_fused): Invalid beta"),
    ("train.lr_scheduler_type=cosine_with_min_lr", "lr_scheduler_type (cosine_with_min_lr): One of min_lr"),
    ("train.lr_scheduler_kwargs={nothing: 1}", "lr_scheduler_type (linear): ", "'nothing'"),
    ("train.report_to=wandbb", "train.report_to", "'wandbb', but takes one of", "'wandb'"),
]


@pytest.mark.parametrize(("override", "fragments"), [(override, rest) for override, *rest in REFUSED])
@pytest.mark.parametrize("command", ["train", "check"])
def test_what_the_trainer_would_refuse_later_is_told_first(hbo, config, command, override, fragments):
    words = [command, config(mixture={"datasets": {"a": "/no/rows.jsonl"}}), override]
    refused(hbo(*words), *fragments)


def test_an_optimizer_gets_options_of_its_own():
    rehearse(arguments(optim="sgd", optim_args="momentum=0.9, nesterov=true"))
    with pytest.raises(ConfigError, match="optim .sgd, optim_args nesterov=true.: Nesterov"):
        rehearse(arguments(optim="sgd", optim_args="nesterov=true"))


@pytest.mark.parametrize("command", ["train", "check"])
def test_an_adapter_that_finds_no_place_is_told_before_scoring(hbo, config, command):
    done = hbo(command, config(lora={"target_modules": ["nope"]}))
    refused(done, "lora: ", "Target modules {'nope'} not found")
    assert "difficulty" not in done.stderr
