"""The configuration file's former place, kept for programs that import it from here: `hbo.config.file`."""

from hbo.config.file import dump as dump
from hbo.config.file import load as load
from hbo.config.file import parse as parse
