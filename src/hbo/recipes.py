"""Where `METHODS` stood before; it lives in `hbo.config`."""

from hbo.config import METHODS as METHODS
