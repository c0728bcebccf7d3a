"""What no rule covers is run again for each row: exact for whatever doesn't let rows meet."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from tiny_models import GROUPED, assert_exact, padded, tiny
from torch import nn

from hbo.rewards.gradients import settle


def of_experts(kind):
    torch.manual_seed(0)
    match kind:
        case "mixtral":
            return hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, num_local_experts=16))
        case "gpt-oss":
            sizes = {
                **GROUPED,
                "head_dim": 8,
                "sliding_window": 6,
                "layer_types": ["sliding_attention", "full_attention"],
            }
            rope = {"rope_type": "default", "rope_theta": 10000.0}
            config = hf.GptOssConfig(**sizes, num_local_experts=16, num_experts_per_tok=2, rope_parameters=rope)
            return hf.GptOssForCausalLM(config)
    sizes = {**GROUPED, "head_dim": 8, "moe_intermediate_size": 16}
    return hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**sizes, num_experts=16, num_experts_per_tok=2))


@pytest.mark.parametrize("kind", ["mixtral", "gpt-oss", "qwen3-moe"])
def test_experts_are_exact_also_those_that_got_no_token_before(kind):
    model = of_experts(kind)
    facts = settle(model, padded((3, 2, 2)))  # 7 tokens to 2 of 16 experts each
    assert_exact(model, padded((20, 3, 11, 7)), facts=facts)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj", "down_proj"], "use_dora": True, "lora_dropout": 0.3},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6, 7]},
    ],
    ids=["dora", "embeddings", "head saved", "tokens"],
)
def test_the_kin_of_lora_is_exact(config):
    model = get_peft_model(tiny(), LoraConfig(r=4, init_lora_weights=False, **config))
    assert_exact(model, padded((9, 4, 6)))


@pytest.mark.filterwarnings("ignore:.*is measured by running:UserWarning")
def test_lora_of_grouped_experts_is_exact():
    names = ["experts.gate_up_proj", "experts.down_proj"]
    config = LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"], target_parameters=names)
    model = get_peft_model(of_experts("mixtral"), config)
    facts = settle(model, padded((8, 5, 3)))
    assert any("experts" in name for name in facts.rerun)
    assert_exact(model, padded((20, 3, 11)), facts=facts)


class Mixer(nn.Module):
    """Owns a convolution's weight and vectors, as state space models do, and gives more than one tensor."""

    def __init__(self):
        super().__init__()
        self.kernel, self.decay = nn.Parameter(torch.randn(32, 1, 3) * 0.3), nn.Parameter(torch.randn(32))

    def forward(self, x, gate=None):
        out = nn.functional.conv1d(x.mT, self.kernel, padding=2, groups=32)[..., : x.shape[1]].mT
        return out * self.decay.sigmoid() * gate, out.sum()


class AroundMixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixer = Mixer()

    def forward(self, x):
        once, _ = self.mixer(x, gate=x.tanh())
        return self.mixer(once, gate=1.0)[0]  # twice, differently


def test_a_block_with_parameters_of_its_own_that_is_called_twice_is_exact():
    model = tiny()
    model.model.layers[0].mlp = AroundMixer()
    facts = assert_exact(model, padded((9, 4, 6)))
    assert_exact(model, padded((9, 9)), facts=facts)
