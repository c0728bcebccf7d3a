"""HBO inside a trainer: sampler, callback, and a whole run."""
