import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import FAMILIES, padded, tiny

from hbo.rewards.gradients import gradient_norms_and_losses, settle
from hbo.rewards.norms import Uncovered
from hbo.rewards.observer import Observer
from hbo.scoring.targets import Targets


def mean_of_tokens(output, labels):
    return output.loss


def weighted_rows(output, labels):
    """Every row its own weight, as a trainer that averages over rows and scales for accumulation would give."""
    logits, wanted = output.logits[:, :-1].float(), labels[:, 1:]
    loss_BT = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
    return ((loss_BT.sum(1) / (wanted != -100).sum(1)) * torch.tensor([3.0, 1e-3, 700.0, 1.0])).sum()


def observed(model, batch, loss_of=mean_of_tokens, **options):
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    observer = Observer(model, inner, Targets.of(batch, torch.device("cpu")), settle(model, batch), **options)
    with observer:
        output = model(**batch)
        observer.forward_done()
        loss_of(output, batch["labels"]).backward()
        return observer.finish()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("loss_of", [mean_of_tokens, weighted_rows])
def test_norms_and_losses_of_a_training_batch_are_those_of_a_probe(family, loss_of):
    model, batch = tiny(family), padded()
    model.config.attention_dropout = model.config.attn_pdrop = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected_norm, expected_loss = gradient_norms_and_losses(model, batch)
    norm, loss = observed(model, batch, loss_of)
    torch.testing.assert_close(norm, expected_norm, rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen3"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_under_gradient_checkpointing(family, reentrant):
    model, batch = tiny(family), padded()
    expected, _ = gradient_norms_and_losses(model, batch)
    if reentrant:
        model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    norm, _ = observed(model, batch)
    torch.testing.assert_close(norm, expected, rtol=2e-4, atol=1e-6)


def test_of_lora_adapters_only():
    model = get_peft_model(tiny(), LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    batch = padded()
    expected, _ = gradient_norms_and_losses(model, batch)
    norm, _ = observed(model, batch)
    torch.testing.assert_close(norm, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_gets_the_very_same_gradients(checkpointing):
    model, batch = tiny("llama-tied"), padded()
    if checkpointing:
        model.gradient_checkpointing_enable()
    unseen = copy.deepcopy(model)
    unseen(**batch).loss.backward()
    observed(model, batch)
    seen = gradients(model)
    for name, gradient in gradients(unseen).items():
        assert torch.equal(gradient, seen[name]), name


def test_no_hook_stays_on_the_model():
    model = tiny()
    observed(model, padded())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_losses_alone():
    model, batch = tiny(), padded()
    _, expected = gradient_norms_and_losses(model, batch)
    _, loss = observed(model, batch, norms=False)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_a_row_without_target_has_no_norm_and_harms_no_other():
    model, batch = tiny(), padded()
    expected, _ = gradient_norms_and_losses(model, batch)
    batch["labels"][2] = -100
    norm, loss = observed(model, batch)
    assert norm[2].isnan() and loss[2].isnan()
    torch.testing.assert_close(norm[[0, 1, 3]], expected[[0, 1, 3]], rtol=2e-4, atol=1e-6)


def squared(output, labels):
    logits, wanted = output.logits[:, :-1], labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
    return loss.square().mean()


def test_another_loss_is_refused():
    with pytest.raises(Uncovered, match="isn't the mean of its target tokens"):
        observed(tiny(), padded(), squared)


def test_a_forward_without_backward_is_refused():
    with pytest.raises(Uncovered, match="no gradient"):
        observed(tiny(), padded(), lambda output, labels: torch.zeros((), requires_grad=True))


def test_slopes_that_overflow_give_no_number_and_no_refusal():
    def endless(output, labels):
        return output.loss * torch.tensor(float("inf"))

    norm, _ = observed(tiny(), padded(), endless)
    assert not norm.isfinite().any()


def test_in_bf16_autocast():
    model, batch = tiny(), padded()
    expected, _ = gradient_norms_and_losses(model, batch)
    forward = model.forward
    model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(forward)
    norm, _ = observed(model, batch)
    torch.testing.assert_close(norm, expected, rtol=0.05, atol=1e-3)
