import pytest
from commands import hbo  # noqa: F401 - a fixture
from going_runs import Going


@pytest.fixture
def going(tmp_path):
    return Going(tmp_path / "multitask")
