"""TFRecord files without TensorFlow: records with their lengths, both with checksums.

A record is its length (8 bytes), the checksum of those (4), the content, and its checksum (4), all
little-endian; checksums are CRC-32C, rotated and offset so that checksums of checksums stay useful.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import IO

import google_crc32c

from forecast.errors import DataError
from forecast.storage.files import opened, refuse_pointer, version_of

# A scenario is one to a few MB; a length far beyond that is damage, not a scenario.
MAX_RECORD_BYTES = 1 << 28
_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")


def count_records(path: str) -> int:
    """The number of records of a file, including a last one that is cut short or damaged.

    Only the lengths are read, which is quick; reading a damaged record raises. Records after a
    damaged length cannot be found.

    Raises:
        DataError: The file cannot be read.
    """
    return len(_offsets_of(path))


def read_record(path: str, index: int) -> bytes:
    """One record's content, its checksums verified.

    Args:
        path: Local path or fsspec URL.
        index: From 0.

    Raises:
        DataError: There is no such record, or it is cut short or damaged.
    """
    offsets = _offsets_of(path)
    where = f"record {index} of {path}"
    if not 0 <= index < len(offsets):
        raise DataError(f"{len(offsets)} records", where, "name one that is there")
    try:
        with opened(path) as file:
            file.seek(offsets[index])
            length = _read_length(file, where)
            content, tail = file.read(length), file.read(_TAIL.size)
    except OSError as error:
        raise DataError("a TFRecord file", f"{path} ({error})", "check the file") from error
    if len(content) < length or len(tail) < _TAIL.size:
        raise DataError("a whole record", f"{where}, cut short", "fetch the file again")
    _check(content, _TAIL.unpack(tail)[0], where)
    return bytes(content)


def masked_crc(content: bytes) -> int:
    """The checksum that TFRecords store for some bytes."""
    crc = int(google_crc32c.value(content))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _offsets_of(path: str) -> tuple[int, ...]:
    version = version_of(path, "a TFRecord file")
    try:
        return _offsets(path, version)
    except OSError as error:
        raise DataError("a TFRecord file", f"{path} ({error})", "check the file") from error


@lru_cache(maxsize=8)
def _offsets(path: str, _version: str) -> tuple[int, ...]:
    """Where the records begin; ``_version`` makes a changed file a new one."""
    offsets = [0]
    with opened(path) as file:
        end = file.seek(0, 2)
        file.seek(0)
        while True:
            try:
                length = _read_length(file, path)
            except DataError:
                break
            after = offsets[-1] + _HEAD.size + length + _TAIL.size
            if after >= end:
                break
            offsets.append(file.seek(after))
    return tuple(offsets)


def _read_length(file: IO[bytes], where: str) -> int:
    head = file.read(_HEAD.size)
    refuse_pointer(head, where)
    if len(head) < _HEAD.size:
        raise DataError("a whole record", f"{where}, cut short", "fetch the file again")
    length, crc = _HEAD.unpack(head)
    _check(head[:8], crc, where)
    if length > MAX_RECORD_BYTES:
        raise DataError("a record that fits memory", f"{length} bytes in {where}", "leave it out")
    return int(length)


def _check(content: bytes, crc: int, where: str) -> None:
    if masked_crc(content) != crc:
        raise DataError(
            "an uncompressed TFRecord whose checksums hold", where, "fetch the file again"
        )
