import math
from contextlib import nullcontext

import accelerate
import numpy as np
import pytest
import torch
import transformers as hf
from accelerate.utils import convert_outputs_to_fp32
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from tiny_models import GROUPED
from torch.nn.functional import cross_entropy

from hbo.scoring import head
from hbo.scoring.losses import per_example_loss, row_losses

FAMILIES = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, head_dim=8)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED, head_dim=8, final_logit_softcapping=0.5)),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**GROUPED, logit_scale=0.3)),
    "granite": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**GROUPED, logits_scaling=3.0)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
    ),
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2)),
    "xlm": lambda: hf.XLMWithLMHeadModel(hf.XLMConfig(vocab_size=97, emb_dim=32, n_layers=2, n_heads=4, causal=True)),
}  # fmt: skip


class NumberOnly(hf.LlamaForCausalLM):
    """Code from elsewhere, which knows `logits_to_keep` as a number."""

    def forward(self, input_ids=None, attention_mask=None, use_cache=None, logits_to_keep: int = 0):
        assert isinstance(logits_to_keep, int)
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)


FAMILIES["number only"] = lambda: NumberOnly(hf.LlamaConfig(**GROUPED))


def tiny(family="llama"):
    torch.manual_seed(0)
    model = FAMILIES[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def some_rows(lengths=(20, 3, 11, 7, 1), seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for n in lengths:
        ids = rng.integers(4, 97, n)
        rows.append({"input_ids": ids.tolist(), "labels": np.where(np.arange(n) < n // 3, -100, ids).tolist()})
    return rows


def padded(rows, left=False):
    longest = max(len(row["input_ids"]) for row in rows)

    def column(name, filler):
        return torch.tensor(
            [
                [filler] * (left * (gap := longest - len(row[name]))) + row[name] + [filler] * (gap * (not left))
                for row in rows
            ]
        )

    for row in rows:
        row["attention_mask"] = [1] * len(row["input_ids"])
    return {
        "input_ids": column("input_ids", 3),
        "attention_mask": column("attention_mask", 0),
        "labels": column("labels", -100),
    }


def one_at_a_time(model, rows):
    """The loss of each row, alone and without padding, straight from the definition."""
    found = []
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0].double().log_softmax(-1)
        at = [t for t in range(1, len(labels)) if labels[t] != -100]
        found.append(-sum(log_p[t - 1, labels[t]].item() for t in at) / len(at) if at else math.nan)
    return np.array(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_each_rows_own_mean_in_every_family(family):
    model, rows = tiny(family), some_rows()
    found = per_example_loss(model, padded(rows))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.detach(), one_at_a_time(model, rows), rtol=1e-4)
    assert found[-1].isnan()


@pytest.mark.parametrize("family", ["llama", "gemma2", "number only"])
def test_the_head_runs_on_targets_only(family):
    model, seen = tiny(family), []
    model.lm_head.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[:-1].numel()))
    batch = padded(some_rows())
    targets = int((batch["labels"][:, 1:] != -100).sum())
    per_example_loss(model, batch)
    assert seen == [targets]


def test_left_padding_changes_nothing():
    model, rows = tiny(), some_rows()
    expected = per_example_loss(model, padded(rows))
    torch.testing.assert_close(per_example_loss(model, padded(rows, left=True)), expected, equal_nan=True)


def test_the_loss_is_differentiable():
    model, rows = tiny(), some_rows((9, 5))
    weight = model.lm_head.weight
    found = torch.autograd.grad(per_example_loss(model, padded(rows)).sum(), weight)[0]
    expected = torch.zeros_like(weight)
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        expected += torch.autograd.grad(model(input_ids=ids, labels=labels).loss, weight)[0]
    torch.testing.assert_close(found, expected)


def test_rows_without_a_target_are_nan_and_cost_no_forward(llama, forwards):
    ids = torch.ones(2, 4, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": ids, "labels": torch.full_like(ids, -100)}
    assert per_example_loss(llama, batch).isnan().all()
    assert forwards == []


def test_a_large_head_is_worked_on_in_slices(monkeypatch):
    model, batch = tiny(), padded(some_rows())
    expected = per_example_loss(model, batch)
    monkeypatch.setattr(head, "_CPU_SLICE", 5 * 97)
    torch.testing.assert_close(per_example_loss(model, batch), expected, equal_nan=True)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked by PEFT
def test_wrapped_models_give_the_same_losses():
    rows = some_rows()
    expected = one_at_a_time(tiny(), rows)
    adapted = get_peft_model(tiny(), LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=["q_proj"])).eval()
    np.testing.assert_allclose(per_example_loss(adapted, padded(rows)).detach(), expected, rtol=1e-4)
    patched = tiny()
    patched.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(patched.forward))
    np.testing.assert_allclose(per_example_loss(patched, padded(rows)).detach(), expected, rtol=5e-2)
    prepared = accelerate.Accelerator(cpu=True).prepare(tiny())
    np.testing.assert_allclose(per_example_loss(prepared, padded(rows)).detach(), expected, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked by PEFT
def test_prompt_tuning_is_measured_behind_its_learned_tokens():
    tuned = get_peft_model(tiny(), PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4)).eval()
    rows = some_rows((9, 5))
    expected = []
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        logits = tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 4:]
        expected.append(cross_entropy(logits[:-1], labels[1:]).item())
    np.testing.assert_allclose(per_example_loss(tuned, padded(rows)).detach(), expected, rtol=1e-4)


@pytest.mark.parametrize("as_dataset", [True, False])
@pytest.mark.parametrize("budget", [1, 24, 10_000])
def test_losses_do_not_depend_on_the_batches(llama, as_dataset, budget):
    rows = some_rows((20, 3, 11, 7, 1, 11, 11, 2))
    data = Dataset.from_list(rows) if as_dataset else rows
    found = row_losses(llama, data, pad_token_id=0, token_budget=budget)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, one_at_a_time(llama, rows), rtol=1e-4)


def test_no_rows_have_no_losses(llama):
    assert row_losses(llama, Dataset.from_dict({"input_ids": [], "labels": []}), pad_token_id=0).shape == (0,)
    assert row_losses(llama, [], pad_token_id=0).shape == (0,)


def test_measuring_leaves_modes_alone_also_when_it_fails(llama):
    llama.train()
    llama.model.layers[0].eval()
    before = [module.training for module in llama.modules()]
    inside = []
    handle = llama.register_forward_pre_hook(lambda module, _: inside.append(module.training))
    row_losses(llama, some_rows(), pad_token_id=0)
    assert inside == [False]
    handle.remove()
    with pytest.raises(IndexError):
        row_losses(llama, [{"input_ids": [0, 9999], "labels": [0, 9999]}], pad_token_id=0)
    assert [module.training for module in llama.modules()] == before
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_progress_counts_rows(llama):
    told = []

    def track(phase, total):
        told.append((phase, total))
        return nullcontext(told.append)

    row_losses(llama, some_rows(), pad_token_id=0, token_budget=22, track=track, phase="reference")
    assert told[0] == ("reference", 5)
    assert sum(told[1:]) == 5
    assert len(told) > 2
