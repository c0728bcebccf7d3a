import hashlib
import importlib.util
import zipfile

import pytest

from hbo.demo import wheels
from hbo.demo.wheels import KnownWheel, fetch
from hbo.errors import DataError


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the only package index, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_words-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_words/words.jsonl", '{"word": "one"}\n')
        wheel.writestr("tiny_words/__init__.py", "raise SystemExit('imported')")
        info = "tiny_words-1.2.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def know(monkeypatch, sha256):
    monkeypatch.setitem(wheels.WHEELS, ("tiny-words", "1.2"), KnownWheel(sha256, 1))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_wheel_is_downloaded_whole_and_not_installed(index, tmp_path):
    wheel = fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")

    assert zipfile.ZipFile(wheel).read("tiny_words/words.jsonl") == b'{"word": "one"}\n'
    assert files(tmp_path / "cache") == ["wheels/tiny-words-1.2/tiny_words-1.2-py3-none-any.whl"]
    assert importlib.util.find_spec("tiny_words") is None


def test_a_second_fetch_asks_no_index(index, tmp_path, monkeypatch):
    first = fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache") == first


def test_a_known_wheel_with_another_hash_is_refused_and_not_kept(index, tmp_path, monkeypatch):
    know(monkeypatch, "0" * 64)
    with pytest.raises(DataError, match=r"its sha256 is .* has 0000"):
        fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")
    assert files(tmp_path / "cache") == []
    assert files(index)  # the index is not ours to tidy


def test_a_known_wheel_with_the_right_hash_is_taken(index, tmp_path, monkeypatch):
    know(monkeypatch, hashlib.sha256(next(index.iterdir()).read_bytes()).hexdigest())
    assert fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache").is_file()


def test_a_cached_wheel_that_was_changed_is_refused_and_left_alone(index, tmp_path, monkeypatch):
    know(monkeypatch, hashlib.sha256(next(index.iterdir()).read_bytes()).hexdigest())
    wheel = fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")
    wheel.write_bytes(b"changed")
    with pytest.raises(DataError, match=r"tiny_words-1\.2.*delete that file"):
        fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")
    assert wheel.read_bytes() == b"changed"


def test_an_unknown_version_is_one_sentence(index, tmp_path):
    with pytest.raises(DataError, match=r"tiny-words==9\.9 can't be downloaded: the package index has no wheel"):
        fetch("tiny-words", "9.9", cache_dir=tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_an_unreachable_index_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DataError, match="the package index can't be reached"):
        fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")


def test_without_pip_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="python -m ensurepip"):
        fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")


def test_a_cache_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match="set HBO_CACHE"):
        fetch("tiny-words", "1.2", cache_dir=tmp_path / "cache")
