"""What stands for the content of a dataset or of a model: the same content, the same name, wherever it lies."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import torch
import xxhash
from datasets import Dataset
from torch import nn

_BATCH = 1000


def content_fingerprint(data: Dataset, columns: Sequence[str]) -> str:
    """32 hex digits that stand for the values of these columns, row by row.

    Neither the files that the rows lie in matter nor the width of integers or strings.

    Example:
        >>> rows = Dataset.from_list([{"a": [1, 2]}, {"a": [3]}])
        >>> content_fingerprint(rows, ["a"]) == content_fingerprint(rows.select([0, 1]), ["a"])
        True
    """
    digest = xxhash.xxh3_128()
    # Batches of a fixed size, so that it doesn't matter how the file is cut into chunks.
    for table in data.select_columns(list(columns)).with_format("arrow").iter(_BATCH):
        for name in columns:
            digest.update(name.encode())
            _add(digest, table[name].combine_chunks())
    return digest.hexdigest()


def model_fingerprint(model: nn.Module) -> str:
    """32 hex digits that stand for the model's parameters and buffers, bit for bit and in their order.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = model_fingerprint(layer)
        >>> _ = nn.init.zeros_(layer.bias)
        >>> model_fingerprint(layer) == before
        False
    """
    digest = xxhash.xxh3_128()
    # Buffers too: they hold the rotary frequencies, in which two models of the same weights can differ.
    for tensor in (*model.parameters(), *model.buffers()):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _add(digest: xxhash.xxh3_128, values: pa.Array) -> None:
    kind = values.type
    digest.update(values.is_valid().to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _add(digest, pc.list_value_length(values))
        _add(digest, values.flatten())
    elif pa.types.is_struct(kind):
        for child in values.flatten():
            _add(digest, child)
    elif pa.types.is_integer(kind):
        digest.update(pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False))
    elif pa.types.is_floating(kind):
        digest.update(pc.fill_null(values.cast(pa.float64()), 0).to_numpy(zero_copy_only=False))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        _add(digest, pc.binary_length(values))
        digest.update(b"".join(value or b"" for value in values.cast(pa.large_binary()).to_pylist()))
    else:
        digest.update(repr(values.to_pylist()).encode("utf-8", "surrogatepass"))
