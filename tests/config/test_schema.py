"""The JSON schema takes what hbo takes, and refuses what it refuses, as far as a schema can."""

import json
import math
import re
from pathlib import Path

import pydantic
import pytest
import yaml

from hbo.config.schema import SCHEMA, schema

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
HELD = json.loads(SCHEMA.read_text(encoding="utf-8"))
PYDANTIC = tuple(map(int, pydantic.VERSION.split(".")[:2]))
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def problems(value, part, whole, path="run"):
    """Why a value isn't as the schema says; only of the schema's words that ours has."""
    if "$ref" in part:
        part = whole["$defs"][part["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in part and all(list(problems(value, each, whole)) for each in part["anyOf"]):
        yield f"{path}: none of the kinds"
    if "enum" in part and value not in part["enum"]:
        yield f"{path}: {value}"
    if (kind := part.get("type")) is not None and not is_kind(value, kind):
        yield f"{path}: {value!r} is no {kind}"
        return
    if isinstance(value, dict) and part.get("type") == "object":
        known = part.get("properties", {})
        yield from (f"{path}.{key}: missing" for key in part.get("required", ()) if key not in value)
        for key, each in value.items():
            other = part.get("additionalProperties", True)
            if key not in known and other is False:
                yield f"{path}.{key}: unknown"
            elif key in known or isinstance(other, dict):
                yield from problems(each, known.get(key, other), whole, f"{path}.{key}")
    if isinstance(value, list) and "items" in part:
        for each in value:
            yield from problems(each, part["items"], whole, path)
    if isinstance(value, str) and not re.search(part.get("pattern", ""), value):
        yield f"{path}: {value}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < part.get("minimum", value) or value > part.get("maximum", value):
            yield f"{path}: {value}"
        if value <= part.get("exclusiveMinimum", -math.inf) or value > part.get("exclusiveMaximum", math.inf):
            yield f"{path}: {value}"


def is_kind(value, kind):
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind])


def found(text):
    return list(problems(yaml.safe_load(text), HELD, HELD))


@pytest.mark.skipif(PYDANTIC < (2, 11), reason="pydantic writes all that the file says since 2.11")
def test_the_file_that_is_installed_is_the_schema_of_today():
    assert schema() == HELD, "write it anew: python -m hbo.config.schema"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.name)
def test_every_recipe_is_valid(recipe):
    assert found(recipe.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "{model: m, mixture: {datasets: [a.jsonl, {path: b.jsonl, weight: 2}]}}",
        "{model: m, mixture: {datasets: {a: a.jsonl}, temperature: .inf}, balance: {local: false}}",
        "{model: m, mixture: {datasets: {a: a.jsonl}}, balance: {update_every: {global: 5, local: 7}}}",
        "{model: m, mixture: {datasets: {a: {path: a, roles: {user: [human, h]}, where: {l: [a, b]}}}}}",
        "{model: m, mixture: {datasets: {a: a}}, train: {whatever: 1}, lora: {r: 8, other: x}}",
        "{model: m, mixture: {datasets: {a: a}}, balance: {global_reward: 'my.rewards:mine', local_reward: null}}",
    ],
)
def test_what_may_be_written_for_short_is_valid(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{mixture: {datasets: {a: a}}}", "model: missing"),
        ("{model: m, mixture: {datasets: {a: a}}, balnce: {}}", "balnce: unknown"),
        ("{model: m, mixture: {datasets: {a: a}}, balance: {method: hb}}", "method: hb"),
        ("{model: m, mixture: {datasets: {a: a}}, balance: {probes: 0}}", "probes: 0"),
        ("{model: m, mixture: {datasets: {a: {weight: 2}}}}", "datasets: none of the kinds"),
        ("{model: m, mixture: {datasets: {a: a}}, balance: {global_reward: norm}}", "global_reward: none"),
    ],
)
def test_what_hbo_refuses_is_underlined(text, key):
    assert any(key in each for each in found(text)), found(text)
