from commands import hbo  # noqa: F401 - all of these are fixtures
from tiny_training import cache, config, make_trainer, model_folder, tokenizer, write_rows  # noqa: F401
