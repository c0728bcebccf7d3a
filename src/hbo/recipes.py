"""Where `METHODS` stood before; it lives in `hbo.config.methods`."""

from hbo.config.methods import METHODS as METHODS
