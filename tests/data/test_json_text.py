import pytest

from hbo.data.json_text import calls_of, tools_of

FUNCTION = {"name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {"a": {}}}}
TOOL = {"type": "function", "function": FUNCTION}


@pytest.mark.parametrize(
    "value",
    [
        [TOOL],
        [FUNCTION],
        TOOL,
        '[{"name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {"a": {}}}}]',
        ['{"name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {"a": {}}}}'],
        [{"type": "function", **FUNCTION}],
    ],
)
def test_every_spelling_of_tools_becomes_the_one_that_templates_read(value):
    assert tools_of(value) == [TOOL]


@pytest.mark.parametrize("value", [["calculator"], "calculator", 3, [{"title": "add"}], [FUNCTION, 3]])
def test_what_is_no_list_of_tools_is_none(value):
    assert tools_of(value) is None


def test_a_call_keeps_its_own_keys_in_their_order():
    (call,) = calls_of(
        [{"id": "c0", "type": "function", "index": None, "function": {"arguments": "{}", "name": "add"}}]
    )
    assert list(call) == ["id", "type", "function"]
    assert list(call["function"].items()) == [("arguments", {}), ("name", "add")]


def test_arguments_that_are_no_object_stay_text():
    (call,) = calls_of({"name": "run", "arguments": "print(1)"})
    assert call["function"] == {"name": "run", "arguments": "print(1)"}


@pytest.mark.parametrize(
    "value", ["add(1)", [{"arguments": {}}], [3], [{"name": "add", "arguments": {"a": float("nan")}}]]
)
def test_what_is_no_call_is_none(value):
    assert calls_of(value) is None


def test_schemas_of_columnar_files_lose_the_nulls_that_nobody_wrote():
    filled = {"type": "function", "function": {**FUNCTION, "strict": None}}
    assert tools_of([filled], fills_nulls=True) == [TOOL]
    assert tools_of([filled]) == [filled]
