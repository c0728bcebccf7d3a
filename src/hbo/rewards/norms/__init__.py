"""Per-row gradient norms in one backward: a self-standing engine.

    facts_of(model, batch, agree) -> Facts  how this model is measured, found out once (`settle`)
    batched_pass(model, targets, facts)     one forward and one backward of a batch (`squares`)
    squares_of_row(model, targets, row)     a row by plain autograd (`squares`)
    register(LayerClass, rule)              a rule of your own (`layers`)

Its door is `hbo.rewards.gradients`.
"""

from hbo.rewards.norms.facts import Facts, Uncovered
from hbo.rewards.norms.layers import register
from hbo.rewards.norms.outer_products import Outer
from hbo.rewards.norms.settle import facts_of

__all__ = ["Facts", "Outer", "Uncovered", "facts_of", "register"]
