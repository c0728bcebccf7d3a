"""Each of the runs that go on at once has a GPU of its own, or its part of the CPU."""

import os
import sys

import pytest

from hbo.compare.child import Child
from hbo.compare.places import places_for, visible_gpus
from hbo.errors import ConfigError

MANY = 100
VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
SEEN = f"import os; print(*(os.environ.get(v) or '-' for v in {VARIABLES}))"


@pytest.fixture
def gpus(monkeypatch):
    """Sets the names of GPUs, and how many of these CUDA sees."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def name(names, count):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)

    return name


def seen(place, tmp_path):
    """What a command sees in its environment at this place."""
    held = os.open(tmp_path / "lock", os.O_CREAT)
    child = Child([sys.executable, "-c", SEEN], tmp_path / "log", held, place)
    while child.code() is None:
        pass
    os.close(held)
    return (tmp_path / "log").read_text().split()


def test_each_run_sees_a_gpu_of_its_own_by_the_users_name_for_it(gpus, tmp_path):
    gpus("GPU-5ebe9f43, GPU-8f3a ,GPU-3", 3)
    assert [seen(place, tmp_path)[0] for place in places_for(2, MANY)] == ["GPU-5ebe9f43", "GPU-8f3a"]


def test_parts_of_a_gpu_are_all_used_though_cuda_counts_one(gpus, tmp_path):
    gpus("MIG-8f3a,MIG-77c1,-1,MIG-99e0", 1)
    assert [seen(place, tmp_path)[0] for place in places_for(2, MANY)] == ["MIG-8f3a", "MIG-77c1"]


def test_names_of_gpus_that_are_not_there_count_for_nothing(gpus, monkeypatch, tmp_path):
    gpus("0,1", 1)
    with pytest.raises(ConfigError, match=r"1 GPU can be seen \(CUDA_VISIBLE_DEVICES=0\); give --jobs 1\."):
        places_for(2, MANY)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    for names in ("0,1", "NoDevFiles", "MIG-8f3a,MIG-77c1"):
        gpus(names, 0)
        assert [seen(place, tmp_path)[1] for place in places_for(4, MANY)] == ["2", "2", "2", "2"]


def test_a_gpu_that_is_named_twice_is_refused(gpus):
    gpus("0,0", 0)
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=0,0 names a GPU twice"):
        places_for(2, MANY)


def test_there_are_no_more_places_than_runs(gpus, monkeypatch, tmp_path):
    gpus("2,5", 2)
    assert [seen(place, tmp_path)[0] for place in places_for(3, 2)] == ["2", "5"]
    assert places_for(3, 1) == [{}]
    gpus("", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert [seen(place, tmp_path)[1] for place in places_for(8, 2)] == ["4", "4"]


def test_the_gpus_of_a_launcher_do_not_depend_on_the_number_of_runs(gpus, tmp_path):
    gpus("0,1,2,3", 4)
    assert seen(places_for(2, 1, several=True)[0], tmp_path)[0] == "0,1"


def test_runs_of_several_processes_share_all_gpus_evenly(gpus, tmp_path):
    gpus("4,5,6,7,8", 5)
    assert [seen(place, tmp_path)[0] for place in places_for(2, MANY, several=True)] == ["4,5", "6,7"]


def test_more_runs_than_gpus_are_refused_with_what_there_is(gpus):
    gpus("2,5", 2)
    with pytest.raises(ConfigError, match=r"2 GPUs can be seen \(CUDA_VISIBLE_DEVICES=2,5\); give --jobs 2\."):
        places_for(3, MANY)
    with pytest.raises(ConfigError, match="--jobs is 0"):
        places_for(0, MANY)


def test_one_run_has_all_that_there_is(gpus, tmp_path):
    gpus("2,5", 2)
    assert [seen(place, tmp_path) for place in places_for(1, MANY)] == [["2,5", "-"]]


@pytest.mark.parametrize("hidden", ["", "-1,-1", None])
def test_on_a_cpu_threads_are_divided(gpus, monkeypatch, tmp_path, hidden):
    gpus(hidden or "", 0)
    if hidden is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(7)))
    assert [seen(place, tmp_path)[1] for place in places_for(3, MANY)] == ["2", "2", "2"]
    assert seen(places_for(20, MANY)[0], tmp_path)[1] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert seen(places_for(3, MANY)[0], tmp_path)[1] == "5"


def test_runs_that_leave_gpus_alone_need_none(gpus):
    gpus("0", 1)
    assert len(places_for(3, MANY, on_cpu=True)) == 3


def test_without_the_variable_gpus_are_numbered():
    assert visible_gpus({}, lambda: 3) == ["0", "1", "2"]
