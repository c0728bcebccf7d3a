"""Promises about the site: its pages and links hold, nothing public is missing in the reference, formulas are drawn."""

import importlib.util
import posixpath
import re
import sys

import pytest
import yaml
from prose import ROOT

import hbo

DOCS = ROOT / "docs"


def hook(name):
    """A file of docs/site_hooks, which are no package."""
    spec = importlib.util.spec_from_file_location(f"site_hooks_{name}", DOCS / "site_hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LINKS = hook("links")
PAGES = [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))]
OUTSIDE = LINKS.outside(PAGES)


class Configuration(yaml.SafeLoader):
    """mkdocs.yml names Python objects, which are passed over."""


Configuration.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
SITE = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Configuration)


def named(nav):
    """Every page of the navigation."""
    for entry in nav:
        for value in entry.values():
            yield from named(value) if isinstance(value, list) else [value]


@pytest.mark.parametrize("place", [*OUTSIDE, *(f"docs/{page}" for page in PAGES)])
def test_every_link_of_the_site_leads_to_a_page_of_it(place):
    known = {LINKS.in_site(path) for path in OUTSIDE}
    if not place.endswith(".md"):
        return
    text = LINKS.rewritten((ROOT / place).read_text(encoding="utf-8"), place)
    for _, target, _ in LINKS.LINK.findall(text):
        if ":" in target:
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(LINKS.in_site(place)), target))
        assert path in known or (DOCS / path).is_file(), target


def test_links_out_of_docs_become_pages():
    text = "[a](../examples/dpo.py#x) [b](../README.md) [c](method.md) [d](https://x.org/y) [e](../none.py)"
    assert LINKS.rewritten(text, "docs/faq.md") == (
        "[a](examples/dpo.py.md#x) [b](index.md) [c](method.md) [d](https://x.org/y) [e](../none.py)"
    )
    assert LINKS.rewritten("[a](docs/faq.md) [b](LICENSE)", "README.md") == "[a](faq.md) [b](LICENSE.md)"
    assert LINKS.rewritten("[a](../../docs/faq.md)", "examples/distributed/README.md") == "[a](../../faq.md)"
    assert {"README.md", "examples/dpo.py", "examples/distributed/ddp.yaml", "LICENSE"} <= set(OUTSIDE)


def test_the_navigation_names_every_page_once():
    pages = list(named(SITE["nav"]))
    assert len(pages) == len(set(pages))
    assert set(PAGES) - set(pages) == set()
    assert set(pages) - set(PAGES) == {"index.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/distributed/README.md"}


def test_a_page_that_fetches_from_another_host_is_noticed():
    offline = hook("offline")
    page = '<a href="https://x.org">x</a><script src="assets/a.js"></script><link rel="stylesheet" href="../b.css">'
    assert offline.fetched(page) == []
    page += '<script async src="https://cdn.org/c.js"></script><img alt="" src="//d.org/e.png">'
    assert offline.fetched(page) == ["https://cdn.org/c.js", "//d.org/e.png"]
    assert "docs/site_hooks/offline.py" in SITE["hooks"] and SITE["theme"]["font"] is False


def test_the_reference_has_every_public_name():
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    assert {f"hbo.{name}" for name in hbo.__all__} - shown == {"hbo.METHODS"}  # a table, told of by hbo.config.methods
    for name in shown:
        found = sys.modules["hbo"]
        for part in name.split(".")[1:]:
            found = getattr(found, part, None) or importlib.import_module(f"{found.__name__}.{part}")


def test_the_command_line_shows_every_option():
    text = hook("commands").on_page_markdown("# x\n\n<!-- hbo --help -->\n")
    assert {"## hbo init", "## hbo train", "## hbo compare"} <= set(text.splitlines())
    for option in ("--dry-run", "--resume", "--overwrite", "--vary", "--step"):
        assert option in text


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml", reason="in the extra 'docs' only; `make docs` needs it")
    text = hook("formulas").drawn(
        '<p><span class="arithmatex">\\(a &lt; b_1\\)</span></p><div class="arithmatex">\\[x\\]</div>'
    )
    assert "arithmatex" not in text and text.count("<math") == 2 and 'display="block"' in text
    assert "<msub><mi>b</mi><mn>1</mn></msub>" in text
