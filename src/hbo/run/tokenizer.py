"""The tokenizer that renders a run's rows and is saved with its model: the model's, as `train:` changes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from hbo.errors import ConfigError, ModelError, first_line
from hbo.scoring.models import load_tokenizer

TEMPLATE = "chat_template_path"
_TOKENS = ("eos_token", "pad_token")
_FILES = (".jinja", ".j2")


def tokenizer_of(spec: str, train: Mapping[str, Any], *, pickles: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of the model `spec`, with the chat template and the tokens that `train` asks for.

    Args:
        spec: Where the model is.
        train: Keys of `train:`, of the types that their fields take.
        pickles: Whether the model's weights may be pickled.

    Raises:
        ConfigError: There is no such template, or a token that the tokenizer doesn't know.
        ModelError: It can't be found or loaded.
    """
    given = {name: str(token) for name in _TOKENS if (token := train.get(name)) is not None}
    tokenizer = load_tokenizer(
        spec,
        trust_remote_code=bool(train.get("trust_remote_code", False)),
        pickles=pickles,
        revision=(train.get("model_init_kwargs") or {}).get("revision"),
        tokens=given,
    )
    if (template := train.get(TEMPLATE)) is not None:
        known = tokenizer.get_vocab()
        tokenizer.chat_template, end = _read(str(template), known, given.get("eos_token"))
        if end is not None:
            tokenizer.eos_token = end
    return tokenizer


def _read(template: str, known: Mapping[str, int], end: str | None) -> tuple[str, str | None]:
    """The chat template that stands in a file or belongs to a tokenizer, and `end` or else the latter's end token."""
    path = Path(template).expanduser()
    where = f"train.{TEMPLATE}: {template}"
    if path.suffix in _FILES:
        try:
            return path.read_text(encoding="utf-8"), end
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where} can't be read ({first_line(error)}); give a template as UTF-8 text") from None
    if path.is_file():
        raise ConfigError(f"{where} is no template; give a .jinja file, a folder with a tokenizer, or a Hub name")
    try:
        source = load_tokenizer(str(path) if path.is_dir() else template, alone=True)
        text = str(source.get_chat_template())
    except ModelError as error:
        raise ConfigError(f"train.{TEMPLATE}: {error}") from None
    except ValueError:
        raise ConfigError(f"{where} has a tokenizer without a chat template; name one that has") from None
    end = end or source.eos_token
    needed = {str(token) for token in source.added_tokens_decoder.values() if str(token) in text}
    if missing := sorted(token for token in needed | ({end} - {None}) if token not in known):
        raise ConfigError(
            f"{where} writes {', '.join(missing[:5])}, which the model's tokenizer doesn't know; add them to tokenizer "
            "and embeddings of the model first, or take a template that does without"
        )
    return text, end
