import pytest
from commands import hbo  # noqa: F401 - a fixture
from going_runs import Going


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HBO_CACHE", str(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    return folder


@pytest.fixture
def going(tmp_path):
    return Going(tmp_path / "multitask")
