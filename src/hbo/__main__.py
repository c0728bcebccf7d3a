"""`hbo` and `python -m hbo`, so that torchrun and accelerate can launch the command line."""

import sys

from hbo.errors import ConfigError
from hbo.extras import check_extra


def hbo_command() -> None:
    """The command line, where what it is made of is installed; else one sentence and exit code 2."""
    try:
        check_extra("cli", "the command hbo")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    from hbo.cli import main

    main()


if __name__ == "__main__":
    hbo_command()
