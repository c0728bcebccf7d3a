"""What `train:` and `lora:` ask of a model that lacks it is said before any row is read."""

import pytest
from commands import refused

from hbo.config.file import parse
from hbo.errors import ConfigError
from hbo.run.arguments import adapter, training_arguments
from hbo.run.rehearsal import check_parts
from hbo.scoring.models import model_config


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
        ({"target_modules": ["q_proj", "lm_head"]}, {}, r"^lora\.target_modules takes in the output layer"),
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
