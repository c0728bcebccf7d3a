"""The Markdown of the project: its pages, the blocks of code in them, and the commands in those.

A block that can't be run here says why in the line above it, which no reader of the page sees:
`<!-- not run: needs two hosts -->`.
"""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "examples", "recipes", "benchmarks")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^ *(?P=fence)$", re.DOTALL | re.MULTILINE
)
FENCE_LINE = re.compile(r"^ *(?:`{3,}|~{3,})", re.MULTILINE)  # the other kind of fence is not looked into: not used
MARK = re.compile(r"<!-- not run: (.+?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block; `unrun` is the reason why it isn't run, if its page gives one."""

    page: str
    line: int
    language: str
    text: str
    unrun: str | None = None

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(page, text):
    """Every fenced block of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        mark = MARK.search(before)
        code = textwrap.dedent(match["text"])
        found.append(Block(page, before.count("\n") + 1, match["language"].strip(), code, mark[1] if mark else None))
    # A fence that is never closed, or is closed elsewhere than it seems, would hide the blocks below it.
    inside = sum(len(FENCE_LINE.findall(block.text)) for block in found)
    assert len(FENCE_LINE.findall(text)) == 2 * len(found) + inside, f"{page}: a fence of a block is never closed"
    return found


def blocks(*languages):
    """The blocks of all pages in these languages, those that say why they aren't run left out; all of them for none."""
    found = [block for page in PAGES for block in blocks_of(page.relative_to(ROOT).as_posix(), page.read_text("utf-8"))]
    return [block for block in found if not languages or (block.language in languages and block.unrun is None)]


def command_lines(text):
    """Each command of a shell block as its words, without comments; a line that ends in a backslash goes on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def called(words):
    """What a command runs and its arguments, behind variables and launchers: `torchrun … -m hbo check` is `hbo check`."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if "-m" in words and words[0] in ("python", "torchrun", "accelerate"):
        words = words[words.index("-m") + 1 :]
    return words[0], words[1:]
