"""The methods' former place, kept for programs that import them from here: `hbo.config.balance`."""

from hbo.config.balance import METHODS as METHODS
