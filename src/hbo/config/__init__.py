"""What a user writes: small frozen models, one per part of the YAML file, and what they choose from."""

from hbo.config.balance import METHODS, HBOConfig
from hbo.config.run import RunConfig

__all__ = ["METHODS", "HBOConfig", "RunConfig"]
