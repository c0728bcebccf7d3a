"""The rewards of rows at their former place, kept for programs that name them so: `hbo.rewards.per_row`."""

from hbo.rewards.per_row import gradient_norm as gradient_norm
from hbo.rewards.per_row import ifd_ratio as ifd_ratio
from hbo.rewards.per_row import loss as loss
from hbo.rewards.per_row import loss_ratio as loss_ratio
from hbo.rewards.per_row import perplexity as perplexity
from hbo.rewards.per_row import perplexity_ratio as perplexity_ratio
from hbo.rewards.per_row import token_gradient_norm as token_gradient_norm
