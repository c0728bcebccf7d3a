"""The actor's former place, kept for programs that import it from here: `hbo.config.balance`."""

from hbo.config.balance import ActorConfig as ActorConfig
