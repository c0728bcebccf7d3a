"""`hbo compare` refuses in one sentence what it would misunderstand; what it does is tested in tests/compare."""

import pytest
from commands import hbo, refused  # noqa: F401 - the first is a fixture


@pytest.fixture
def compare(hbo, tmp_path, monkeypatch):  # noqa: F811
    """Lists the runs of a small grid, with `deepspeed` among the commands of the machine."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "deepspeed").write_text("#!/bin/sh\n")
    (tmp_path / "deepspeed").chmod(0o755)
    (tmp_path / "run.yaml").write_text("{model: nothing, mixture: {datasets: {a: a.jsonl}}, train: {max_steps: 4}}")

    def command(*words):
        return hbo("compare", tmp_path / "run.yaml", "--output", tmp_path / "grid", "--dry-run", *words)

    return command


def test_an_empty_list_of_methods_is_not_uniform(compare):
    refused(compare("--methods", ""), "--methods: name what to compare")
    refused(compare(), "--methods: name what to compare")


def test_a_launcher_is_looked_at_with_the_number_of_jobs(compare):
    words = ("--methods", "uniform", "--launcher", "deepspeed --num_gpus 2", "--jobs")
    refused(compare(*words, 2), "the 2 runs at once would share them")
    listed = compare(*words, 1)
    assert listed.returncode == 0 and "started by deepspeed --no_local_rank" in listed.stdout
