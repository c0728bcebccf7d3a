import pytest
from commands import hbo  # noqa: F401
from local_rows import write_all


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with a few rows of every task in every language."""
    return write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
