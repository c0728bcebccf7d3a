from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbo.data.answers import Choice, NumberAnswer, leading_number, right_answer


def read(prompt, completion):
    return right_answer([{"role": "user", "content": prompt}], [{"role": "assistant", "content": completion}])


QUESTION = "Where is money kept?\nA. bank\nB. library\nC. river bank"


@pytest.mark.parametrize("completion", ["B. library", " B. library\n", "library", "B.", "B"])
def test_an_option_is_known_by_line_text_label_or_letter(completion):
    found = read(QUESTION, completion)
    assert found.right == 1
    assert found.options[1] == completion.strip()
    assert len(found.options) == 3


def test_options_are_what_the_completion_would_be():
    assert read(QUESTION, "C. river bank").options == ("A. bank", "B. library", "C. river bank")
    assert read("Which?\n(A) yes\n(B) no", "(B)").options == ("(A)", "(B)")
    assert read("Which?\nA) yes\nB) no\n", "yes") == Choice(("yes", "no"), 0)


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        (QUESTION, "B. Library"),  # not word for word
        (QUESTION, "It is B"),
        (QUESTION, "D. sea"),
        ("Where?\nA. bank", "A. bank"),  # one option is no choice
        ("Where?\nB. bank\nC. library", "B. bank"),  # not from A
        ("Where?\nA. bank\nC. library", "A. bank"),  # not in order
        ("A. bank\nB. library\nWhich of them?", "A. bank"),  # not at the end
        ("Which letter?\nA. B\nB. A", "B"),  # the letter of one, the text of the other
        ("Which?\nA. same\nB. same", "same"),
        ("Is it?", "True"),
    ],
)
def test_what_is_not_beyond_doubt_is_no_choice(prompt, completion):
    assert read(prompt, completion) is None


def test_only_a_single_answer_to_a_user_is_read():
    user, answer = {"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}
    assert right_answer([user], [answer]) == NumberAnswer(Decimal(5))
    assert right_answer([user], [answer, user, answer]) is None
    assert right_answer([], [answer]) is None
    assert right_answer([user, answer], [answer]) is None
    assert right_answer([], [{"role": "text", "content": "5"}]) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("19 peaches", 19),
        ("$5", 5),
        ("5.0", 5),
        ("1,000", 1000),
        ("1,234,567.5 in all", "1234567.5"),
        ("-3 degrees", -3),
        ("−$3", -3),
        ("$-3", -3),
        (".5 miles", "0.5"),
        ("7%", 7),
        ("8.", 8),
        ("6\nand more", 6),
        ("none", None),
        ("", None),
        ("about 5", None),
        ("3/4", None),
        ("3:2", None),
        ("9:15", None),
        ("3-4", None),
        ("401k", None),
        ("1,00", None),
        ("12,3456", None),
        ("1.2.3", None),
    ],
)
def test_the_number_that_a_text_begins_with(text, value):
    assert leading_number(text) == (None if value is None else Decimal(value))


numbers = st.decimals(min_value=-(10**9), max_value=10**9, places=2)


@given(numbers, st.sampled_from(["", "$", "€"]), st.sampled_from(["", " peaches", "%", " dollars each", "."]))
def test_a_number_is_the_same_however_it_is_spelt(value, currency, unit):
    sign = "-" if value < 0 else ""
    for spelt in (f"{abs(value):f}", f"{abs(value):,f}", f"{abs(value):f}000"):
        assert NumberAnswer(value).equals(f"{sign}{currency}{spelt}{unit}")
    whole = Decimal(int(value))
    assert NumberAnswer(whole).equals(f"{int(value)}{unit}")
    assert NumberAnswer(whole).equals(f"{int(value)}.0{unit}")


@given(numbers, numbers)
def test_different_numbers_are_never_equal(one, other):
    assert NumberAnswer(one).equals(f"{other:,f} units") == (one == other)


@given(st.text())
def test_any_text_can_be_read(text):
    found = leading_number(text)
    assert found is None or any(letter.isdigit() for letter in text)
    read(text, text)


@pytest.mark.parametrize(
    "completion",
    ["3 of the 5", "5 years old; 15 years old", "17:12", "2 is what you get when you add one to one", "2\n3"],
)
def test_a_completion_with_more_than_one_short_number_is_not_numeric(completion):
    assert read("How many?", completion) is None


def test_a_final_line_is_compared_with_a_final_line():
    found = read("How many?", "She has 3 + 4 = 7.\n#### 7")
    assert found == NumberAnswer(Decimal(7), is_final_line=True)
    assert found.equals("3 and 4\n#### 7.0 apples")
    assert not found.equals("7")
    assert not found.equals("it ends\n#### 8")
    assert read("How many?", "#### 7\nand so on") is None
    assert read("How many?", "work\n#### a few") is None


def test_an_answer_that_is_more_than_its_text_is_not_asked_for():
    user, answer = {"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}
    assert right_answer([user], [{**answer, "reasoning_content": "I add."}]) is None
    assert right_answer([user], [{**answer, "content": None, "tool_calls": [{}]}]) is None
