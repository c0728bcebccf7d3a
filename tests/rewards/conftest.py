from tiny_training import cache, make_trainer, tokenizer  # noqa: F401 - fixtures
