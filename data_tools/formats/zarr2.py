"""Arrays of records in zarr v2 with fields that are arrays themselves, as in ``(2,) float64``.

zarr-python 3 reads zarr v2, records of plain fields included, but has no data type for a field such
as ``["centroid", "<f8", [2]]`` (3.1.6: "No Zarr data type found that matches"). NumPy has one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from data_tools.formats.documents import read_json
from forecast.errors import DataError
from forecast.storage.files import read_whole

# Most bytes of a file, or of the records read at once; checked before reading.
MAX_BYTES = 1 << 28
_BLOSC_SIZES = struct.Struct("<4xI4xI")  # of the content, and of the chunk itself


@dataclass(frozen=True)
class RecordArray:
    """A one-dimensional zarr v2 array of records, plain or compressed by Blosc.

    Args:
        path: Local path or fsspec URL.
        dtype: The record.
        length: Records in all.
        chunk: Records in each file.
        compressed: Whether files are Blosc's.
    """

    path: str
    dtype: np.dtype[np.void]
    length: int
    chunk: int
    compressed: bool

    def rows(self, start: int, stop: int) -> NDArray[np.void]:
        """Some records, reading only the files that they are in.

        Raises:
            DataError: There are no such records, too many, or a file of them is missing or damaged.
        """
        there = 0 <= start <= stop <= self.length
        if not there or (stop - start) * self.dtype.itemsize > MAX_BYTES:
            raise DataError(
                f"some of {self.length} records, up to {MAX_BYTES} bytes",
                f"{start} to {stop} of {self.path}",
                "leave it out",
            )
        first, last = start // self.chunk, -(-stop // self.chunk)
        chunks = [self._read(number) for number in range(first, last)]
        whole = np.concatenate(chunks) if chunks else np.empty(0, self.dtype)
        return whole[start - first * self.chunk :][: stop - start]

    def _read(self, number: int) -> NDArray[np.void]:
        where = f"{self.path}/{number}"
        content = read_whole(where, MAX_BYTES)
        size = self.chunk * self.dtype.itemsize
        if self.compressed:
            # Blosc trusts the sizes in its header, so they are checked first.
            head = content[: _BLOSC_SIZES.size]
            if len(head) < _BLOSC_SIZES.size or _BLOSC_SIZES.unpack(head) != (size, len(content)):
                raise DataError("a whole Blosc chunk", f"{where} of other sizes", "fetch it again")
            try:
                content = blosc.decompress(content)
            except (RuntimeError, ValueError) as error:
                raise DataError("a Blosc chunk", f"{where} ({error})", "fetch it again") from error
        if len(content) != size:
            raise DataError(f"a chunk of {size} bytes", f"{len(content)} in {where}", "replace it")
        return np.frombuffer(content, self.dtype)


def open_records(path: str, needed: np.dtype[Any]) -> RecordArray:
    """Opens an array whose records have some fields, whatever else they have.

    Args:
        path: Local path or fsspec URL of the array.
        needed: Fields that must be there, of just these types.

    Raises:
        DataError: It is no such array.
    """
    meta = read_json(f"{path}/.zarray")
    try:
        fields = [(name, kind, *map(tuple, shape)) for name, kind, *shape in meta["dtype"]]
        dtype = np.dtype(fields)
        (length,), (chunk,) = meta["shape"], meta["chunks"]
        compressor = meta["compressor"]
        plain = meta["zarr_format"] == 2 and not meta["filters"]
        known = compressor is None or compressor["id"] == "blosc"
        fits = length >= 0 and 0 < chunk * dtype.itemsize <= MAX_BYTES and not dtype.hasobject
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "a zarr v2 array of records", f"{path} with {error!r}", "leave it out"
        ) from error
    if not (plain and known and fits and {type(length), type(chunk)} == {int}):
        raise DataError(
            "a zarr v2 array of records, plain or in Blosc chunks", path, "convert it with zarr 2"
        )
    for name in needed.names or ():
        if name not in (dtype.names or ()) or dtype[name] != needed[name]:
            raise DataError(f"records with {name} as {needed[name]}", path, "leave it out")
    return RecordArray(path, dtype, length, chunk, compressor is not None)
