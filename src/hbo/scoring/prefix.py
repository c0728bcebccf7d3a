"""What all rows of a batch begin with is run once, not once per row.

Chat templates put the same tokens before every row (a system prompt, the turn's opening), and all responses scored
without their instruction stand after the very same opening. The keys and values of these tokens are those of a prefix,
whatever follows, so one pass over it serves the whole batch.

Letters: B rows of a batch, P tokens of the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from hbo.compat import cache_of
from hbo.data.tokens import predicts_target
from hbo.scoring.batches import TokenRow, pad
from hbo.scoring.devices import device_of
from hbo.scoring.losses import Scorer

_WORTHWHILE = 64  # tokens saved per batch, below which the pass over the prefix costs more
_TOLERANCE = {False: 1e-3, True: 5e-2}  # relative; True: in bf16 or fp16, where rounding alone is that large


def shared_prefix(rows: Sequence[TokenRow]) -> int:
    """How many tokens all rows begin with, before the token that predicts the first target of any.

    Example:
        >>> one = np.array([5, 6, 7, 8]), np.array([-100, -100, -100, 8])
        >>> two = np.array([5, 6, 7, 9]), np.array([-100, -100, -100, 9])
        >>> shared_prefix([one, two])
        2
    """
    # The token before the first target predicts it, and so has to be run with its row. argmax of a row without a
    # target is 0: it has no prefix that could be shared.
    most = min(int(predicts_target(labels).argmax()) if len(labels) > 1 else 0 for _, labels in rows)
    start_BP = np.stack([ids[:most] for ids, _ in rows])
    differs_P = (start_BP != start_BP[0]).any(axis=0)
    return int(np.argmax(differs_P)) if differs_P.any() else most


class PrefixScorer:
    """The losses of batches under one model, each batch's shared prefix run once.

    That is tried only with a model that keeps plain keys and values of every token (no sliding window, no recurrent
    state), and given up for good when the first row comes out otherwise than without it, or anything goes wrong.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._scorer = Scorer(model)
        # Code from elsewhere may make something else of a cache.
        inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
        self._works = type(inner).__module__.startswith("transformers.")
        self._is_checked = False
        self._ids = np.empty(0, dtype=np.int64)
        self._cache = DynamicCache()

    @torch.no_grad()
    def losses(self, rows: Sequence[TokenRow], pad_token_id: int) -> np.ndarray:
        """The losses (B,) of these rows as one batch, in fp64."""
        P = shared_prefix(rows) if self._works else 0
        if P * (len(rows) - 1) < _WORTHWHILE or not self._knows(rows[0][0][:P]):
            return self._plain(rows, pad_token_id)
        # What is left of the rows, behind keys and values that are the same for all: `expand` copies nothing.
        batch = pad([(ids[P:], labels[P:]) for ids, labels in rows], pad_token_id)
        batch["attention_mask"] = torch.nn.functional.pad(batch["attention_mask"], (P, 0), value=1)
        shared = [(layer.keys, layer.values) for layer in self._cache.layers]
        cache = cache_of([tuple(kept.expand(len(rows), -1, -1, -1) for kept in layer) for layer in shared])
        try:
            loss_B: np.ndarray = self._scorer.losses(batch, cache).cpu().double().numpy()
        except Exception:  # whatever a model makes of a cache that it isn't used to
            self._works = False
            return self._plain(rows, pad_token_id)
        if not self._is_checked:
            # One row without the prefix tells whether the model's own cache gives what its whole forward does.
            self._is_checked = True
            tolerance = _TOLERANCE[cache.layers[0].keys.dtype.itemsize < 4]
            self._works = bool(np.isclose(loss_B[0], self._plain(rows[:1], pad_token_id)[0], rtol=tolerance, atol=1e-3))
            return loss_B if self._works else self._plain(rows, pad_token_id)
        return loss_B

    def _plain(self, rows: Sequence[TokenRow], pad_token_id: int) -> np.ndarray:
        found: np.ndarray = self._scorer.losses(pad(rows, pad_token_id)).cpu().double().numpy()
        return found

    def _knows(self, ids_P: np.ndarray) -> bool:
        """Runs the prefix unless it is that of the batch before; False if the model keeps something else of it."""
        if not np.array_equal(ids_P, self._ids):
            device = device_of(self._model)
            try:
                found = self._model(
                    input_ids=torch.tensor(ids_P, device=device)[None], use_cache=True, logits_to_keep=1
                )
            except Exception:
                self._works = False
                return False
            kept: Any = getattr(found, "past_key_values", None)
            self._works = type(kept) is DynamicCache and all(
                type(layer) is DynamicLayer and layer.get_seq_length() == len(ids_P) for layer in kept.layers
            )
            if not self._works:
                return False
            self._ids, self._cache = ids_P, kept
        return self._works
