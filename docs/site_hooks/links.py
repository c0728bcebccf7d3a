"""Pages of the site that lie outside of docs/, and links to them that hold in the repository and in the site.

README.md is the site's first page. A file that a page links to outside of docs/ (an example, a recipe, the licence)
becomes a page too: Markdown as it is, anything else as a listing.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HOME = "README.md"
ALWAYS = (HOME, "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".cff": "yaml"}

__all__ = ["in_site", "linked", "on_files", "on_page_markdown", "outside", "rewritten"]


def linked(text: str, place: str) -> list[str]:
    """Repository paths of the files that the page at `place` links to."""
    found = []
    for _, target, _ in LINK.findall(text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        if ":" not in target and not path.startswith("..") and (ROOT / path).is_file():
            found.append(path)
    return found


def outside(pages: list[str]) -> list[str]:
    """Repository paths of the files outside of docs/ that the site needs, those that they link to included."""
    found, waiting = list(ALWAYS), [*ALWAYS, *(f"docs/{page}" for page in pages)]
    while waiting:
        place = waiting.pop()
        if not place.endswith(".md"):
            continue
        for path in linked((ROOT / place).read_text(encoding="utf-8"), place):
            if not path.startswith("docs/") and path not in found:
                found.append(path)
                waiting.append(path)
    return sorted(found)


def in_site(path: str) -> str:
    """Where a file of the repository stands among the site's sources."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == HOME:
        return "index.md"
    return path if path.endswith(".md") else f"{path}.md"


def rewritten(text: str, place: str) -> str:
    """The page at `place` with its links to files as the site needs them."""

    def moved(match: re.Match[str]) -> str:
        if not (paths := linked(match[0], place)):
            return match[0]  # an address, or a file that isn't there: mkdocs says so
        here = posixpath.dirname(in_site(place))
        return match[1] + posixpath.relpath(in_site(paths[0]), here or ".") + match[3]

    return LINK.sub(moved, text)


def listing(path: str) -> str:
    """A page that shows a file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    fence = "`" * 6
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n{fence}{language}\n{text}\n{fence}\n"


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """mkdocs asks which files the site has."""
    from mkdocs.structure.files import File, InclusionLevel

    in_nav = str(config.nav)
    pages = [file.src_uri for file in files.documentation_pages()]
    for path in outside(pages):
        content = (ROOT / path).read_text(encoding="utf-8") if path.endswith(".md") else listing(path)
        level = InclusionLevel.INCLUDED if f"'{in_site(path)}'" in in_nav else InclusionLevel.NOT_IN_NAV
        file = File.generated(config, in_site(path), content=content, inclusion=level)
        _PLACES[file.src_uri] = path
        files.append(file)
    return files


_PLACES: dict[str, str] = {}  # the site's source → the file of the repository, for those outside of docs/


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs hands over the text of a page."""
    uri = page.file.src_uri
    return rewritten(markdown, _PLACES.get(uri, f"docs/{uri}"))
