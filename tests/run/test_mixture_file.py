import json
import math

import numpy as np
from datasets import Dataset

from hbo.run.mixture_file import described


def rows(sizes=(7, 5)):
    names = [name for name, size in zip("ab", sizes, strict=True) for _ in range(size)]
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": f"question {i}"}] for i in range(len(names))],
            "completion": [[{"role": "assistant", "content": "answer " * 200}] for _ in names],
            "hbo_dataset": names,
            "hbo_row": [100 + i for i in range(len(names))],
            "hbo_level": [int(i % 2) for i in range(len(names))],
        }
    )


def test_groups_are_counted_with_the_ends_of_their_scores():
    found = described(rows(), rows((0, 3)), np.linspace(0, 1.1, 12), 1)
    assert [[group.rows for group in found[name].groups] for name in "ab"] == [[4, 3], [2, 3]]
    assert [found[name].held_out for name in "ab"] == [0, 3]
    first = found["a"].groups[0]
    assert np.allclose([first.low, first.high], [0, 0.6])


def test_examples_come_from_the_middle_of_their_group_and_are_cut_short():
    value_N = np.array([9, 9, 5, 9, 1, 9, 7, 9, 9, 9, 9, 9], dtype=float)  # a's easiest: rows 0, 2, 4, 6
    found = described(rows(), rows((0, 0)), value_N, 2)["a"].groups[0].examples
    assert [(example.row, example.score) for example in found] == [(102, 5.0), (106, 7.0)]
    assert found[0].prompt == "question 2"
    assert len(found[0].response) == 500
    assert found[0].response.endswith("…")


def test_rows_without_a_score_have_none():
    group = described(rows(), rows((0, 0)), None, 1)["b"].groups[1]
    assert all(map(math.isnan, (group.low, group.high, group.examples[0].score)))
    assert json.loads(group.to_json())["low"] is None
    half = np.where(np.arange(12) < 4, 1.0, np.nan)
    group = described(rows(), rows((0, 0)), half, 9)["a"].groups[0]
    assert (group.low, group.high) == (1.0, 1.0)
    assert np.array_equal([example.score for example in group.examples], [1.0, 1.0, np.nan, np.nan], equal_nan=True)


def test_no_examples_no_texts():
    assert "question" not in str(described(rows(), rows((0, 0)), None, 0))


def test_turns_of_a_conversation_are_told_apart():
    data = rows((1, 1)).to_dict()
    data["prompt"][0] = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    found = described(Dataset.from_dict(data), rows((0, 0)), None, 1)["a"].groups[0].examples[0]
    assert found.prompt == "system: be kind\nuser: hello"


def test_thoughts_and_calls_are_part_of_the_response():
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    data = rows((1, 1)).to_dict()
    data["completion"][0] = [{"role": "assistant", "content": None}]
    data["hbo_extra"] = [json.dumps({"turns": {"1": {"reasoning_content": "I add.", "tool_calls": [call]}}}), None]
    found = described(Dataset.from_dict(data), rows((0, 0)), None, 1)["a"].groups[0].examples[0]
    assert found.response == 'I add.\n{"name": "add", "arguments": {"a": 1}}'
