"""How hard each row pulls at the model: the L2 norm of the gradient of its own mean target loss.

One batched pass gives the exact norms of a whole padded batch (`hbo.rewards.ghost`). A model with a trainable
parameter that no batched rule covers is measured one row at a time, and a warning names the parameter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hbo.errors import RewardError
from hbo.rewards.ghost import Uncovered, batched_square_norms
from hbo.rewards.outer import widened
from hbo.rewards.targets import HeadOnTargets, Targets, losses_and_slope, target_logits
from hbo.rewards.untouched import left_as_found

# The parameter for which a model is measured one row at a time: warned of once, and not tried again.
_uncovered: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def per_example_gradient_norms(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The norm (B,) of each row's gradient over all parameters that require one, in fp32.

    The gradient is that of the row's own mean loss over its target tokens, in eval mode (no dropout). A row without
    a target gets NaN. The model's gradients, modes, hooks and random streams are as before on return.

    Args:
        model: A causal language model, also wrapped by PEFT, accelerate or DistributedDataParallel.
        batch: `input_ids`, `attention_mask` and `labels`, each (B, T), padded on either side. Labels aren't shifted
            (the token at t is predicted at t − 1) and are −100 where not a target.

    Raises:
        RewardError: No parameter requires a gradient, or the model doesn't return one logit vector per token.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(
        ...     vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
        ... )
        >>> ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
        >>> batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        >>> per_example_gradient_norms(LlamaForCausalLM(config), batch).shape
        torch.Size([2])
    """
    return gradient_norms_and_losses(model, batch)[0]


def gradient_norms_and_losses(
    model: nn.Module, batch: Mapping[str, Tensor], *, passes: int = 0
) -> tuple[Tensor, Tensor]:
    """Each row's gradient norm (B,) and mean target loss (B,) in nats, from the same pass.

    As `per_example_gradient_norms`, which see.

    Args:
        model: As there.
        batch: As there.
        passes: If rows have to be measured one at a time, make at least so many passes; a sharded model needs the
            same number in all processes, whose batches may have more rows.

    Raises:
        RewardError: No parameter requires a gradient, or the model doesn't return one logit vector per token.
    """
    model, targets = _prepare(model, batch)
    if not sum(targets.counts):
        nothing = torch.full((len(targets.counts),), torch.nan, device=targets.before_BT.device)
        return nothing, nothing.clone()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if _uncovered.get(model) in trainable:
        return _looped(model, targets, passes)
    try:
        with left_as_found(model), torch.inference_mode(False), torch.enable_grad():
            square_B, loss_B = batched_square_norms(model, targets)
    except Uncovered as finding:
        _uncovered[model] = finding.parameter
        warnings.warn(f"gradient norms are measured one row at a time, which is slower: {finding}", stacklevel=2)
        return _looped(model, targets, passes)
    return (square_B + 0 * loss_B).clamp(min=0).sqrt().float(), loss_B


def is_covered(model: nn.Module) -> bool:
    """Whether the batched rules cover the model, as far as it has been measured.

    Raises:
        Nothing.
    """
    return extract_model_from_parallel(model, keep_torch_compile=False) not in _uncovered


def looped_gradient_norms(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The same norms (B,) as `per_example_gradient_norms`, by autograd, one row at a time.

    Raises:
        RewardError: No parameter requires a gradient, or the model doesn't return one logit vector per token.
    """
    return _looped(*_prepare(model, batch))[0]


def _prepare(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[nn.Module, Targets]:
    # DistributedDataParallel would wait for the other ranks, and a compiled model for hooks it was compiled without.
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    trainable_parameters(model)
    return model, Targets.of(batch, next(model.parameters()).device)


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient.

    Raises:
        RewardError: There is none.
    """
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise RewardError(
            "the model has no trainable parameter, so there is no gradient to measure; "
            "unfreeze some, or choose another global_reward"
        )
    return found


def _looped(model: nn.Module, targets: Targets, passes: int = 0) -> tuple[Tensor, Tensor]:
    norm_B = torch.full((len(targets.counts),), torch.nan, device=targets.before_BT.device)
    loss_B = norm_B.clone()
    measured = [r for r, count in enumerate(targets.counts) if count]
    measured += measured[-1:] * (passes - len(measured))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if any(isinstance(parameter, DTensor) for parameter in parameters):
        raise RewardError(
            f"the gradient norms of a sharded model need a batched rule for each of its parameters, and "
            f"'{_uncovered.get(model)}' has none; train without FSDP, or choose another global_reward"
        )
    with left_as_found(model), torch.inference_mode(False), torch.enable_grad():
        for r in measured:
            norm_B[r], loss_B[r] = _one_row(model, targets.row(r), parameters)
    return norm_B, loss_B


def _one_row(model: nn.Module, row: Targets, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    with HeadOnTargets(model, row.before_BT):
        logits_NV = target_logits(model, row)
    loss_B, slope_NV = losses_and_slope(logits_NV.detach(), row)
    return gradient_norm_of(logits_NV, parameters, slope_NV), loss_B[0]


def gradient_norm_of(value: Tensor, parameters: Sequence[nn.Parameter], slope: Tensor | None = None) -> Tensor:
    """The norm () of the gradient of `value` (of `(value · slope).sum()`), in fp32; 0 where no parameter had a part.

    Raises:
        Nothing.
    """
    square = torch.zeros((), device=value.device)
    if value.requires_grad:
        for gradient in torch.autograd.grad(value, parameters, slope, allow_unused=True):
            if gradient is not None:
                dense = gradient.to_dense() if gradient.is_sparse else gradient
                # vector_norm loses digits on large weights; a model split over devices has its gradients there
                square += widened(dense).square().sum().to(square.device)
    return square.sqrt().float()
