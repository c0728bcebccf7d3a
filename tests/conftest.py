import os
import re
import signal

import datasets
import pytest
import torch
import transformers
from hypothesis import settings

# What is printed is what a pipe of any width gets, whatever terminal the tests are started from.
os.environ.pop("COLUMNS", None)

# What the tests start can be interrupted, also where they run in the background, for which a shell has SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure.
settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")

# What `hbo train` stands on: `hbo[train]`. A file that imports it, or a test that runs such a command, is marked `trl`.
_IMPORTS = re.compile(r"^(from|import) (trl|gguf|tensorboard|hbo\.(run|check|demo)|commands import)\b", re.MULTILINE)
_FIXTURES = {"hbo", "run_hbo"}


def pytest_ignore_collect(collection_path, config):
    """`-m "not trl"` leaves out files that can't even be imported without TRL."""
    if "not trl" not in config.option.markexpr or not re.fullmatch(r"test_.*\.py", collection_path.name):
        return None
    return True if _IMPORTS.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_collection_modifyitems(items):
    for item in items:
        if _FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("trl")


@pytest.fixture(autouse=True)
def ends_where_no_checkpoint_can_be_opened(monkeypatch):
    """With torch before 2.6 transformers opens no checkpoint of a Trainer; tests that resume one are skipped there."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        monkeypatch.setattr(
            "transformers.trainer.check_torch_load_is_safe",
            lambda: pytest.skip("transformers resumes no checkpoint with torch before 2.6"),
        )


@pytest.fixture(autouse=True)
def loud_libraries():
    """Commands that run in this process silence the libraries; the tests after them find these as they were."""
    yield
    datasets.enable_progress_bars()
    transformers.utils.logging.enable_progress_bar()
    transformers.utils.logging.set_verbosity_warning()
