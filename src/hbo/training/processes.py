"""What all processes must agree on: sums of what each has measured, and one ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils import reduce as reduce_tensor
from numpy.typing import NDArray
from peft import PeftModel

from hbo.core.ledger import Ledger
from hbo.errors import HBOError
from hbo.scoring.head import output_layer
from hbo.scoring.processes import Processes

Floats = NDArray[np.float64]
T = TypeVar("T")


def sum_over(accelerator: Accelerator | PartialState) -> Callable[[Floats], Floats]:
    """A function that sums an array over all processes, in fp64."""

    def total(array: Floats) -> Floats:
        if accelerator.num_processes == 1:
            return array
        # float64 exists on every backend that trains in processes, except MPS, which has only one.
        summed = reduce_tensor(torch.from_numpy(array).to(accelerator.device), reduction="sum")
        result: Floats = summed.cpu().numpy()
        return result

    return total


def from_first(accelerator: Accelerator | PartialState, value: T) -> T:
    """What the first process holds, in every process."""
    if accelerator.num_processes == 1:
        return value
    shared: T = broadcast_object_list([value])[0]
    return shared


def all_processes() -> Processes:
    """Those that were launched together; to be called when the training arguments have set up their device."""
    return processes_of(PartialState())


def processes_of(state: Accelerator | PartialState) -> Processes:
    """Those of an accelerator."""
    return Processes(state.process_index, state.num_processes, sum_over(state), lambda value: from_first(state, value))


def tell_of_head(model: Any) -> None:
    """Tells DeepSpeed ZeRO-3 that the model's forward reads the head's weight outside of the head's own call.

    TRL's loss does. DeepSpeed would find out in the first training step, if the weight isn't whole then; after a
    measurement it may have been fetched already, is let go again, and missing in the backward.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    head = output_layer(inner)
    if head is not None and hasattr(getattr(head, "weight", None), "ds_id"):
        import deepspeed  # type: ignore[import-not-found]

        for parameter in head.parameters(recurse=False):
            deepspeed.zero.register_external_parameter(inner, parameter)


def check_same(accelerator: Accelerator, ledger: Ledger, step: int) -> None:
    """Stops the run when the processes no longer hold the same ledger.

    Raises:
        HBOError: They don't; training on would draw different mixtures.
    """
    if accelerator.num_processes > 1 and len(set(gather_object([ledger.digest()]))) > 1:
        raise HBOError(
            f"the processes disagree about the sampling probabilities at step {step}; check that all of them run the "
            "same code on the same data, then resume from the last checkpoint"
        )
