"""Weights of a checkpoint under the names that it is saved with.

transformers saves some models as the Hub has them, each expert for itself, and fuses experts when it loads a model.
When its Trainer resumes, or loads the best checkpoint, it passes such names over without an error, and training goes on
with other experts than were saved.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel


def accept_stored_names(model: PreTrainedModel) -> None:
    """From here on `model.load_state_dict` takes weights under the names that `save_pretrained` gives them, too."""
    model.register_load_state_dict_pre_hook(_as_named_here)  # type: ignore[no-untyped-call]


def _as_named_here(model: Any, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    # Inside another model (PEFT's) the names begin with its own, and an adapter's checkpoint holds nothing of this one.
    if prefix or not state or state.keys() <= model.state_dict().keys():
        return
    loaded = type(model).from_pretrained(None, config=model.config, state_dict=dict(state), dtype=model.dtype)
    state.clear()
    state.update(loaded.state_dict())
