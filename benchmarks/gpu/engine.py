"""The measuring engine as this benchmark calls it, with what is known of the model settled once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from hbo.rewards.gradients import gradient_norms_and_losses, looped_gradient_norms, settle

__all__ = ["Engine", "looped_gradient_norms"]


class Engine:
    """Gradient norms and losses of the rows of a batch.

    Make it under the autocast under which it will measure.

    Args:
        model: The model that is measured.
        batch: Any batch, to try the model on.
    """

    def __init__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> None:
        self.model = model
        self.facts = settle(model, batch)

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Norms (B,) and losses (B,)."""
        return gradient_norms_and_losses(self.model, batch, facts=self.facts)
