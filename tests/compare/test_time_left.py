"""How long a grid will still take."""

import pytest

from hbo.compare.time_left import seconds_to_the_end


@pytest.mark.parametrize(
    ("running", "waiting", "at_once", "left"),
    [
        ([], 3, 1, 180.0),  # one after the other
        ([], 3, 2, 120.0),
        ([10.0, 50.0], 0, 2, 50.0),
        ([10.0, 50.0], 1, 2, 70.0),  # it starts when the first ends
        ([10.0, 50.0], 2, 2, 110.0),
        ([], 0, 4, 0.0),
    ],
)
def test_waiting_runs_start_when_others_end(running, waiting, at_once, left):
    assert seconds_to_the_end(running, waiting, 60.0, at_once) == left
