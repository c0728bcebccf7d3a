import json
import math

import pytest
from example_runs import MULTITASK, read_lines, write_json, write_lines, write_run

from hbo.errors import DataError
from hbo.folder.ledger import read_lines as parse

LINE = {
    "step": 0,
    "start": 0,
    "global": {"a": 0.25, "b": 0.75},
    "local": {"a": [0.5, 0.5], "b": [1.0]},
    "global_reward": None,
    "local_reward": None,
    "global_reward_se": None,
    "local_reward_se": None,
    "drawn": {"a": [0, 0], "b": [0]},
    "seconds": 0.0,
    "probe_examples": 0,
}
NEXT = LINE | {"step": 10, "start": 44, "drawn": {"b": [30], "a": [6, 4]}}


@pytest.fixture
def ledger(tmp_path):
    def write(*lines, tail=b""):
        write_lines(tmp_path, lines)
        file = tmp_path / "balance.jsonl"
        file.write_bytes(file.read_bytes() + tail)
        return file

    return write


def test_every_line_of_a_run_is_read(tmp_path):
    folder = write_run(tmp_path / "run", updates=3)
    datasets, lines = parse(folder / "balance.jsonl")
    assert datasets == tuple(MULTITASK)
    assert [line.step for line in lines] == [0, 20, 40, 60]
    raw = read_lines(folder)[2]
    assert lines[2].reward_KL[1] == tuple(raw["local_reward"]["math"])
    assert lines[0].reward_K is None


def test_values_follow_the_first_lines_order_not_each_lines_own(ledger):
    _, lines = parse(ledger(LINE, NEXT))
    assert lines[1].drawn_KL == ((6, 4), (30,))


@pytest.mark.parametrize("tail", [b'{"step": 20, "sta', b'{"step": 20, "global": {"\xc3', b"\x00\x00\x00"])
def test_a_torn_last_line_is_ignored(ledger, tail):
    _, lines = parse(ledger(LINE, NEXT, tail=tail))
    assert len(lines) == 2


def test_a_whole_last_line_without_its_newline_counts(ledger):
    _, lines = parse(ledger(LINE, tail=json.dumps(NEXT).encode()))
    assert [line.step for line in lines] == [0, 10]


def test_blank_lines_are_passed_over(ledger):
    file = ledger(LINE)
    file.write_bytes(file.read_bytes() + b"\n  \n" + json.dumps(NEXT).encode() + b"\n")
    assert len(parse(file)[1]) == 2


def test_a_missing_single_reward_is_a_gap(ledger):
    gap = NEXT | {"global_reward": {"a": None, "b": 2.0}, "global_reward_se": None}
    _, lines = parse(ledger(LINE, gap))
    assert math.isnan(lines[1].reward_K[0])
    assert lines[1].reward_K[1] == 2.0


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"balance\.jsonl: no such file"):
        parse(tmp_path / "balance.jsonl")


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"step": 0'])
def test_a_ledger_without_a_complete_line_is_one_sentence(tmp_path, content):
    (tmp_path / "balance.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="no complete line"):
        parse(tmp_path / "balance.jsonl")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (b"nonsense\n", "line 2: not JSON"),
        (b"[" * 100_000 + b"\n", "line 2: not JSON"),
        (b"[]\n", "line 2: not a JSON object"),
        (b"\xff\xfe\n", "line 2: not UTF-8"),
    ],
)
def test_a_broken_line_is_named_by_number(ledger, broken, said):
    with pytest.raises(DataError, match=said):
        parse(ledger(LINE, tail=broken))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"global": {"a": 0.5, "b": 0.6}}, "'global' must lie in 0..1 and sum to 1"),
        ({"global": {"a": -0.5, "b": 1.5}}, "'global' must lie in 0..1"),
        ({"global": {"a": math.nan, "b": 1.0}}, "'global' must lie in 0..1"),
        ({"local": {"a": [0.2, 0.2], "b": [1.0]}}, "'local' must lie in 0..1"),
        ({"local": {"a": [0.2, 0.3, 0.5], "b": [1.0]}}, "'drawn' must hold as many groups"),
        ({"global": {"a": 0.25, "c": 0.75}}, "'global' must name the same 2 datasets"),
        ({"global": None}, "'global' must name the same 2 datasets"),
        ({"global_reward": {"a": 1.0}}, "'global_reward' must name the same 2 datasets"),
        ({"local_reward": {"a": [1.0], "b": [1.0]}}, "'local_reward' must hold as many groups"),
        ({"drawn": {"a": [1.5, 0], "b": [0]}}, "'drawn' holds '1.5' where a whole number is needed"),
        ({"drawn": {"a": 3, "b": [0]}}, "'drawn' must hold a list"),
        ({"step": -1}, "'step' holds '-1'"),
        ({"step": True}, "'step' holds 'True'"),
        ({"step": 0}, "step 0 comes after step 0"),
        ({"start": None}, "'start' holds 'None'"),
        ({"seconds": "long"}, "'seconds' holds 'long'"),
        ({"seconds": 10**400}, "'seconds' holds"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_its_line(ledger, change, said):
    with pytest.raises(DataError, match=r"balance\.jsonl, line 2: ") as caught:
        parse(ledger(LINE, NEXT | change))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_number_of_groups_may_not_change(ledger):
    wider = NEXT | {"local": {"a": [0.5, 0.5], "b": [0.5, 0.5]}, "drawn": {"a": [0, 0], "b": [0, 0]}}
    with pytest.raises(DataError, match="line 2: the number of groups differs"):
        parse(ledger(LINE, wider))


def test_a_first_line_without_datasets_is_refused(tmp_path):
    write_json(tmp_path / "balance.jsonl", {"step": 0, "global": {}})
    with pytest.raises(DataError, match="line 1: 'global' must map each dataset"):
        parse(tmp_path / "balance.jsonl")
