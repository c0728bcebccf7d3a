"""The command line's own help, where a page says `<!-- hbo --help -->`."""

from __future__ import annotations

from typing import Any

MARK = "<!-- hbo --help -->"

__all__ = ["commands", "on_page_markdown"]


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    import typer

    from hbo.cli import app

    parts = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        context = typer.Context(command, info_name=f"hbo {name}", terminal_width=88, max_content_width=88)
        parts.append(f"## hbo {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs hands over the text of a page."""
    return markdown.replace(MARK, commands()) if MARK in markdown else markdown
