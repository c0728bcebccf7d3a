"""What can't be had, of a trainer or of a model, is named before any row is read."""

from importlib.metadata import version

import pytest
from commands import refused
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames
from trl.trainer import utils

from hbo.compat import HEAD_CHOICE
from hbo.config.file import parse
from hbo.errors import ConfigError
from hbo.run.arguments import adapter, training_arguments
from hbo.run.rehearsal import check_parts, rehearse
from hbo.scoring.models import model_config

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
    ("balance.global_reward=nothing", "balance.global_reward is 'nothing', an unknown reward"),
    ("train.report_to=wandbb", "train.report_to", "'wandbb', but takes one of", "'wandb'"),
]


@pytest.mark.parametrize(("override", "fragments"), [(override, rest) for override, *rest in REFUSED])
@pytest.mark.parametrize("command", ["train", "check"])
def test_what_the_trainer_would_refuse_later_is_told_first(hbo, config, command, override, fragments):
    words = [command, config(mixture={"datasets": {"a": "/no/rows.jsonl"}}), override]
    refused(hbo(*words), *fragments)


def test_a_trl_that_trains_on_gpus_only_is_refused_on_a_cpu(hbo, config, monkeypatch):
    # Of TRL 1.15.
    monkeypatch.delattr(utils, HEAD_CHOICE, raising=False)
    monkeypatch.setattr(utils, "FusedCausalLMOutput", object, raising=False)
    file = config(mixture={"datasets": {"a": "/no/rows.jsonl"}}, train={"use_cpu": True})
    refused(hbo("train", file), f"TRL {version('trl')} computes SFTTrainer's loss on a GPU only", "pip install -U trl")


def test_an_optimizer_gets_options_of_its_own():
    rehearse(arguments(optim="sgd", optim_args="momentum=0.9, nesterov=true"))
    with pytest.raises(ConfigError, match="optim .sgd, optim_args nesterov=true.: Nesterov"):
        rehearse(arguments(optim="sgd", optim_args="nesterov=true"))


@pytest.mark.parametrize("command", ["train", "check"])
def test_an_adapter_that_finds_no_place_is_told_before_scoring(hbo, config, command):
    done = hbo(command, config(lora={"target_modules": ["nope"]}))
    refused(done, "lora: ", "Target modules {'nope'} not found")
    assert "difficulty" not in done.stderr


@pytest.fixture
def check(model_folder):
    def check(lora=None, **train):
        run = parse(
            {
                "model": "m",
                "output": "o",
                "mixture": {"datasets": {"a": "a"}},
                "lora": lora,
                "train": {"bf16": False, **train},
            }
        )
        spec = str(model_folder)
        check_parts(spec, model_config(spec), training_arguments(run), adapter(run))

    return check


@pytest.mark.parametrize(
    ("lora", "train", "words"),
    [
        ({"target_modules": ["q_porj"]}, {}, r"^lora: .*q_porj.*not found in the base model"),
        ({"target_modules": ["q_proj", "lm_head"]}, {}, r"^lora\.target_modules includes the output layer"),
        ({"target_modules": ["input_layernorm"]}, {}, r"^lora: .*is not supported"),
        (None, {"router_aux_loss_coef": 0.1}, r"^train\.router_aux_loss_coef is 0\.1, but .* has no experts"),
    ],
)
def test_a_part_that_the_model_lacks_is_named(check, lora, train, words):
    with pytest.raises(ConfigError, match=words):
        check(lora, **train)


@pytest.mark.parametrize(
    "lora",
    [
        {},
        {"target_modules": "all-linear", "init_lora_weights": "pissa_niter_4"},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "use_dora": True},
        {"target_modules": r".*\.layers\.0\..*_proj", "init_lora_weights": "olora"},
    ],
)
def test_what_peft_can_put_on_passes_unchanged(check, lora):
    given = {**lora}
    check(lora)
    assert lora == given


def test_a_run_says_so_before_it_reads_its_rows(hbo, config, tmp_path):
    file = config(
        mixture={"datasets": {"a": {"path": str(tmp_path / "none.jsonl")}}}, lora={"target_modules": ["q_porj"]}
    )
    for command in ("check", "train"):
        refused(hbo(command, file), "q_porj")
