import numpy as np
import pytest

from hbo.core.groups import Groups
from hbo.core.ledger import Entry, Ledger
from hbo.core.stream import Stream
from hbo.training.sampler import HBOSampler
from hbo.training.schedule import RepeatedSchedule, Repeats, Schedule


def stream(rows=14):
    groups = Groups.from_columns(["a"] * rows, [0] * rows)
    return Stream(groups, Ledger(["a"], [Entry(0, 0, np.ones(1), np.ones((1, 1)))]), seed=3)


def by_hand(prompts, times, batches, epochs):
    """What TRL's RepeatSampler makes of the stream, written as it is drawn there."""
    drawn = stream().rows(0, epochs * (14 // prompts) * prompts).reshape(-1, prompts)
    return [
        row for batch in drawn.tolist() for _ in range(batches) for prompt in batch for row in [prompt] * times
    ]  # fmt: skip


@pytest.mark.parametrize("accumulation", [1, 2, 3, 4])
@pytest.mark.parametrize("batches", [1, 2, 3, 8])
def test_the_loader_gets_what_repeating_the_stream_gives(accumulation, batches):
    repeats = Repeats(times=3, prompts=4, batches=batches)
    schedule = RepeatedSchedule.repeated(3 * batches, accumulation, repeats)  # 14 rows are 3 batches of 4 prompts
    sampler = HBOSampler(stream(), schedule)
    expected = by_hand(4, 3, batches, epochs=2)
    assert [*sampler, *sampler] == expected
    assert len(sampler) * 2 == len(expected)


@pytest.mark.parametrize("accumulation", [1, 2, 3])
@pytest.mark.parametrize("batches", [1, 2, 3])
def test_positions_are_prompts_and_a_step_takes_those_whose_batch_it_begins(accumulation, batches):
    schedule = RepeatedSchedule.repeated(3 * batches, accumulation, Repeats(2, 4, batches))
    for step in range(2 * schedule.steps_per_epoch):
        epoch, within = divmod(step, schedule.steps_per_epoch)
        begun = {batch // batches for batch in range(3 * batches) if batch < within * accumulation}
        assert schedule.position(step) == epoch * 12 + 4 * len(begun)
    assert schedule.rows_per_epoch == 12


@pytest.mark.parametrize("schedule", [Schedule(5, 3, 4), RepeatedSchedule.repeated(9, 2, Repeats(2, 4, 3))])
def test_an_epoch_resumed_in_the_middle_goes_on_with_the_same_rows(schedule):
    whole = list(HBOSampler(stream(), schedule))
    for done in range(1, schedule.steps_per_epoch):
        skipped = schedule.loaded_between(0, done)
        sampler = HBOSampler(stream(), schedule)
        sampler.seek(0, skip=done)
        assert list(sampler)[skipped:] == whole[skipped:]


def test_a_schedule_of_other_generations_is_another():
    saved = RepeatedSchedule.repeated(8, 2, Repeats(2, 4, 2)).saved()
    assert RepeatedSchedule.repeated(12, 2, Repeats(2, 4, 2)).is_as(saved)  # more rows, the same steps
    assert not RepeatedSchedule.repeated(8, 1, Repeats(2, 4, 2)).is_as(saved)
    assert not RepeatedSchedule.repeated(8, 2, Repeats(4, 4, 2)).is_as(saved)
    assert not Schedule(4, 4, 4).is_as(saved)
