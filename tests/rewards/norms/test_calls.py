"""How rows lie in what a layer is given is never mistaken, whatever sizes agree by chance."""

from __future__ import annotations

import dataclasses
import typing

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from tiny_models import GROUPED, assert_exact, padded, tiny
from torch import nn

from hbo.rewards.gradients import looped_gradient_norms, per_example_gradient_norms, settle
from hbo.rewards.norms.calls import by_row, fits, layout_of, row_of
from hbo.scoring.targets import Targets


class ListOfExperts(nn.Module):
    """As models from elsewhere have them: a layer for each expert, which is given the tokens routed to it."""

    def __init__(self, count, of_each_token):
        super().__init__()
        self.router = nn.Linear(32, count, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 24), nn.SiLU(), nn.Linear(24, 32)) for _ in range(count)
        )
        self.of_each_token = of_each_token

    def forward(self, x):
        tokens = x.flatten(0, 1)
        weight, chosen = self.router(tokens).softmax(-1).topk(self.of_each_token, -1)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == number)
            if len(token):
                out.index_add_(0, token, expert(tokens[token]) * weight[token, slot, None])
        return out.view_as(x)


@pytest.mark.parametrize(("count", "of_each_token"), [(4, 1), (16, 2)])
@pytest.mark.parametrize("settled_on", [(3, 2, 2), (8, 7, 5)], ids=["few tokens", "more tokens"])
def test_experts_that_get_as_many_tokens_as_there_are_rows_are_not_taken_for_rows(count, of_each_token, settled_on):
    model = tiny()
    for layer in model.model.layers:
        layer.mlp = ListOfExperts(count, of_each_token)
    facts = settle(model, padded(settled_on))
    assert facts.batched
    for lengths in ((20, 18, 17, 16), (3, 2), (9,), (2,) * 9):
        assert_exact(model, padded(lengths, seed=1), facts=facts)


def test_facts_of_a_few_rows_hold_for_batches_of_any_size():
    torch.manual_seed(0)
    config = hf.DiffLlamaConfig(**GROUPED)  # its attention is run again for each row; without padding it has no mask
    model = hf.DiffLlamaForCausalLM(config)
    facts = settle(model, padded((8, 3, 7)))
    assert facts.layouts
    for lengths in ((9,) * 4, (9,), (4, 4), (3, 2, 2, 2), (20, 11)):  # 4 heads, 2 of keys
        assert_exact(model, padded(lengths), facts=facts)


@pytest.mark.parametrize("lengths", [(3, 3, 3), (2, 2), (4, 4, 4, 4), (2, 3, 3)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_as_many_rows_as_tokens(family, lengths):
    model = tiny(family)
    assert_exact(model, padded(lengths))
    assert_exact(model, padded((8, 5, 4)), facts=settle(model, padded(lengths)))


def test_a_mask_of_none_and_none_at_all_are_one():
    model, batch = tiny(), padded((7, 7))
    expected = looped_gradient_norms(model, batch)
    for without in ({**batch, "attention_mask": None}, {n: t for n, t in batch.items() if n != "attention_mask"}):
        torch.testing.assert_close(per_example_gradient_norms(model, without), expected, rtol=1e-5, atol=0)


@dataclasses.dataclass
class Wrapped:
    value: torch.Tensor


class Pair(typing.NamedTuple):
    value: torch.Tensor
    mean: torch.Tensor


class Odd(nn.Module):
    """A layer that is called by keyword, gives more than is used, or wraps what it gives."""

    def __init__(self, wrap):
        super().__init__()
        self.weight, self.wrap = nn.Parameter(torch.randn(32, 32) * 0.1), wrap

    def forward(self, *, value):
        out = value @ self.weight
        return {"wrapped": Wrapped(out), "pair": Pair(out, out.mean(-1)), "dict": {"out": out, "as given": value}}[
            self.wrap
        ]


class AroundOdd(nn.Module):
    def __init__(self, inner, wrap):
        super().__init__()
        self.inner, self.odd = inner, Odd(wrap)

    def forward(self, x):
        out = self.odd(value=self.inner(x))
        out = out["out"] if isinstance(out, dict) else out.value
        out += 1  # in place
        return out * 2


@pytest.mark.parametrize("wrap", ["wrapped", "pair", "dict"])
def test_whatever_a_layer_gives_is_seen(wrap):
    model = tiny()
    model.model.layers[0].mlp = AroundOdd(model.model.layers[0].mlp, wrap)
    facts = assert_exact(model, padded((9, 4, 6)))
    # torch doesn't look into a data class: what gives one is run again with what is around it
    again = {"model.layers.0.mlp.odd.weight": "model.layers.0.mlp"} if wrap == "wrapped" else {}
    assert facts.rerun == again


def test_layouts_are_judged_by_size():
    targets = Targets.of(padded((5, 3)), torch.device("cpu"))  # 2 rows of 5 tokens
    found = [
        layout_of(torch.ones(shape), targets, in_head=False, is_output=output)
        for shape, output in [((2, 5, 4), False), ((10, 4), False), ((1, 5, 4), True), ((1, 4), True), ((5, 4), False), ((2,), False)]
    ]  # fmt: skip
    assert found == ["r", "t", "1", "-", "-", "-"]
    assert layout_of(torch.ones(len(targets.label_N), 4), targets, in_head=True) == "n"
    assert not fits(torch.ones(1, 1, 5, 5), "r", targets) and fits(torch.ones(7), "-", targets)


@pytest.mark.parametrize("layout", ["r", "t", "n"])
def test_the_parts_of_rows_are_what_by_row_gives(layout):
    targets = Targets.of(padded((5, 3, 4)), torch.device("cpu"))
    sizes = {"r": (3, 5), "t": (15,), "n": (len(targets.label_N),)}
    tensor = torch.randn(*sizes[layout], 2)
    rows = by_row(tensor, layout, targets)
    for row in range(3):
        part = row_of(tensor, layout, row, targets).reshape(-1, 2)
        torch.testing.assert_close(rows[row][: len(part)], part)
        assert not rows[row][len(part) :].any()


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


@pytest.mark.skipif(int(hf.__version__.split(".")[0]) < 5, reason="experts are one parameter since transformers 5.0")
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
