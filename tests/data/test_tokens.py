from contextlib import contextmanager

import pytest
from byte_models import STRICT
from datasets import Dataset, Features, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbo.compat import list_of
from hbo.data.notes import of_tokens
from hbo.data.tokens import IGNORED, drop_without_target, has_instruction, opening, refused, tokenize
from hbo.errors import DataError, ModelError

MESSAGES = list_of({"role": Value("string"), "content": Value("string")})
FEATURES = Features(
    {"prompt": MESSAGES, "completion": MESSAGES, "hbo_dataset": Value("string"), "hbo_row": Value("int64")}
)


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def rows(*pairs, dataset="chat"):
    table = [{"prompt": p, "completion": c, "hbo_dataset": dataset, "hbo_row": i} for i, (p, c) in enumerate(pairs)]
    return Dataset.from_list(table, features=FEATURES)


def text(content):
    return ([], [{"role": "text", "content": content}])


def targets(row, tokenizer):
    return tokenizer.decode([label for label in row["labels"] if label != IGNORED])


def test_every_assistant_turn_is_a_target_and_nothing_else(tokenizer):
    data = rows(([user("hi")], [bot("hello"), user("and?"), bot("the world")]))
    row = tokenize(data, tokenizer)[0]
    assert tokenizer.decode(row["input_ids"]) == tokenizer.apply_chat_template(
        [user("hi"), bot("hello"), user("and?"), bot("the world")], tokenize=False
    )
    assert targets(row, tokenizer) == "hello<|im_end|>\nthe world<|im_end|>\n"
    assert all(label in (IGNORED, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=3))
def test_targets_are_the_answers_whatever_they_say(tokenizer, turns):
    turns = [(q.replace("<", ""), a.replace("<", "")) for q, a in turns]
    messages = [message for q, a in turns for message in (user(q), bot(a))]
    row = tokenize(rows((messages[:1], messages[1:])), tokenizer)[0]
    assert targets(row, tokenizer) == "".join(f"{a}<|im_end|>\n" for _, a in turns)


def test_answers_in_the_prompt_are_no_targets(tokenizer):
    row = tokenize(rows(([user("a"), bot("shot"), user("b")], [bot("mine")])), tokenizer)[0]
    assert targets(row, tokenizer) == "mine<|im_end|>\n"


@pytest.mark.parametrize("trim_offsets", [True, False])
def test_a_token_across_the_boundary_belongs_to_the_answer(make_tokenizer, trim_offsets):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    tokenizer = make_tokenizer(template, trim_offsets=trim_offsets)
    row = tokenize(rows(([user("q")], [bot("answer is")])), tokenizer)[0]
    assert targets(row, tokenizer).lstrip() == "answer is<|im_end|>"


def test_blank_tokens_inside_an_answer_are_targets_when_offsets_are_trimmed(make_tokenizer):
    tokenizer = make_tokenizer(trim_offsets=True)
    row = tokenize(rows(([user("q  ")], [bot("a    b  ")])), tokenizer)[0]
    assert targets(row, tokenizer) == "a    b  <|im_end|>\n"


def test_blank_tokens_at_the_end_of_a_text_are_targets_when_offsets_are_trimmed(make_tokenizer):
    tokenizer = make_tokenizer(trim_offsets=True)
    row = tokenize(rows(text("a b  ")), tokenizer)[0]
    assert row["labels"] == [IGNORED, *row["input_ids"][1:]]


def test_text_is_a_target_from_its_second_token_on(make_tokenizer):
    row = tokenize(rows(text("hello ☃")), make_tokenizer())[0]
    assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
    assert make_tokenizer().decode(row["input_ids"]) == "hello ☃<|im_end|>"


def test_text_begins_with_bos_if_the_tokenizer_adds_one(make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>")
    row = tokenize(rows(text("hello")), tokenizer)[0]
    assert tokenizer.decode(row["input_ids"]) == "<s>hello<|im_end|>"
    assert targets(row, tokenizer) == "hello<|im_end|>"


def test_a_chat_template_gets_no_second_bos(make_tokenizer):
    tokenizer = make_tokenizer(template="<s>{% for m in messages %}{{ m.content }}{% endfor %}", bos="<s>")
    row = tokenize(rows(([user("q")], [bot("a")])), tokenizer)[0]
    assert tokenizer.decode(row["input_ids"]) == "<s>qa"


def test_a_tokenizer_without_template_gets_the_plain_rendering(make_tokenizer):
    tokenizer = make_tokenizer(template=None, bos="<s>")
    system = {"role": "system", "content": "Be brief."}
    row = tokenize(rows(([system, user("q")], [bot("a"), user("r"), bot("b")])), tokenizer)[0]
    expected = "<s>Be brief.\n\nUser: q\n\nAssistant: a<|im_end|>\n\nUser: r\n\nAssistant: b<|im_end|>"
    assert tokenizer.decode(row["input_ids"]) == expected
    assert targets(row, tokenizer) == " a<|im_end|> b<|im_end|>"


def test_truncation_keeps_the_start(tokenizer):
    data = rows(([user("q")], [bot("hello world, the answer")]))
    whole, cut = tokenize(data, tokenizer, max_length=None)[0], tokenize(data, tokenizer, max_length=9)[0]
    assert cut["input_ids"] == whole["input_ids"][:9]
    assert cut["labels"] == whole["labels"][:9]
    assert len(whole["input_ids"]) > 9


def test_the_result_is_memory_mapped_and_keeps_the_columns(tokenizer, cache):
    data = rows(([user("q")], [bot("a")]), text("t"))
    done = tokenize(data, tokenizer)
    assert done.select_columns(data.column_names).to_list() == data.to_list()
    assert [file["filename"] for file in done.cache_files] == [str(next(cache.glob("tokens-*.arrow")))]
    assert tokenize(done, tokenizer).column_names == done.column_names


def test_tokenizing_again_reads_the_file(tokenizer, cache):
    data = rows(([user("q")], [bot("a")]))
    calls = []

    @contextmanager
    def track(phase, total):
        calls.append((phase, total))
        yield lambda count: None

    first = tokenize(data, tokenizer, track=track)
    again = tokenize(data, tokenizer, track=track)
    assert calls == [("tokenizing", 1)]
    assert first.to_list() == again.to_list()
    assert first._fingerprint == again._fingerprint
    tokenize(data, tokenizer, max_length=7, track=track)
    tokenizer.chat_template += " "
    tokenize(data, tokenizer, track=track)
    assert len(calls) == 3


def test_a_subset_of_rows_is_tokenized_as_such(tokenizer):
    data = rows(([user("q")], [bot("a")]), ([user("q")], [bot("b")])).select([1])
    assert targets(tokenize(data, tokenizer)[0], tokenizer) == "b<|im_end|>\n"


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="use a fast tokenizer"):
        tokenize(rows(text("a")), Slow())


def test_a_refusing_template_names_the_row(make_tokenizer, cache):
    tokenizer = make_tokenizer(template="{{ raise_exception('System role not supported') }}")
    with pytest.raises(DataError, match=r"dataset 'chat', row 0: .*System role not supported"):
        tokenize(rows(([user("q")], [bot("a")])), tokenizer)
    assert not list(cache.glob("*"))


def test_opening_is_the_template_then_bos_then_eos(make_tokenizer):
    chat = make_tokenizer()
    assert chat.decode(opening(chat)) == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    base = make_tokenizer(template=None, bos="<s>")
    assert opening(base) == [base.bos_token_id]
    assert opening(make_tokenizer(template=None)) == [make_tokenizer().eos_token_id]
    with pytest.raises(ModelError, match="give it an eos_token"):
        opening(make_tokenizer(template=None, eos=None))


def test_a_system_message_is_no_instruction():
    assert not has_instruction([])
    assert not has_instruction([{"role": "system", "content": "Be brief."}, user("  ")])
    assert has_instruction([{"role": "system", "content": ""}, user("q")])


def test_rows_without_target_are_dropped_and_named(tokenizer):
    data = rows(([user("q")], [bot("a")]), ([user("hello " * 20)], [bot("a")]), ([user("r")], [bot("b")]))
    kept, dropped = drop_without_target(tokenize(data, tokenizer, max_length=20))
    assert dropped == {"chat": [1]}
    assert kept["hbo_row"][:] == [0, 2]


def test_nothing_dropped_is_the_same_dataset(tokenizer):
    data = tokenize(rows(([user("q")], [bot("a")])), tokenizer)
    assert drop_without_target(data) == (data, {})


@pytest.fixture
def strict(make_tokenizer):
    return make_tokenizer(STRICT)


SYSTEM = {"role": "system", "content": "Be brief."}
REFUSED = "the tokenizer's chat template refuses the conversation (Conversation roles must alternate)"


def test_a_row_that_the_template_refuses_is_an_error_with_its_place(strict):
    data = rows(([user("q")], [bot("a")]), ([user("q"), user("r")], [bot("a")]))
    with pytest.raises(DataError) as caught:
        tokenize(data, strict, place=lambda name, row: f"{name}.jsonl, line {row + 1}")
    assert str(caught.value) == (
        f"chat.jsonl, line 2: {REFUSED}; change its messages to roles and an order that the template takes, or leave all "
        "such rows out with `drop_unusable: true`"
    )


def test_a_lenient_dataset_has_no_tokens_of_such_a_row_and_counts_it(strict):
    data = rows(([user("q"), user("r")], [bot("a")]), ([user("q")], [bot("a")]), ([SYSTEM], [bot("a")]))
    found = tokenize(data, strict, lenient={"chat"})
    assert [len(ids) > 0 for ids in found["input_ids"]] == [False, True, False]
    assert found["labels"][0] == []
    system = "the tokenizer's chat template refuses the conversation (System role not supported)"
    assert {name: {why: tuple(how) for why, how in of.items()} for name, of in refused(found).items()} == {
        "chat": {REFUSED: (1, "row 0"), system: (1, "row 2")}
    }
    # Stored tokens must not let a dataset pass that is not lenient.
    with pytest.raises(DataError, match=r"^dataset 'chat', row 0: .* change the row, or leave all such rows out"):
        tokenize(data, strict)


def test_where_no_system_message_is_taken_it_begins_the_users(strict):
    data = rows(([SYSTEM, user("q")], [bot("a"), user("r"), bot("b")]), ([user("q")], [bot("a")]))
    found = tokenize(data, strict)
    turns = ["<|im_start|>user\nBe brief.\n\nq<|im_end|>\n<|im_start|>assistant\n", "a<|im_end|>\n",
             "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n", "b<|im_end|>\n"]  # fmt: skip
    pieces = [strict(text, add_special_tokens=False)["input_ids"] for text in turns]
    assert found["input_ids"][0] == [token for piece in pieces for token in piece]
    assert found["labels"][0] == [
        token if i % 2 else IGNORED for i, piece in enumerate(pieces) for token in piece
    ]  # fmt: skip
    told = "dataset 'chat': the chat template takes no system message; that of 1 row stands at the start of the user's first"
    assert [(note.text, note.is_warning) for note in of_tokens([found])] == [(f"{told} message", True)]


def test_a_template_that_takes_a_system_message_gets_it(tokenizer):
    found = tokenize(rows(([SYSTEM, user("q")], [bot("a")])), tokenizer)
    assert tokenizer.decode(found["input_ids"][0]).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    assert not list(of_tokens([found]))
