"""The JSON schema of a configuration, by which editors complete keys, explain them and underline what is wrong.

`python -m hbo.config.schema` writes it anew, with pydantic 2.11 or later, into the file that every
installed hbo carries.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from hbo.config.actors import ACTORS
from hbo.config.balance import TIERS
from hbo.config.methods import SETTINGS
from hbo.config.rewards import REWARDS
from hbo.config.run import RunConfig

SCHEMA = Path(__file__).with_name("run.schema.json")
"""The file."""

_TEXT = {"type": "string"}
_OWN = {"type": "string", "pattern": "^[^:]+:[^:]+$", "description": "One of your own, `pkg.module:name`."}


def schema() -> dict[str, Any]:
    """The schema: what the models say, and what else they take for short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a callable reward is nothing that YAML can hold
        found = RunConfig.model_json_schema(by_alias=True)
    parts = found["$defs"]
    dataset = {"$ref": "#/$defs/DatasetConfig"}
    entry = {"anyOf": [_TEXT | {"description": "Its path."}, dataset]}
    datasets = parts["MixtureConfig"]["properties"]["datasets"]
    datasets.pop("additionalProperties"), datasets.pop("type")
    datasets["anyOf"] = [
        {"type": "object", "additionalProperties": entry, "minProperties": 1},
        {"type": "array", "items": entry, "minItems": 1},
    ]
    for name in ("DatasetConfig", "SourceConfig"):
        several = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
        parts[name]["properties"]["roles"]["anyOf"][0]["additionalProperties"] = several
    balance = parts["HBOConfig"]["properties"]
    balance["method"] = {"enum": [*SETTINGS], **_without_type(balance["method"])}
    for tier in TIERS:
        told = f"false: the {tier} actor learns nothing, as with `{tier}_reward: null`."
        balance[tier] = {"type": "boolean", "description": told}
        reward = balance[f"{tier}_reward"]
        reward["anyOf"] = [{"enum": [*REWARDS]}, _OWN, {"type": "null"}]
    kind = parts["ActorConfig"]["properties"]["kind"]
    parts["ActorConfig"]["properties"]["kind"] = {"anyOf": [{"enum": [*ACTORS]}, _OWN], **_without_type(kind)}
    found |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A run of hbo train"}
    return {key: _plain(value, key) for key, value in found.items()}


def _without_type(field: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key != "type"}


def _plain(value: Any, key: str = "") -> Any:
    """Without titles, which only repeat the keys, and without defaults that JSON can't hold."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if key in ("properties", "$defs"):  # these are keys of a configuration, whatever they are called
        return {name: _plain(field) for name, field in value.items()}
    kept = {word: _plain(each, word) for word, each in value.items() if word not in ("title", "default")}
    default = value.get("default")
    return kept | {"default": default} if isinstance(default, str | bool | int | float) else kept


def write_schema(file: Path = SCHEMA) -> None:
    """Writes the schema into a file."""
    file.write_text(json.dumps(schema(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
