import pytest

from hbo.atomic import atomic_path, new_folder
from hbo.errors import DataError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("old")
        assert not target.exists()
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [file.name for file in target.parent.iterdir()] == ["file.txt"]


def test_the_file_is_readable_by_others_as_the_umask_says(tmp_path):
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.touch()
    with atomic_path(atomic):
        pass
    assert atomic.stat().st_mode == plain.stat().st_mode


def test_an_unwritable_folder_is_a_data_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="choose another folder .HBO_CACHE"), atomic_path(tmp_path / "file" / "x"):
        pass


def test_an_interrupted_folder_is_never_there(tmp_path):
    target = tmp_path / "models" / "one"
    with pytest.raises(KeyboardInterrupt), new_folder(target) as staging:
        (staging / "half").write_text("half")
        assert not target.exists()
        raise KeyboardInterrupt
    assert list(target.parent.iterdir()) == []


def test_the_faster_process_wins(tmp_path):
    target = tmp_path / "one"
    with new_folder(target) as slow:
        (slow / "file").write_text("slow")
        with new_folder(target) as fast:
            (fast / "file").write_text("fast")
    assert (target / "file").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [target]
