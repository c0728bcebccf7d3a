"""The public interface, frozen: tests/public.txt lists it, and changes with CHANGELOG.md or not at all."""

import inspect
import re
from pathlib import Path

import hbo

LISTED = Path(__file__).with_name("public.txt")


def interface():
    """One line per public name: its signature, and below it those of its public methods and fields."""
    lines = []
    for name in sorted(hbo.__all__):
        value = getattr(hbo, name)
        if not callable(value):
            lines += [f"{name}: {', '.join(sorted(value))}"]
            continue
        if not inspect.isclass(value):
            lines += [f"{name}{signature(value)}"]
            continue
        fields = getattr(value, "model_fields", None)
        if fields is not None:
            lines += [f"{name}({', '.join(f'{key}={default(field)}' for key, field in fields.items())})"]
        else:
            lines += [f"{name}{signature(value)}"]
        lines += [f"    .{each}" for each in sorted(members(value))]
    return lines


def signature(function):
    """As text, without quotes around types and without the address of a default."""
    return re.sub(r"<function (\w+) at \w+>", r"\1", str(inspect.signature(function))).replace("'", "")


def default(field):
    return repr(field.get_default(call_default_factory=True))


def members(value):
    """The public methods and properties that the class itself defines."""
    for name, member in vars(value).items():
        if name.startswith(("_", "model_")):
            continue
        if isinstance(member, (classmethod, staticmethod)):
            yield f"{name}{signature(member.__func__)}"
        elif inspect.isfunction(member):
            yield f"{name}{signature(member)}"
        elif isinstance(member, property) or type(member).__name__ == "cached_property":
            yield name


def test_the_public_interface_is_the_listed_one():
    listed = [line for line in LISTED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert interface() == listed, "a deliberate change: edit tests/public.txt and note it in CHANGELOG.md"


def test_a_changed_signature_is_noticed(monkeypatch):
    before = interface()
    monkeypatch.setattr(hbo.HBOSampler, "extra", lambda self, more=1: more, raising=False)
    assert set(interface()) - set(before) == {"    .extra(self, more=1)"}
