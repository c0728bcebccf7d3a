"""A model measured, then handed back as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from hbo.compat import FSDPModule
from hbo.scoring.devices import is_partitioned


def resharded(model: nn.Module) -> None:
    """Has FSDP take back the weights that it left whole after a forward without a backward.

    The head's are, and until then the model's parameters aren't those that get the gradients.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def seed_all(seed: int) -> None:
    """Starts all random streams that `left_as_found` restores."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the legacy stream
    torch.manual_seed(seed)


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and afterwards everything as before, also when the body raises.

    Restored: train or eval mode of every submodule, `requires_grad` and `.grad` of every parameter (the very same
    tensors, bit for bit), and the random streams of torch (CPU and CUDA), Python and numpy. Inside, every `.grad` is
    None, so that a backward pass of the body can't add to the gradients of a training step.

    Example:
        >>> layer = nn.Dropout(0.5)
        >>> with left_as_found(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    resharded(model)  # so that the parameters below are those that get the gradients
    modes = [(module, module.training) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    listeners = [(module, module._backward_hooks) for module in model.modules()] if is_partitioned(model) else []
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy stream too
    try:
        for parameter, _, _ in parameters:
            parameter.grad = None
        for module, hooks in listeners:  # DeepSpeed would take the gradients of experts for those of training
            module._backward_hooks = type(hooks)()
        model.eval()
        yield
    finally:
        resharded(model)
        for module, hooks in listeners:
            module._backward_hooks = hooks
        for module, mode in modes:
            module.training = mode  # not .train(mode), which would reach into the children
        for parameter, wanted, grad in parameters:
            parameter.requires_grad_(wanted)
            parameter.grad = grad
        # Under autocast, copies of weights that were made without gradients would be taken for training too.
        torch.clear_autocast_cache()
        torch.set_rng_state(streams[0])
        random.setstate(streams[1])
        np.random.set_state(streams[2])  # noqa: NPY002
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
