import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbo.data.columns import Cells
from hbo.data.formats import FORMATS, Format, detect
from hbo.data.reader import Reader
from hbo.data.turns import ROLES, TurnReader
from hbo.errors import DataError

storable = st.text(st.characters(exclude_categories=["Cs"]))
asked = storable.filter(str.strip)


def whole(row, **options):
    return Reader("d", **options).read(row, "f.jsonl, line 1")


def read(row, **options):
    """Prompt and completion."""
    return whole(row, **options)[:2]


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
    with pytest.raises(DataError, match=r"messages\[0\].content has a part that isn't text"):
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
    found = detect(Cells(dict.fromkeys(columns, "x")))
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
    with pytest.raises(
        DataError, match=r"`columns: {prompt: question, completion: answer, input: context}` \(f.jsonl, line 1"
    ):
        read({"question": "q", "context": "c", "answer": "a"})
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
            r"messages\[1\].role is 'wizard', an unknown role",
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


@pytest.mark.parametrize("column", ["context", "passage", "document", "contexts"])
def test_a_passage_beside_an_instruction_belongs_to_what_is_asked(column):
    row = {"instruction": "Which colour?", column: "The door is red.", "response": "Red."}
    assert read(row) == ([user("Which colour?\n\nThe door is red.")], [bot("Red.")])
    assert read({**row, column: None})[0] == read({**row, column: ""})[0] == [user("Which colour?")]


def test_several_passages_are_joined():
    row = {"instruction": "q", "input": "one", "contexts": ["two", "three"], "output": "a"}
    assert read(row)[0] == [user("q\n\none\n\ntwo\n\nthree")]


def test_a_passage_that_is_no_text_is_left_where_it_is():
    assert read({"instruction": "q", "context": {"title": "x"}, "output": "a"}) == ([user("q")], [bot("a")])


def test_a_passage_beside_a_prompt_is_read_when_it_is_named():
    row = {"prompt": "q", "completion": "a", "context": "c"}
    assert read(row)[0] == [user("q")]  # a prompt is whole by itself
    assert read(row, columns={"input": "context"})[0] == [user("q\n\nc")]


@pytest.mark.parametrize(
    "history",
    [
        [["q1", "a1"], ["q2", "a2"]],
        '[["q1", "a1"], ["q2", "a2"]]',
        [user("q1"), bot("a1"), user("q2"), bot("a2")],
    ],
)
@pytest.mark.parametrize("names", [("instruction", "output"), ("prompt", "completion")])
def test_history_stands_before_the_turn_and_its_answers_are_learned_too(history, names):
    prompt, completion = read({names[0]: "q3", names[1]: "a3", "history": history, "system": "s"})
    assert prompt == [{"role": "system", "content": "s"}, user("q1")]
    assert completion == [bot("a1"), user("q2"), bot("a2"), user("q3"), bot("a3")]


@pytest.mark.parametrize("history", [None, [], "[]", "", ["q1", "a1"]])
def test_a_history_that_is_none_changes_nothing(history):
    assert read({"instruction": "q", "output": "a", "history": history}) == ([user("q")], [bot("a")])


@pytest.mark.parametrize("column", ["system_prompt", "system_message", "sys_prompt", "systemPrompt"])
def test_a_system_prompt_goes_by_many_names(column):
    assert read({"prompt": "q", "completion": "a", column: "s"})[0] == [{"role": "system", "content": "s"}, user("q")]
    own = [{"role": "system", "content": "own"}, user("q"), bot("a")]
    assert read({"messages": own, column: "s"})[0] == own[:2]  # what the conversation says itself goes before
    assert read({"messages": own, "system": "own"})[0] == own[:2]


def test_tools_and_arguments_of_the_template_are_carried():
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    row = {"messages": [user("q"), bot("a")], "chat_template_kwargs": {"enable_thinking": False, "other": None}}
    for tools in ([tool], '[{"name": "add", "parameters": {}}]'):
        assert whole({**row, "tools": tools}).given == {"enable_thinking": False, "other": None, "tools": [tool]}
    assert whole(row, fills_nulls=True).given == {"enable_thinking": False}
    assert whole({"messages": row["messages"], "tools": [], "chat_template_kwargs": {}}).given == {}
    with pytest.raises(DataError, match="chat_template_kwargs holds 'tokenize', which hbo sets itself; remove it"):
        read({**row, "chat_template_kwargs": {"tokenize": True}})


@pytest.mark.parametrize("column", ["reasoning_content", "thinking"])
def test_a_thought_in_a_column_belongs_to_the_answer(column):
    expected = {**bot("16"), "reasoning_content": "I add."}
    assert read({"prompt": "q", "completion": "16", column: "I add."})[1] == [expected]
    assert read({"instruction": "q", "output": "16", column: "I add."})[1] == [expected]
    assert read({"instruction": "q", "output": "16", "reasoning": "why"})[1] == [bot("16")]
    assert read({"instruction": "q", "output": "16", "why": "I add."}, columns={"reasoning_content": "why"})[1] == [
        expected
    ]


PAIRS = [
    {"prompt": "q", "chosen": "good", "rejected": "bad"},
    {"prompt": [user("q")], "chosen": [bot("good")], "rejected": [bot("bad")]},
    {"chosen": [user("q"), bot("good")], "rejected": [user("q"), bot("bad")]},
    {"prompt": "q", "chosen": [user("q"), bot("good")], "rejected": [user("q"), bot("bad")]},
    {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
    {"question": "q", "chosen": "good", "rejected": "bad"},
    {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    {"prompt": "q", "chosen": '[{"role": "assistant", "content": "good"}]', "rejected": "bad"},
]


@pytest.mark.parametrize("row", PAIRS)
def test_the_chosen_answer_of_a_preference_is_trained_on_and_the_rejected_one_named(row):
    reader = Reader("d")
    assert reader.read(row, "line 1")[:2] == ([user("q")], [bot("good")])
    assert list(reader.account.unread) == ["rejected"]


def test_a_chosen_answer_beside_another_one_is_named():
    reader = Reader("d")
    row = {"messages": [user("q"), bot("a")], "chosen": [user("q"), bot("b")]}
    assert reader.read(row, "line 1").completion == [bot("a")]
    assert list(reader.account.unread) == ["chosen"]
    assert read(row, format="preference")[1] == [bot("b")]
    reader = Reader("d")
    reader.read({"prompt": "q", "messages": row["chosen"], "chosen": row["chosen"]}, "line 1")
    assert reader.account.unread == {}  # they say the same


def test_a_chosen_answer_to_nothing_says_what_to_do():
    with pytest.raises(DataError, match=r"before `chosen`; name its column with `columns: {prompt: .* {text: chosen}`"):
        read({"chosen": "good", "rejected": "bad"}, format="preference")
    assert read({"chosen": "H: hi A: yo", "rejected": "bad"}, columns={"text": "chosen"})[1][0]["role"] == "text"
    with pytest.raises(DataError, match=r"line 1: there is no prompt before `chosen`"):
        read({"chosen": "good", "rejected": "bad"})


def test_a_new_format_is_one_entry_whatever_its_columns_are_called():
    def read(cells, turns):
        return [], [
            {"role": "user", "content": cells.get("scenes")},
            {"role": "assistant", "content": cells.get("ending")},
        ]

    story, cells = (
        Format("story", ("scenes", "ending"), read),
        Cells({"scenes": "A dog.", "ending": "Peace.", "year": 1}),
    )
    assert story.fits(cells)
    assert story.conversation(cells, TurnReader()).completion == [{"role": "assistant", "content": "Peace."}]
    assert cells.unread() == ["year"]
    assert not story.fits(Cells({"scenes": "A dog."}))
