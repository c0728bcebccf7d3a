import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM


@pytest.fixture
def config(tmp_path, tokenizer, write_rows):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2}
    experts = MixtralConfig(vocab_size=320, num_hidden_layers=2, num_local_experts=4, pad_token_id=1, **shape)
    MixtralForCausalLM(experts).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    data = {
        "model": str(tmp_path / "model"),
        "output": str(tmp_path / "run"),
        "mixture": {"datasets": {name: {"path": str(write_rows(name, 24))} for name in "ab"}},
        "difficulty": {"groups": 1},
        "balance": {"update_every": 2, "probes": 2},
        "train": {
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "bf16": False,
            "save_steps": 2,
            "report_to": "none",
        },
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def test_a_mixture_of_experts_resumes_with_the_experts_that_were_saved(hbo, config, tmp_path):
    run = tmp_path / "run"
    assert hbo("train", config).returncode == 0
    whole = load_file(run / "model/model.safetensors")
    assert any("experts.3.w1" in name for name in whole)  # saved under other names than the model's own
    shutil.rmtree(run / "checkpoint-4")
    shutil.rmtree(run / "model")
    assert hbo("train", config, "--resume").returncode == 0
    resumed = load_file(run / "model/model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
