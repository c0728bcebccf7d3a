import datasets
import pytest
import transformers


@pytest.fixture(autouse=True)
def loud_libraries():
    """Commands that run in this process silence the libraries; the tests after them find these as they were."""
    yield
    datasets.enable_progress_bars()
    transformers.utils.logging.enable_progress_bar()
    transformers.utils.logging.set_verbosity_warning()
