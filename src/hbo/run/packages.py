"""What a configuration needs that `pip install hbo` doesn't bring: refused by name before anything is read.

The libraries look for such a package when they come to use it, which may be hours of scoring later. Whether one is
there is asked of them, so that both answers are the same; what to install, and for which value, says the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import transformers.integrations as trackers
import transformers.utils as libraries
from transformers import PretrainedConfig
from transformers.quantizers import AutoHfQuantizer

from hbo.errors import ConfigError, ModelError
from hbo.text import first_line


@dataclass(frozen=True)
class Requirement:
    """A value of `train:` and the package that it needs."""

    key: str
    """Below `train.`; with a dot, a key of a mapping."""
    values: tuple[str, ...]
    """Patterns of the values, as text."""
    is_there: Callable[[], bool]
    package: str
    mend: str = ""
    """How to get it; absent: `pip install` and its name."""


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _for_optimizer(package: str, is_there: Callable[[], bool], *values: str, mend: str = "") -> Requirement:
    return Requirement("optim", values, is_there, package, mend)


def _for_tracker(value: str, is_there: Callable[[], bool], package: str = "", mend: str = "") -> Requirement:
    return Requirement("report_to", (value,), is_there, package or value, mend)


def _for_attention(value: str, package: str, mend: str) -> Requirement:
    # Without it transformers takes the same attention from the Hub through `kernels`; two kinds of devices bring it.
    def is_there() -> bool:
        instead = libraries.is_kernels_available, libraries.is_torch_npu_available, libraries.is_torch_xpu_available
        return _is_installed(package) or any(is_available() for is_available in instead)

    return Requirement(_ATTENTION, (value,), is_there, package, mend)


_ATTENTION = "model_init_kwargs.attn_implementation"
_BITS = ("adamw_8bit", "adamw_bnb_*", "ademamix*", "lion_*", "paged_*", "rmsprop_bnb*")
_FLASH_3 = "run pip install kernels, or build it from github.com/Dao-AILab/flash-attention"

NEEDS = (
    _for_optimizer("bitsandbytes", libraries.is_bitsandbytes_available, *_BITS),
    _for_optimizer("galore-torch", libraries.is_galore_torch_available, "galore_*"),
    _for_optimizer("apollo-torch", libraries.is_apollo_torch_available, "apollo_*"),
    _for_optimizer("lomo-optim", libraries.is_lomo_available, "lomo", "adalomo"),
    _for_optimizer("grokadamw", libraries.is_grokadamw_available, "grokadamw"),
    _for_optimizer("torchao", libraries.is_torchao_available, "adamw_torch_4bit", "adamw_torch_8bit"),
    _for_optimizer("schedulefree", libraries.is_schedulefree_available, "schedule_free_*"),
    _for_optimizer("torch-optimi", libraries.is_torch_optimi_available, "stable_adamw"),
    _for_optimizer("torch_xla", libraries.is_torch_xla_available, "adamw_torch_xla"),
    _for_optimizer("torch_npu", libraries.is_torch_npu_available, "adamw_torch_npu_fused"),
    _for_optimizer(
        *("torchdistx", libraries.is_torchdistx_available, "adamw_anyprecision"),
        mend="install it from github.com/pytorch/torchdistx",
    ),
    _for_tracker("azure_ml", trackers.is_azureml_available, "azureml", "run pip install azureml-sdk"),
    _for_tracker("clearml", trackers.is_clearml_available),
    _for_tracker("codecarbon", trackers.is_codecarbon_available),
    _for_tracker(
        *("comet_ml", trackers.is_comet_available, "comet_ml with an API key"),
        "run pip install comet-ml and set COMET_API_KEY",
    ),
    _for_tracker("dagshub", trackers.is_dagshub_available, mend="run pip install dagshub mlflow"),
    _for_tracker("dvclive", trackers.is_dvclive_available),
    _for_tracker("flyte", trackers.is_flytekit_available, "flytekit"),
    _for_tracker("kubeflow", trackers.is_kubeflow_available, "a Kubeflow TrainJob around it", "start it as one"),
    _for_tracker("mlflow", trackers.is_mlflow_available),
    _for_tracker("neptune", trackers.is_neptune_available),
    _for_tracker("swanlab", trackers.is_swanlab_available),
    _for_tracker("tensorboard", trackers.is_tensorboard_available),
    _for_tracker("trackio", trackers.is_trackio_available),
    _for_tracker("wandb", trackers.is_wandb_available),
    Requirement("deepspeed", ("*",), trackers.is_deepspeed_available, "deepspeed"),
    Requirement("use_liger_kernel", ("True",), libraries.is_liger_kernel_available, "liger-kernel"),
    Requirement("model_init_kwargs.use_kernels", ("True",), libraries.is_kernels_available, "kernels"),
    _for_attention("flash_attention_2", "flash-attn", "run pip install flash-attn, or pip install kernels"),
    _for_attention("flash_attention_3", "flash-attn-3", _FLASH_3),
    _for_attention("flash_attention_4", "flash-attn-4", "run pip install flash-attn-4, or pip install kernels"),
    Requirement(_ATTENTION, ("*/*",), libraries.is_kernels_available, "kernels"),
)


def check_packages(train: Mapping[str, Any]) -> None:
    """Refuses settings of `train:` for which a package is missing; SFTConfig asks for some too, in other words.

    Raises:
        ConfigError: Names the key, its value and what to install.
    """
    for need in NEEDS:
        for value in _values(_get(train, need.key)):
            if any(fnmatchcase(value, pattern) for pattern in need.values) and not need.is_there():
                raise ConfigError(
                    f"train.{need.key}{_shown(value)} needs {need.package}, which isn't installed; "
                    f"{need.mend or f'run pip install {need.package}'}, or choose another value"
                )
    quantized = _get(train, "model_init_kwargs.quantization_config")
    if isinstance(quantized, Mapping) and (reason := _unusable(quantized, is_stored=False)):
        raise ConfigError(f"train.model_init_kwargs.quantization_config: {reason}; fix that, or choose another format")


def check_stored(spec: str, model: PretrainedConfig | None) -> None:
    """Refuses a model whose weights lie in a format for which a package is missing.

    A model without a known configuration passes, and loading the weights will say it.

    Raises:
        ModelError: Says what is missing.
    """
    stored = getattr(model, "quantization_config", None)
    if isinstance(stored, Mapping) and (reason := _unusable(stored, is_stored=True)):
        raise ModelError(f"model '{spec}' is quantized: {reason}; fix that, or choose another model")


def _unusable(quantized: Mapping[str, Any], *, is_stored: bool) -> str:
    """Why a format can't be computed with here; empty if it can."""
    try:
        quantizer = AutoHfQuantizer.from_config({**quantized}, pre_quantized=is_stored)
        quantizer.validate_environment(device_map=None, weights_only=True)
    except Exception as error:  # of two dozen formats, each with an error of its own
        return first_line(error).rstrip(".")
    return ""


def _values(value: Any) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if each is not None:
            yield str(getattr(each, "value", each))


def _shown(value: str) -> str:
    return f": {value.lower() if value == 'True' else value}" if len(value) < 60 else ""


def _get(train: Mapping[str, Any], key: str) -> Any:
    name, _, inner = key.partition(".")
    value = train.get(name)
    return value if not inner else value.get(inner) if isinstance(value, Mapping) else None
