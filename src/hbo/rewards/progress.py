"""The former place of `hbo.rewards.per_row`, kept for programs that still use this name."""

from hbo.rewards.per_row import gradient_norm as gradient_norm
from hbo.rewards.per_row import ifd_ratio as ifd_ratio
from hbo.rewards.per_row import loss as loss
from hbo.rewards.per_row import loss_ratio as loss_ratio
from hbo.rewards.per_row import perplexity as perplexity
from hbo.rewards.per_row import perplexity_ratio as perplexity_ratio
from hbo.rewards.per_row import token_gradient_norm as token_gradient_norm
