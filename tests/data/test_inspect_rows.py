"""What hbo check tells of rows before they cost anything."""

from datasets import Dataset

from hbo.data.inspect_rows import inspect_rows, of_seen


def rows(*found):
    """(dataset, prompt, completion, tokens) → tokenised rows."""
    return Dataset.from_list(
        [
            {
                "hbo_dataset": name,
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": completion}],
                "input_ids": list(range(tokens)),
            }
            for name, prompt, completion, tokens in found
        ]
    )


def test_rows_that_say_the_same_are_found_wherever_they_stand():
    train = rows(
        ("a", "hi", "yes", 3),
        ("a", "hi", "no", 4),
        ("a", " HI", "Yes ", 5),
        ("b", "hi", "no", 6),
        ("b", "bye", "no", 6),
    )
    seen = inspect_rows(train, rows(("a", "bye", "no", 3), ("a", "new", "no", 3), ("b", "newer", "no", 3)), 5)
    assert (seen["a"].repeats, seen["a"].elsewhere, seen["a"].leaked) == (1, 1, 1)
    assert (seen["b"].repeats, seen["b"].elsewhere, seen["b"].leaked) == (0, 1, 0)
    assert (seen["a"].median, seen["a"].longest, seen["a"].full) == (4, 5, 1 / 3)
    notes = list(of_seen(seen))
    assert [note.text.split(": ")[0] for note in notes] == ["dataset 'a'"] * 3 + ["dataset 'b'"]
    assert [note.is_warning for note in notes] == [True, False, False, False]


def test_nothing_is_said_of_a_mixture_without_repeats_or_held_out_rows():
    train = rows(("a", "hi", "yes", 3), ("a", "hi", "no", 4))
    assert list(of_seen(inspect_rows(train, train.select([]), None))) == []


def test_rows_that_differ_in_their_calls_alone_are_no_repeats():
    train = rows(("a", "hi", "", 3), ("a", "hi", "", 3), ("a", "hi", "", 3))
    extras = ['{"turns": {"1": {"tool_calls": [1]}}}', '{"turns": {"1": {"tool_calls": [2]}}}', None]
    train = train.add_column("hbo_extra", extras)
    assert inspect_rows(train, train.select([]), None)["a"].repeats == 0
    nothing = rows(("a", "hi", None, 3))
    assert inspect_rows(nothing, nothing.select([]), None)["a"].repeats == 0
