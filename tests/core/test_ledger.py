"""The ledger is append-only, survives JSON bit for bit and knows what holds at each position."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hbo.core.ledger import Entry, Ledger
from hbo.errors import DataError

NAMES = ("math", "chat")
KEYS = {
    "step", "start", "global", "local", "global_reward", "local_reward",
    "global_reward_se", "local_reward_se", "drawn", "seconds", "probe_examples",
}  # fmt: skip


def entry(step=0, start=0, p=(0.25, 0.75), **fields):
    return Entry(step, start, np.array(p), np.array([[0.5, 0.5], [0.1, 0.9]]), **fields)


FULL = entry(
    step=20,
    start=336,
    global_reward_K=np.array([1.5, np.nan]),
    local_reward_KL=np.array([[1.0, np.nan], [0.1 + 0.2, 3.0]]),
    global_se_K=np.array([0.1, np.nan]),
    local_se_KL=np.array([[0.1, np.nan], [0.2, 0.3]]),
    drawn_KL=np.array([[1, 2], [3, 4]]),
    seconds=1.25,
    probe_examples=64,
)


def through_json(record):
    return json.loads(json.dumps(record, allow_nan=False))


def same(one, other):
    for field in dataclasses.fields(Entry):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            assert a.tobytes() == b.tobytes(), field.name
        else:
            assert a == b, field.name


def test_a_record_has_the_keys_of_the_contract():
    record = FULL.to_record(NAMES)
    assert set(record) == KEYS
    assert record["global"] == {"math": 0.25, "chat": 0.75}
    assert record["local"] == {"math": [0.5, 0.5], "chat": [0.1, 0.9]}
    assert record["drawn"] == {"math": [1, 2], "chat": [3, 4]}


def test_what_could_not_be_measured_is_null_in_json_and_nan_again_after():
    record = through_json(FULL.to_record(NAMES))
    assert record["global_reward"] == {"math": 1.5, "chat": None}
    assert record["local_reward"]["math"] == [1.0, None]
    same(Entry.from_record(record, NAMES), FULL)


def test_the_prior_has_no_rewards_and_nothing_drawn():
    record = through_json(entry().to_record(NAMES))
    assert record["global_reward"] is None
    assert record["local_reward_se"] is None
    assert record["drawn"] == {"math": [0, 0], "chat": [0, 0]}
    assert Entry.from_record(record, NAMES).global_reward_K is None


@given(hnp.arrays(np.float64, 2, elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_any_float_comes_back_bit_for_bit(p):
    record = through_json(entry(p=p).to_record(NAMES))
    assert Entry.from_record(record, NAMES).p_K.tobytes() == p.tobytes()


def test_the_order_of_names_in_a_record_does_not_matter():
    record = FULL.to_record(NAMES)
    record["global"] = dict(reversed(record["global"].items()))
    assert Entry.from_record(record, NAMES).p_K.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.pop("global"),
        lambda record: record["global"].pop("chat"),
        lambda record: record.update(step="soon"),
        lambda record: record.update(drawn=None),
        lambda record: record["local"].update(chat=[1.0]),
    ],
    ids=["no key", "no dataset", "no number", "null", "ragged"],
)
def test_a_record_that_does_not_fit_is_a_data_error(damage):
    record = FULL.to_record(NAMES)
    damage(record)
    with pytest.raises(DataError, match="record of the ledger"):
        Entry.from_record(record, NAMES)


def test_an_entry_holds_from_its_start_until_the_next_ones():
    ledger = Ledger(NAMES, [entry(0, 0), entry(1, 10), entry(2, 25)])
    assert [ledger.at(position).step for position in (0, 9, 10, 24, 25, 10**9)] == [0, 0, 1, 1, 2, 2]
    assert ledger.index_at(24) == 1


def test_of_two_entries_with_one_start_the_later_holds():
    assert Ledger(NAMES, [entry(0, 0), entry(1, 10), entry(2, 10)]).at(10).step == 2


@pytest.mark.parametrize(("step", "start"), [(2, 9), (0, 10)])
def test_the_past_can_not_be_rewritten(step, start):
    ledger = Ledger(NAMES, [entry(0, 0), entry(1, 10)])
    with pytest.raises(DataError, match=f"step {step} would come before the last entry"):
        ledger.append(entry(step, start))
    assert len(ledger) == 2


def test_a_ledger_comes_back_from_its_records():
    ledger = Ledger(NAMES, [entry(), FULL])
    restored = Ledger.from_records(map(through_json, ledger.records()), NAMES)
    assert len(restored) == 2
    for one, other in zip(ledger, restored, strict=True):
        assert one.to_record(NAMES) == other.to_record(NAMES)
    same(restored[1], FULL)
    assert restored.digest() == ledger.digest()


def test_the_digest_tells_ledgers_apart_by_what_decides_the_draws():
    digest = Ledger(NAMES, [entry()]).digest()
    assert digest == Ledger(NAMES, [entry(seconds=9.0, probe_examples=3)]).digest()
    ulp = np.nextafter(0.25, 1)
    for other in (
        entry(p=(ulp, 0.75)),
        entry(start=1),
        entry(step=1),
        dataclasses.replace(entry(), q_KL=np.ones((2, 2))),
    ):
        assert Ledger(NAMES, [other]).digest() != digest
    assert Ledger(NAMES, [entry(), entry(1, 1)]).digest() != digest
