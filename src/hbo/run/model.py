"""The run's model: where it lies, its tokenizer as `train:` changes it, what it can be given, and its weights.

Whatever takes a configuration here takes one that `hbo.run.arguments.typed` has gone over.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from datasets import disable_progress_bars
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig

from hbo.config import RunConfig
from hbo.errors import ConfigError, ModelError
from hbo.progress import Track, silent
from hbo.run.saving import accept_stored_names
from hbo.scoring.limits import Limits
from hbo.scoring.models import load_model, load_tokenizer, model_config, resolve
from hbo.text import first_line
from hbo.training.parallel import check_placement

_TEMPLATE = "chat_template_path"
_TOKENS = ("eos_token", "pad_token")
_FILES = (".jinja", ".j2")
# What of train.model_init_kwargs changes which rows a model can be given.
_SHAPES = ("max_position_embeddings", "n_positions", "rope_parameters", "rope_scaling", "vocab_size")
_OWN_INIT = ("dtype", "use_safetensors")  # of train.model_init_kwargs; seen to elsewhere


def quiet_libraries() -> None:
    """Leaves progress and warnings to the command line: no bars and no chatter of datasets and transformers."""
    disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


class FoundModel(NamedTuple):
    """A model whose weights aren't loaded yet: they are when the data is known to be fine."""

    name: str
    """What the user calls it."""
    spec: str
    """Where it is."""
    tokenizer: PreTrainedTokenizerBase
    limits: Limits
    """What rows it can be given, as far as its configuration says."""


def find_model(config: RunConfig, track: Track = silent) -> FoundModel:
    """The run's model, with what `train:` changes of its tokenizer and of its configuration.

    Raises:
        ConfigError: There is no such chat template, or a token that the tokenizer doesn't know.
        ModelError: The model or its tokenizer can't be found or loaded.
    """
    options = config.train.get("model_init_kwargs") or {}
    spec = resolve(config.model, pickles=_may_unpickle(options), track=track)
    tokenizer = _tokenizer(spec, config.train)
    shapes = {key: value for key, value in options.items() if key in _SHAPES}
    limits = _limits(spec, trust_remote_code=bool(config.train.get("trust_remote_code")), options=shapes)
    _pad_within(tokenizer, limits)
    return FoundModel(config.model, spec, tokenizer, limits)


def find_scorer(name: str, args: SFTConfig, track: Track) -> FoundModel:
    """A separate scorer; code that it brings runs under the same condition as the trained model's.

    Raises:
        ModelError: It or its tokenizer can't be found or loaded.
    """
    spec, trusts = resolve(name, track=track), bool(args.trust_remote_code)
    tokenizer = load_tokenizer(spec, trust_remote_code=trusts)
    return FoundModel(name, spec, tokenizer, _limits(spec, trust_remote_code=trusts, options={}))


def _limits(spec: str, *, trust_remote_code: bool, options: dict[str, Any]) -> Limits:
    config = model_config(spec, trust_remote_code=trust_remote_code, options=options)
    return Limits(None, None) if config is None else Limits.of(config)


def _pad_within(tokenizer: PreTrainedTokenizerBase, limits: Limits) -> None:
    """Lets the tokenizer pad with its end-of-text token if the model has no embedding of its pad token."""
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if limits.ids is None or not isinstance(pad, int) or pad < limits.ids or not isinstance(eos, int):
        return
    warnings.warn(
        f"the pad token {tokenizer.pad_token!r} has id {pad}, but the model's embeddings have {limits.ids} rows; "
        f"{tokenizer.eos_token!r} is used for padding instead, which is never trained on",
        UserWarning,
        stacklevel=2,
    )
    tokenizer.pad_token = tokenizer.eos_token


def load_weights(spec: str, args: SFTConfig) -> PreTrainedModel:
    """The model in fp32: under bf16 autocast these are the master weights, which bf16 ones are too coarse to be.

    Raises:
        ConfigError: Some of it was put on no device.
        ModelError: It can't be found or loaded.
    """
    options = {key: value for key, value in (args.model_init_kwargs or {}).items() if key not in _OWN_INIT}
    model = load_model(
        spec,
        dtype=dtype_of(args),
        trust_remote_code=args.trust_remote_code,
        pickles=_may_unpickle(args.model_init_kwargs),
        options=options,
    )
    check_placement(model)  # a device_map like "auto" shows only now what it does
    accept_stored_names(model)
    return model


def dtype_of(args: SFTConfig) -> torch.dtype:
    """What the weights are loaded in: fp32 unless `train.model_init_kwargs.dtype` says otherwise."""
    dtype = dict(args.model_init_kwargs or {}).get("dtype", torch.float32)
    found: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return found


def _may_unpickle(model_init_kwargs: Any) -> bool:
    """Whether the user asks for pickled weights, in transformers' own words."""
    return isinstance(model_init_kwargs, dict) and model_init_kwargs.get("use_safetensors") is False


def _tokenizer(spec: str, train: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer that renders the rows and is saved with the model, with the template and tokens of `train`."""
    options = train.get("model_init_kwargs")
    given = {name: str(token) for name in _TOKENS if (token := train.get(name)) is not None}
    tokenizer = load_tokenizer(
        spec,
        trust_remote_code=bool(train.get("trust_remote_code")),
        pickles=_may_unpickle(options),
        revision=(options or {}).get("revision"),
        tokens=given,
    )
    if (template := train.get(_TEMPLATE)) is not None:
        known = tokenizer.get_vocab()
        tokenizer.chat_template, end = _template(str(template), known, given.get("eos_token"))
        if end is not None:
            tokenizer.eos_token = end
    return tokenizer


def _template(given: str, known: Mapping[str, int], end: str | None) -> tuple[str, str | None]:
    """The chat template that stands in a file or belongs to a tokenizer, and `end` or else the latter's end token."""
    path = Path(given).expanduser()
    where = f"train.{_TEMPLATE}: {given}"
    if path.suffix in _FILES:
        try:
            return path.read_text(encoding="utf-8"), end
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where} can't be read ({first_line(error)}); give a template as UTF-8 text") from None
    if path.is_file():
        raise ConfigError(
            f"{where} isn't a chat template; give a .jinja file, a folder with a tokenizer, or a Hub name"
        )
    try:
        source = load_tokenizer(str(path) if path.is_dir() else given, alone=True)
        text = str(source.get_chat_template())
    except ModelError as error:
        raise ConfigError(f"train.{_TEMPLATE}: {error}") from None
    except ValueError:
        raise ConfigError(f"{where} has a tokenizer without a chat template; choose one with a template") from None
    end = end or source.eos_token
    needed = {str(token) for token in source.added_tokens_decoder.values() if str(token) in text}
    if missing := sorted(token for token in needed | ({end} - {None}) if token not in known):
        raise ConfigError(
            f"{where} writes {', '.join(missing[:5])}, which the model's tokenizer doesn't know; first add them to "
            "the model's tokenizer and embeddings, or choose a template without them"
        )
    return text, end
