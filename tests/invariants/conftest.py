from commands import hbo  # noqa: F401 - a fixture
