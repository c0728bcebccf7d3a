import pytest
from commands import hbo  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HBO_CACHE", str(folder))
    return folder
