"""Promises about the prose: the keys, names and links in it exist."""

import re

import pytest
from prose import PAGES, ROOT

from hbo.config import HBOConfig, RunConfig
from hbo.config.balance import ActorConfig
from hbo.config.data import DatasetConfig, DifficultyConfig, MixtureConfig


@pytest.mark.parametrize("section", [RunConfig, MixtureConfig, DatasetConfig, DifficultyConfig, HBOConfig, ActorConfig])
def test_every_key_is_documented_with_its_default(section):
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", chapter(section), re.MULTILINE))
    documented = {key: default.strip("` ") for key, default in rows.items()}
    expected = {key: shown_default(field) for key, field in section.model_fields.items()}
    if section is HBOConfig:
        del expected["temperature"]  # written under `mixture:`
        expected |= {"global": "true", "local": "true"}
    assert documented == expected


def chapter(section):
    titles = {
        RunConfig: "Top level", MixtureConfig: "mixture", DatasetConfig: "One dataset",
        DifficultyConfig: "difficulty", HBOConfig: "balance", ActorConfig: "balance.actor",
    }  # fmt: skip
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^##+ `?{re.escape(titles[section])}`?:?\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    return found


def shown_default(field):
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return "see below"
    return f"{value:.1e}".replace("e-0", "e-") if isinstance(value, float) and 0 < value < 1e-3 else str(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [ROOT / "docs" / "paper.md"], ids=lambda page: page.name)
def test_every_name_in_the_table_of_equations_exists(page):
    import importlib

    for name in re.findall(r"`(hbo(?:\.\w+)+)`", page.read_text(encoding="utf-8")):
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:cut]))
                break
            except ModuleNotFoundError:
                continue
        for part in parts[cut:]:
            found = getattr(found, part)
