"""What people write for a value, and what a typed field makes of it."""

import dataclasses
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from hbo.errors import ConfigError
from hbo.run.field_types import built, fit, fit_all


@dataclasses.dataclass
class Inner:
    rho: float = 2.0
    names: list[str] | None = None


@dataclasses.dataclass
class Outer:
    steps: int = 1
    inner: Inner | None = None
    plain: Inner | dict = dataclasses.field(default_factory=dict)
    mode: str = dataclasses.field(default="a", metadata={"choices": ["a", "b"]})


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ("4", int, 4), (4.0, int, 4), ("4.0", int, 4), ("1_000", int, 1000), (7, int, 7),
        ("1e-3", float, 1e-3), ("5", float, 5.0), (5, float, 5), ("inf", float, float("inf")),
        ("yes", bool, True), ("Off", bool, False), ("true", bool, True), (1, bool, True), (0, bool | None, False),
        ("no", str | bool, False), ("all", str | bool, "all"), ("no", Literal["no", "steps"], "no"),
        (False, Literal["no", "steps"], "no"), ("no", str | None | Literal[False], False),
        (None, int | None, None), ("None", int | None, None), ("none", str | None, "none"),
        (2024, str, "2024"), (8, int | str | None, 8), ("8", int | str | None, "8"),
        ("a", list[str], ["a"]), (["a", 5], list[str], ["a", "5"]), ("a", str | list[str], "a"), (["1"], list[int], [1]),
        ('{"a": 1}', dict[str, Any] | str | None, {"a": 1}), ("file.json", dict | str | None, "file.json"),
        ({"a": "yes"}, dict[str, bool], {"a": True}), ([[0, "4"]], list[tuple[int, int]], [(0, 4)]),
        ("x", Any, "x"), ("3", Annotated[int, Field(ge=3)] | None, 3),
    ],
)  # fmt: skip
def test_what_can_only_mean_one_thing_is_that(written, kind, value):
    found = fit(written, kind, "train.key")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("written", "kind", "message"),
    [
        ("four", int, "train.key is 'four', but takes a whole number"),
        (4.5, int, "train.key is 4.5, but takes a whole number"),
        (True, int, "train.key is true, but takes a whole number"),
        (True, float | None, "train.key is true, but takes a number or null"),
        (None, int, "train.key is null, but takes a whole number; leave it out for its default"),
        (2, bool, "train.key is 2, but takes true or false"),
        ("maybe", bool | None, "train.key is 'maybe', but takes true or false or null"),
        (1.5, str, "train.key is 1.5, but takes text; quote it if you mean text ('1.5')"),
        (True, str | None, "train.key is true, but takes text or null; quote it if you mean text ('true')"),
        ("stpes", Literal["no", "steps"], "takes one of 'no', 'steps' (did you mean 'steps'?)"),
        ("{bad", dict[str, Any] | None, "train.key is '{bad', but takes a mapping of keys to values or null"),
        ([1], int, "train.key is a list of 1, but takes a whole number"),
        ({"a": "x"}, dict[str, int], "train.key.a is 'x', but takes a whole number"),
        (["x"], list[int], "train.key[0] is 'x', but takes a whole number"),
        (0, Annotated[int, Field(ge=1)], "train.key is 0, but takes a whole number of at least 1"),
        (2, Annotated[float, Field(gt=0, lt=1)], "train.key is 2, but takes a number above 0 and below 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key_and_its_value(written, kind, message):
    with pytest.raises(ConfigError) as error:
        fit(written, kind, "train.key")
    assert message in str(error.value)


def test_options_inside_of_options_are_typed_and_named():
    found = fit_all({"inner": {"rho": "3", "names": "q"}, "plain": {"rho": "3"}, "mode": "b"}, Outer, "lora", "Outer")
    assert found == {"inner": {"rho": 3.0, "names": ["q"]}, "plain": {"rho": 3.0}, "mode": "b"}
    assert built(found["inner"], Inner | None) == Inner(3.0, ["q"])
    assert built(found["plain"], Inner | dict) == {"rho": 3.0}
    for given, message in (
        ({"inner": {"roh": 3}}, r"unknown key 'lora\.inner\.roh' \(did you mean 'rho'\?\)"),
        ({"stpes": 3}, r"unknown key 'lora\.stpes' \(did you mean 'steps'\?\); lora: takes the fields of Outer"),
        ({"mode": "c"}, r"lora\.mode is 'c', but takes one of 'a', 'b'"),
    ):
        with pytest.raises(ConfigError, match=message):
            fit_all(given, Outer, "lora", "Outer")
