import numpy as np
import pytest

from hbo.errors import DataError
from hbo.scoring.score_cache import Journal, keep_losses, kept_losses


def write(journal, *batches):
    with journal.appending() as file:
        for rows, losses in batches:
            journal.write(file, np.array(rows), np.array(losses))


def read(journal, count=6):
    loss_N = np.full(count, np.nan)
    return journal.read(loss_N).tolist(), loss_N.tolist()


def test_a_journal_gives_back_what_was_written(tmp_path):
    journal = Journal(tmp_path / "new" / "scores.given")
    assert read(journal, 2)[0] == [False, False]
    write(journal, ([4, 0], [1.5, 2.5]))
    write(journal, ([2], [0.1]))
    is_done, loss_N = read(journal)
    assert is_done == [True, False, True, False, True, False]
    assert [loss_N[0], loss_N[2], loss_N[4]] == [2.5, 0.1, 1.5]


def test_a_loss_that_was_not_finite_counts_as_measured(tmp_path):
    journal = Journal(tmp_path / "scores.given")
    write(journal, ([1], [np.nan]))
    assert read(journal, 2)[0] == [False, True]


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_record_cut_short_is_measured_again(tmp_path, cut):
    journal = Journal(tmp_path / "scores.given")
    write(journal, ([1, 3], [0.5, 0.7]))
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    assert read(journal)[0] == [False, True, False, False, False, False]
    write(journal, ([5], [0.9]))
    is_done, loss_N = read(journal)
    assert is_done == [False, True, False, False, False, True]
    assert loss_N[5] == 0.9


def test_the_final_file_gives_back_what_was_saved(tmp_path):
    path = tmp_path / "new" / "scores.parquet"
    assert kept_losses(path) is None
    keep_losses(path, np.array([0.1, np.nan]), np.array([np.nan, 3.0]))
    np.testing.assert_array_equal(kept_losses(path), [[0.1, np.nan], [np.nan, 3.0]])


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "scores.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"scores\.parquet: the cached scores can't be read .*; delete the file"):
        kept_losses(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataError, match=r"file.*can't be kept .*set HBO_CACHE"),
        Journal(tmp_path / "file" / "x").appending(),
    ):
        pass
    with pytest.raises(DataError, match="HBO_CACHE"):
        keep_losses(tmp_path / "file" / "x", np.zeros(1), np.zeros(1))
