"""What hbo check tells of rows before they cost anything."""

from datasets import Dataset

from hbo.data.inspect_rows import inspect_rows, inspected_in_words


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
    lines = list(inspected_in_words(seen, 5))
    assert (
        lines[0] == "tokens per row, median, longest and share that fills max_length 5: a 4, 5, 33.3%; b 6, 6, 100.0%"
    )
    assert [line.split(": ")[0] for line in lines[1:]] == ["dataset 'a'"] * 3 + ["dataset 'b'"]


def test_a_mixture_without_repeats_or_held_out_rows_has_lengths_only():
    train = rows(("a", "hi", "yes", 3), ("a", "hi", "no", 4))
    assert list(inspected_in_words(inspect_rows(train, train.select([]), None), None)) == [
        "tokens per row, median, longest: a 3, 4"
    ]


def test_rows_that_differ_in_their_calls_alone_are_no_repeats():
    train = rows(("a", "hi", "", 3), ("a", "hi", "", 3), ("a", "hi", "", 3))
    extras = ['{"turns": {"1": {"tool_calls": [1]}}}', '{"turns": {"1": {"tool_calls": [2]}}}', None]
    train = train.add_column("hbo_extra", extras)
    assert inspect_rows(train, train.select([]), None)["a"].repeats == 0
    nothing = rows(("a", "hi", None, 3))
    assert inspect_rows(nothing, nothing.select([]), None)["a"].repeats == 0
