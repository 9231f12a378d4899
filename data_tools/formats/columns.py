"""Tables in Apache Arrow's files, Feather and Parquet: the columns asked for, each value checked.

The declared sizes are summed before anything is unpacked, because a few kilobytes can be made to
unpack into more than a machine's memory.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forecast.errors import DataError, reason_of
from forecast.storage.files import filesystem

MAX_BYTES = 2**30  # of one table, unpacked
MAX_ROWS = 2**24
_FEATHER, _PARQUET = b"ARROW1\x00\x00", b"PAR1"
_FAULTS = (pa.ArrowException, ValueError, KeyError, IndexError, struct.error, MemoryError)


def read_columns(path: str, types: Mapping[str, pa.DataType]) -> dict[str, NDArray[Any]]:
    """Columns of a Feather (version 2) or Parquet file.

    Args:
        path: Local path or fsspec URL; its first bytes tell Feather from Parquet.
        types: Names of the columns, and the types that they must fit.

    Returns:
        Arrays of one length by name, text as Python strings; no value is missing or not finite.

    Raises:
        DataError: The file is no such table, is too large unpacked, or has a value at fault; the
            row is named, counted from 1.
    """
    table = read_table(path, types)
    return {name: _values(table[name], name, path) for name in types}


def read_table(path: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The same columns as a table, with the metadata of the file's schema.

    Raises:
        DataError: The file is no such table, or is too large unpacked.
    """
    system, inner = filesystem(path)
    try:
        table = _table(pa.py_buffer(system.cat_file(inner)), list(types))
        table.validate(full=True)
        columns = {name: table[name].cast(kind) for name, kind in types.items()}
        return pa.table(columns, metadata=table.schema.metadata)
    except (OSError, *_FAULTS) as error:
        raise DataError(
            f"a Feather or Parquet table with {', '.join(types)}",
            f"{path} ({reason_of(error)})",
            "check the file",
        ) from error


def _table(content: Any, names: list[str]) -> pa.Table:
    if content[: len(_FEATHER)].to_pybytes() == _FEATHER:
        messages = content.slice(len(_FEATHER))  # the file is a stream with an index at its end
        _check_size(*_size_of_stream(messages))
        return pa.ipc.open_stream(messages).read_all().select(names)
    if content[: len(_PARQUET)].to_pybytes() == _PARQUET:
        file = pq.ParquetFile(pa.BufferReader(content))
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        _check_size(file.metadata.num_rows, sum(group.total_byte_size for group in groups))
        return file.read(columns=names).select(names)
    raise ValueError("neither in its first bytes")


def _check_size(rows: int, size: int) -> None:
    if not (0 <= rows <= MAX_ROWS and 0 <= size <= MAX_BYTES):
        raise ValueError(
            f"{rows} rows of {size} bytes, more than {MAX_ROWS} rows or {MAX_BYTES} bytes"
        )


def _size_of_stream(messages: Any) -> tuple[int, int]:
    """Rows of an Arrow stream and its bytes when unpacked, as its messages declare them."""
    rows = size = 0
    reader = pa.ipc.MessageReader.open_stream(messages)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return rows, size
        if message.type not in ("record batch", "dictionary"):
            continue
        meta, body = memoryview(message.metadata), memoryview(message.body)
        batch = _child(meta, _number("<I", meta, 0), 2)
        if message.type == "dictionary":
            batch = _child(meta, batch, 1)
        rows += _number("<q", meta, _entry(meta, batch, 0)) if _entry(meta, batch, 0) else 0
        size += _size_of_batch(meta, batch, body)


def _size_of_batch(meta: memoryview, batch: int, body: memoryview) -> int:
    if not _entry(meta, batch, 2):
        return 0
    buffers = _child(meta, batch, 2)
    compressed = bool(_entry(meta, batch, 3))
    size = 0
    for place in range(_number("<I", meta, buffers)):
        offset, length = struct.unpack_from("<qq", meta, buffers + 4 + 16 * place)
        # A packed buffer begins with its length unpacked; -1 says that it was left as it is.
        declared = _number("<q", body, offset) if compressed and length else -1
        size += length if declared == -1 else declared
        if length < 0 or declared < -1:
            raise ValueError("a buffer of negative length")
    return size


# The metadata are FlatBuffers: tables whose entries are found through a list of offsets.
def _number(kind: str, meta: memoryview, at: int) -> int:
    return int(struct.unpack_from(kind, meta, at)[0])


def _entry(meta: memoryview, table: int, index: int) -> int:
    """Where entry ``index`` of a table is, 0 if it is left out."""
    offsets = table - _number("<i", meta, table)
    at = 4 + 2 * index
    inside = at < _number("<H", meta, offsets)
    offset = _number("<H", meta, offsets + at) if inside else 0
    return table + offset if offset else 0


def _child(meta: memoryview, table: int, index: int) -> int:
    """The table or vector that entry ``index`` of a table points to."""
    at = _entry(meta, table, index)
    if not at:
        raise ValueError("metadata cut short")
    return at + _number("<I", meta, at)


def _values(column: pa.ChunkedArray, name: str, path: str) -> NDArray[Any]:
    """A column as an array.

    Raises:
        DataError: A value is missing or not finite.
    """
    missing = column.is_null().to_numpy(zero_copy_only=False).astype(bool)
    values = column.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        missing = missing | ~np.isfinite(values)
    if missing.any():
        row = int(missing.argmax())
        raise DataError(
            f"a value in every row of {name}",
            f"{column[row].as_py()!r} in row {row + 1} of {path}",
            "correct the row or leave the recording out",
        )
    return np.array(values)  # a copy that can be written to
