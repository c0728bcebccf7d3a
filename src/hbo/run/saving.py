"""Writing a run's model and checkpoints, and reading them again.

What the libraries raise where that can't be done, each in its own way, is one sentence.
"""

from __future__ import annotations

import errno
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hbo.compat import DTensor
from hbo.errors import DataError, HBOError, ResumeError
from hbo.folder.paths import MODEL_CARD, last_checkpoint
from hbo.text import first_line

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
# safetensors and torch write with code of their own, and tell the reason in words only.
_IN_WORDS = re.compile(
    r"No space left|quota exceeded|Read-only file system|(?P<torch>PytorchStreamWriter|unexpected pos)", re.I
)


@contextmanager
def saving_to(folder: Path) -> Iterator[None]:
    """Nothing; inside it, an error of writing to the run folder tells what is safe and how to go on.

    Raises:
        DataError: The disk is full, read-only or broken.
        ResumeError: A file of the checkpoint is damaged, or would run code.
    """
    try:
        yield
    except HBOError:
        raise
    except Exception as error:
        if _cannot_read(error):
            raise ResumeError(
                f"{folder}: a file of the checkpoint can't be read, because it is damaged or holds code "
                f"({first_line(error)[:200]}); to resume from the one before, remove this checkpoint"
            ) from None
        reason = _reason(error)
        if reason is None:
            raise
        saved = last_checkpoint(folder)
        safe = f"{saved} is whole; free space, then go on with --resume" if saved else "free space, then begin again"
        raise DataError(f"{folder}: the run can't be saved ({reason}); {safe}") from None


class WithoutCards(TrainerCallback):
    """Removes the model cards that TRL and PEFT leave with every checkpoint: they know nothing of the run.

    The finished model has one that does. A repository that is pushed to while training goes on keeps theirs till then.
    """

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Removes them."""
        if state.is_world_process_zero and not args.push_to_hub:
            folder = Path(str(args.output_dir))
            for place in (folder, folder / f"checkpoint-{state.global_step}"):
                (place / MODEL_CARD).unlink(missing_ok=True)


def _cannot_read(error: Exception) -> bool:
    words = ("PytorchStreamReader", "Error while deserializing header", "invalid load key")
    return isinstance(error, pickle.UnpicklingError | EOFError) or any(part in str(error) for part in words)


def save_model(trainer: Trainer, folder: Path, chat_template: str | None = None) -> None:
    """Writes the whole model and its tokenizer, so that transformers alone can load them; all processes must call it.

    A tokenizer without a chat template of its own is saved with `chat_template`, as the model was prompted in training.
    """
    tokenizer: Any = trainer.processing_class
    own = tokenizer.chat_template
    tokenizer.chat_template = own or chat_template
    try:
        _save(trainer, folder)
    finally:
        tokenizer.chat_template = own  # what is measured from here on is what was before


def _save(trainer: Trainer, folder: Path) -> None:
    if not trainer.is_fsdp_enabled:
        # Its own, so that it doesn't push: there is no model card yet, and the run's folder isn't the model's.
        trainer.save_model(str(folder), _internal_call=True)
        return
    # A trainer whose checkpoints are sharded would write nothing here.
    state = trainer.accelerator.get_state_dict(trainer.model)
    whole = {name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in state.items()}
    if trainer.is_world_process_zero():
        trainer.model.save_pretrained(folder, state_dict=whole)
        trainer.processing_class.save_pretrained(folder)


def _reason(error: BaseException | None) -> str | None:
    found = None
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            return str(error.strerror)
        if match := _IN_WORDS.search(str(error)):
            found = "a file was cut short; is there space left?" if match["torch"] else match[0]
        error = error.__cause__ or error.__context__
    return found


def accept_stored_names(model: PreTrainedModel) -> None:
    """From here on `model.load_state_dict` takes weights under the names that `save_pretrained` gives them, too.

    transformers saves some models as the Hub has them, each expert for itself, and fuses experts when it loads a model.
    When its Trainer resumes, or loads the best checkpoint, it passes such names over without an error, and training
    goes on with other experts than were saved.
    """
    model.register_load_state_dict_pre_hook(_as_named_here)  # type: ignore[no-untyped-call]


def _as_named_here(model: Any, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    # Inside another model (PEFT's) the names begin with its own, and an adapter's checkpoint holds nothing of this one.
    if prefix or not state or state.keys() <= model.state_dict().keys():
        return
    loaded = type(model).from_pretrained(None, config=model.config, state_dict=dict(state), dtype=model.dtype)
    state.clear()
    state.update(loaded.state_dict())
