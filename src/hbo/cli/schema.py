"""`hbo schema`: what editors complete and check a configuration by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hbo.cli.console import tell


def schema_command(
    output: Annotated[Path | None, typer.Option("--output", help="File to write; absent: it is printed.")] = None,
) -> None:
    """Print the JSON schema of a configuration, for editors."""
    from hbo.atomic import write_file
    from hbo.config.schema import SCHEMA

    text = SCHEMA.read_text(encoding="utf-8")
    if output is None:
        tell(text.rstrip())
    else:
        tell(f"written {write_file(output, text, 'the schema', '--output')}")
