"""The L2 norm of each row's gradient: of its own mean loss over target tokens.

`hbo.rewards.norms` measures a whole padded batch in one pass, or one row at a time where it can't. `settle` finds out
beforehand which of the two; otherwise it is found out here. A warning says if it is one row at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from hbo.compat import eager
from hbo.errors import RewardError
from hbo.rewards.norms import Facts, Uncovered, facts_of
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.rewards.norms.settle import row_alone, with_other_sizes
from hbo.rewards.norms.squares import batched_pass, norm_of, squares_from, squares_of_row
from hbo.scoring.devices import device_of, is_whole
from hbo.scoring.targets import Targets


def per_example_gradient_norms(model: nn.Module, batch: Mapping[str, Tensor], *, facts: Facts | None = None) -> Tensor:
    """The norm (B,) of each row's gradient over all parameters that require one, in fp32.

    The gradient is that of the row's own mean loss over its target tokens, in eval mode (no dropout). A row without
    a target gets NaN. The model's gradients, modes, hooks and random streams are as before on return.

    Args:
        model: A causal language model, also wrapped by PEFT, accelerate or DistributedDataParallel.
        batch: `input_ids`, `attention_mask` and `labels`, each (B, T), padded on either side. Labels aren't shifted
            (the token at t is predicted at t − 1) and are −100 where not a target.
        facts: What `settle` returned for the model; absent: it is called now on a few rows of the batch, which takes
            longer than measuring a small batch.

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
    return gradient_norms_and_losses(model, batch, facts=facts)[0]


def gradient_norms_and_losses(
    model: nn.Module, batch: Mapping[str, Tensor], *, facts: Facts | None = None
) -> tuple[Tensor, Tensor]:
    """Each row's gradient norm (B,) and mean target loss (B,) in nats, from the same pass.

    As `per_example_gradient_norms`. If a batch shows that the facts are no longer true, it and all later ones are
    measured one row at a time, and `facts` is changed to say so.

    Raises:
        RewardError: No parameter requires a gradient, or the model doesn't return one logit vector per token.
        Uncovered: The facts are no longer true and the model is sharded, so all processes must change to single rows.
    """
    model = unwrapped(model)
    trainable_parameters(model)
    batch = with_other_sizes(batch)
    targets = Targets.of(batch, device_of(model))
    if not sum(targets.counts):
        if facts is not None and facts.batched and not is_whole(model):  # other processes wait at its layers
            ids = torch.zeros((1, 3), dtype=torch.long)
            any_batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
            gradient_norms_and_losses(model, any_batch, facts=facts)
        nothing = torch.full((len(targets.counts),), torch.nan, device=targets.device)
        return nothing, nothing.clone()
    facts = facts or settle(model, batch)
    if facts.batched:
        try:
            with eager(), left_as_found(model), torch.inference_mode(False), torch.enable_grad():
                found = batched_pass(model, targets, facts)
                square_B = found.recorder.total()
            return (square_B + 0 * found.loss_B).sqrt().float(), found.loss_B
        except Uncovered as finding:
            if not is_whole(model):
                raise
            facts.batched, facts.why = False, str(finding)
            warnings.warn(facts.sentence(), stacklevel=2)
    return _looped(model, targets)


def settle(model: nn.Module, batch: Mapping[str, Tensor], agree: Callable[[Any], Any] = lambda found: found) -> Facts:
    """Finds out on a few rows how to measure the model's gradient norms; warns if it is the slow way.

    Args:
        model: As in `per_example_gradient_norms`.
        batch: As in `per_example_gradient_norms`; short rows are best.
        agree: With several processes, turns what this one found into what all use; all must be given the same rows.

    Raises:
        RewardError: No parameter requires a gradient, no row has a target, or the model doesn't return one logit
            vector per token.
    """
    model = unwrapped(model)
    trainable_parameters(model)
    with eager():
        facts = facts_of(model, batch, agree)
    if not facts.batched:
        warnings.warn(facts.sentence(), stacklevel=2)
    return facts


def looped_gradient_norms(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The same norms (B,) as `per_example_gradient_norms`, by autograd, one row at a time.

    Raises:
        RewardError: No parameter requires a gradient, or the model doesn't return one logit vector per token.
    """
    model = unwrapped(model)
    trainable_parameters(model)
    return _looped(model, Targets.of(batch, device_of(model)))[0]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without what would wait for other ranks (DistributedDataParallel), or was compiled without hooks."""
    inner: nn.Module = extract_model_from_parallel(model, keep_torch_compile=False)
    return inner


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient.

    Raises:
        RewardError: There is none, or they aren't in memory.
    """
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise RewardError(
            "the model has no trainable parameter, so there is no gradient to measure; "
            "unfreeze some, or choose another global_reward"
        )
    if any(parameter.is_meta for parameter in found):
        raise RewardError(
            "trainable parameters of the model are offloaded to the CPU or the disk, so there is no gradient to "
            "measure; load the model with a device_map that keeps them on a device, or choose another global_reward"
        )
    return found


def _looped(model: nn.Module, targets: Targets) -> tuple[Tensor, Tensor]:
    norm_B = torch.full((len(targets.counts),), torch.nan, device=targets.device)
    loss_B = norm_B.clone()
    with eager(), left_as_found(model), torch.inference_mode(False), torch.enable_grad():
        for row, count in enumerate(targets.counts):
            if count:
                squares, loss_B[row] = squares_of_row(model, row_alone(targets, row))
                norm_B[row] = norm_of(squares, targets.device)
    return norm_B, loss_B


def gradient_norm_of(value: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The norm () of the gradient of `value`, in fp32; 0 where no parameter had a part."""
    named = {str(number): parameter for number, parameter in enumerate(parameters)}
    return norm_of(squares_from(value, named), value.device).float()
