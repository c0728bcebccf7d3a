import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbo.data.formats import FORMATS, detect
from hbo.data.reader import Reader
from hbo.data.turns import ROLES
from hbo.errors import DataError

storable = st.text(st.characters(exclude_categories=["Cs"]))
asked = storable.filter(str.strip)


def read(row, **options):
    """Prompt and completion."""
    return Reader("d", **options).read(row, "f.jsonl, line 1")[:2]


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


@given(asked, storable)
def test_one_exchange_is_the_same_in_every_format(q, a):
    expected = ([user(q)], [bot(a)])
    assert read({"messages": [user(q), bot(a)]}) == expected
    assert read({"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}) == expected
    assert read({"prompt": q, "completion": a}) == expected
    assert read({"prompt": [user(q)], "completion": [bot(a)]}) == expected
    assert read({"prompt": q, "completion": [bot(a)]}) == expected
    assert read({"instruction": q, "input": "", "output": a}) == expected
    assert read({"instruction": q, "input": None, "response": a}) == expected


@given(
    st.lists(st.sampled_from(["system", "user", "assistant"]), min_size=1, max_size=8).filter(
        lambda r: "assistant" in r
    )
)
def test_prompt_ends_where_the_first_answer_begins(roles):
    turns = [{"role": role, "content": str(i)} for i, role in enumerate(roles)]
    prompt, completion = read({"messages": turns})
    assert "assistant" not in [turn["role"] for turn in prompt]
    assert completion[0]["role"] == completion[-1]["role"] == "assistant"
    # Nothing but what follows the last answer is left out, and the order stays.
    assert prompt + completion == turns[: len(prompt) + len(completion)]
    assert all(turn["role"] != "assistant" for turn in turns[len(prompt) + len(completion) :])


@given(storable)
def test_text_stays_as_it_is(text):
    assert read({"text": text}) == ([], [{"role": "text", "content": text}])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda v: (
            st.lists(v, max_size=4)
            | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "type", "text"]), v)
        ),
    ),
    st.sampled_from([each.name for each in FORMATS]),
)
def test_any_json_value_is_read_or_refused_with_its_place(value, name):
    row = dict.fromkeys(
        ["messages", "conversations", "prompt", "completion", "instruction", "input", "output", "text"], value
    )
    try:
        prompt, completion = read(row, format=name)
    except DataError as error:
        assert str(error).startswith("f.jsonl, line 1: ")
    else:
        assert completion
        assert all(isinstance(turn["content"], str) for turn in prompt + completion)


def test_alpacas_input_follows_its_instruction():
    row = {"instruction": "Sum up.", "input": "A long text.", "output": "Short."}
    assert read(row) == ([user("Sum up.\n\nA long text.")], [bot("Short.")])


def test_an_empty_instruction_leaves_an_empty_prompt():
    assert read({"instruction": "", "output": "a"}) == ([], [bot("a")])
    assert read({"prompt": "", "completion": "a"}) == ([], [bot("a")])
    assert read({"prompt": [], "completion": "a"}) == ([], [bot("a")])


def test_answers_before_an_explicit_completion_stay_in_the_prompt():
    row = {"prompt": [user("a"), bot("b")], "completion": [user("c"), bot("d"), user("e")]}
    assert read(row) == ([user("a"), bot("b"), user("c")], [bot("d")])


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user("q"), bot("a")]},
        {"prompt": "q", "completion": "a"},
        {"instruction": "q", "output": "a"},
        {"conversations": [user("q"), bot("a")]},
    ],
)
def test_a_system_column_becomes_the_first_message(row):
    prompt, _ = read({**row, "system": "Be brief."})
    assert prompt == [{"role": "system", "content": "Be brief."}, user("q")]


@pytest.mark.parametrize("spelling", ROLES)
def test_every_spelling_of_a_role_is_read(spelling):
    prompt, completion = read(
        {"conversations": [{"from": spelling.upper(), "value": "x"}, {"from": "gpt", "value": "a"}]}
    )
    assert (prompt + completion)[0]["role"] == ROLES[spelling]


def test_turns_of_columnar_files_may_have_the_keys_of_both_spellings():
    turns = [{"role": None, "content": None, "from": role, "value": "x"} for role in ("human", "gpt")]
    assert read({"messages": turns}) == ([user("x")], [bot("x")])


def test_text_parts_are_joined_and_other_parts_refused():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read({"messages": [user(parts), bot("c")]}) == ([user("ab")], [bot("c")])
    with pytest.raises(DataError, match=r"messages\[0\].content has a part that is no text"):
        read({"messages": [user([{"type": "image"}]), bot("c")]})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["prompt", "messages", "prompt_id"], "messages"),
        (["conversations", "id"], "conversations"),
        (["prompt", "completion"], "prompt"),
        (["instruction", "input", "output", "text"], "instruction"),
        (["instruction", "response"], "instruction"),
        (["instruction", "text"], "text"),
        (["question", "answer"], None),
        ([], None),
    ],
)
def test_formats_are_detected_from_the_columns(columns, expected):
    found = detect(dict.fromkeys(columns, "x"))
    assert (found and found.name) == expected


@pytest.mark.parametrize("name", ["sharegpt", "conversations"])
def test_a_format_may_be_given(name):
    row = {
        "messages": [user("q"), bot("x")],
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    }
    assert read(row)[1] == [bot("x")]
    assert read(row, format=name)[1] == [bot("a")]
    assert read({"instruction": "q", "output": "a", "text": "t"}, format="instruction/input/output")[1] == [bot("a")]


def test_an_unknown_format_names_columns_and_formats():
    with pytest.raises(
        DataError, match=r"'d': no known row format; columns seen: q, a; formats known: messages;.*rename"
    ):
        read({"q": "1", "a": "2"})
    with pytest.raises(DataError, match=r"format 'mesages' is unknown \(did you mean 'messages'\?\)"):
        read({"text": "t"}, format="mesages")


def test_columns_rename():
    row = {"question": "q", "answer": "a", "prompt": "other"}
    assert read(row, columns={"prompt": "question", "completion": "answer"}) == ([user("q")], [bot("a")])
    swapped = {"prompt": "a", "completion": "q"}
    assert read(swapped, columns={"prompt": "completion", "completion": "prompt"}) == ([user("q")], [bot("a")])


def test_a_list_of_columns_keeps_only_these():
    row = {"messages": [], "prompt": "q", "completion": "a"}
    assert read(row, columns=["prompt", "completion"]) == ([user("q")], [bot("a")])


def test_a_column_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"names 'questoin'.*did you mean 'question'.*columns seen: question, answer"):
        read({"question": "q", "answer": "a"}, columns={"prompt": "questoin", "completion": "answer"})


def test_a_mapping_the_wrong_way_round_is_explained():
    with pytest.raises(DataError, match=r"renames to 'question', which no format reads.*name in the file"):
        read({"prompt": "q", "question": "a"}, columns={"question": "prompt"})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "completion": None}, "completion is null, not a string"),
        ({"prompt": None, "completion": "a"}, "prompt is null"),
        ({"prompt": "q", "completion": 3}, "completion is a number"),
        ({"instruction": "q", "output": None}, "output is null"),
        ({"instruction": "q", "input": ["x"], "output": "a"}, "input is a list"),
        ({"text": {"a": 1}}, "text is an object"),
        ({"text": True}, "text is a boolean"),
        ({"text": "\ud800"}, "text holds an unpaired surrogate"),
        ({"messages": []}, "messages is an empty list"),
        ({"messages": "hi"}, "messages is a string, not a list of messages"),
        ({"messages": ["hi"]}, r"messages\[0\] is a string, not an object"),
        ({"messages": [{"content": "x"}]}, r"messages\[0\] has no role"),
        ({"messages": [user("q"), {"role": "assistant", "content": None}]}, r"messages\[1\].content is null"),
        (
            {"messages": [user("q"), {"role": "wizard", "content": "x"}]},
            r"messages\[1\].role is 'wizard', which is no known role",
        ),
        ({"messages": [user("q")]}, "the conversation has no assistant turn"),
        ({"prompt": [user("q")], "completion": [user("q")]}, "the conversation has no assistant turn"),
        ({"prompt": "q", "completion": []}, "completion is an empty list"),
        ({"prompt": "q", "completion": "a", "system": 3}, "system is a number"),
    ],
)
def test_a_bad_row_is_refused_with_reason_and_place(row, reason):
    with pytest.raises(DataError, match=f"^f.jsonl, line 1: {reason}.*dataset 'd'"):
        read(row)


def test_a_later_row_without_the_column_is_refused():
    reader = Reader("d")
    reader.read({"prompt": "q", "completion": "a"}, "f.jsonl, line 1")
    with pytest.raises(DataError, match=r"line 2: the column 'completion' is missing \(columns: prompt, answer\)"):
        reader.read({"prompt": "q", "answer": "a"}, "f.jsonl, line 2")
