"""Per-row gradient norms in one backward: a self-standing engine.

    settle(model, batch) -> Facts           how this model is measured, found out once (`hbo.rewards.norms.settle`)
    batched_pass(model, targets, facts)     one forward and one backward (`hbo.rewards.norms.batched`)
    squares_of_row(model, targets, row)     by plain autograd (`hbo.rewards.norms.loop`)
    register(LayerClass, rule)              a rule of your own (`hbo.rewards.norms.layers`)

Its door is `hbo.rewards.gradients`.
"""

from hbo.rewards.norms.facts import Facts, Uncovered
from hbo.rewards.norms.layers import register
from hbo.rewards.norms.outer_products import Outer
from hbo.rewards.norms.settle import settle

__all__ = ["Facts", "Outer", "Uncovered", "register", "settle"]
