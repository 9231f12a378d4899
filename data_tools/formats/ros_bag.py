"""MCAP files, chunk by chunk, whether or not they have an index, within bounds of memory.

The package ``mcap`` reads the records. Chunks are unpacked here, for a few kilobytes can be made to
unpack into more than a machine's memory.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

from data_tools.formats import ros_messages
from forecast.errors import DataError, reason_of
from forecast.storage.files import opened, refuse_pointer

MOST_BYTES = 2**28  # of a record, and of a chunk unpacked; they have some megabytes
CUT_SHORT = "mend it with `mcap recover`, or fetch it again"


def topics(path: str) -> dict[str, str]:
    """The topics of a bag, each with the type of its messages: from its summary, if it has one.

    Raises:
        DataError: The bag is cut short, damaged, or none.
    """
    from mcap.reader import SeekingReader
    from mcap.records import Channel, Schema

    kinds, channels = {0: ""}, []
    with _refusing_damage(path), opened(path) as file:
        bounded: Any = _BoundedReads(file)
        summary = SeekingReader(bounded, record_size_limit=MOST_BYTES).get_summary()
    if summary is not None and summary.channels:
        kinds |= {schema.id: schema.name for schema in summary.schemas.values()}
        channels = list(summary.channels.values())
    else:
        for record in _records(path):
            if isinstance(record, Schema):
                kinds[record.id] = record.name
            elif isinstance(record, Channel):
                channels.append(record)
    return {channel.topic: kinds.get(channel.schema_id, "") for channel in channels}


def messages(path: str, wanted: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """The messages on some topics, in the order of the bag: topic, and message in CDR.

    Args:
        path: Local path or fsspec URL.
        wanted: The topics, each with the type that it must have, ``package/msg/Type``.

    Raises:
        DataError: The bag is cut short, damaged, or none, or a topic is of another type, not in
            CDR, or its messages have other fields than published.
    """
    from mcap.records import Channel, Message, Schema

    schemas: dict[int, Any] = {}
    topic_of: dict[int, str] = {}
    for record in _records(path):
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel):
            topic_of[record.id] = record.topic
            if record.topic in wanted:
                _check_type(schemas.get(record.schema_id), record, wanted[record.topic], path)
        elif isinstance(record, Message):
            if record.channel_id not in topic_of:
                raise _damaged(path, "a message of no topic")
            topic = topic_of[record.channel_id]
            if topic in wanted:
                yield topic, record.data


def _check_type(schema: Any, channel: Any, kind: str, path: str) -> None:
    """Refuses a topic whose messages would be read wrongly.

    Raises:
        DataError: They are of another type or encoding, or their definition is not the published.
    """
    where = f"on {channel.topic} of {path}"
    remedy = "choose another topic, or record it anew with current messages"
    found = (schema.name, channel.message_encoding, schema.encoding) if schema else ("no type",)
    if found != (kind, "cdr", "ros2msg"):
        raise DataError(f"{kind}, cdr, ros2msg", f"{', '.join(found)} {where}", remedy)
    other = ros_messages.differs(kind, schema.data.decode("utf-8", "replace"))
    if other is not None:
        raise DataError(f"{kind} as published", f"{other} with other fields {where}", remedy)


def _records(path: str) -> Iterator[Any]:
    """Schemas, channels and messages of a whole bag.

    Raises:
        DataError: It is cut short, damaged, or none.
    """
    with _refusing_damage(path), opened(path) as file:
        yield from _unpacked(file)


@contextmanager
def _refusing_damage(path: str) -> Iterator[None]:
    """Turns errors about what is in a bag into one line."""
    import zstandard
    from mcap.exceptions import EndOfFile, InvalidMagic, McapError

    try:
        with opened(path) as file:
            refuse_pointer(file.read(16), path)
        yield
    except InvalidMagic as error:
        raise DataError("an MCAP file", f"{path} (other first or last bytes)", CUT_SHORT) from error
    except EndOfFile as error:
        raise DataError("a whole bag", f"{path}, cut short", CUT_SHORT) from error
    except (
        *(McapError, OSError, zstandard.ZstdError, struct.error),
        *(ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
    ) as error:
        raise _damaged(path, reason_of(error)) from error


def _damaged(path: str, reason: str) -> DataError:
    return DataError("a whole bag", f"{path}, damaged ({reason})", CUT_SHORT)


def _unpacked(file: IO[bytes]) -> Iterator[Any]:
    from mcap.records import Channel, Chunk, Message, Schema
    from mcap.stream_reader import StreamReader, breakup_chunk

    bounded: Any = _BoundedReads(file)
    reader = StreamReader(
        bounded, emit_chunks=True, validate_crcs=True, record_size_limit=MOST_BYTES
    )
    for record in reader.records:
        if isinstance(record, Chunk):
            plain = replace(record, compression="", data=_content(record))
            yield from breakup_chunk(plain, validate_crc=True)
        elif isinstance(record, Schema | Channel | Message):
            yield record


class _BoundedReads:
    """A file of which no more is read at once than a record may have.

    A text in a record can say that it has 4 GiB, for which there would be made room.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seekable, self.seek, self.tell = file.seekable, file.seek, file.tell

    def read(self, size: int) -> bytes:
        """So many bytes, or all that are left if there are fewer.

        Raises:
            ValueError: They are too many.
        """
        if size > MOST_BYTES:
            raise ValueError(f"a text of {size} bytes")
        return self._file.read(size)


def _content(chunk: Any) -> bytes:
    """What is in a chunk, of the size that it declares.

    Raises:
        ValueError: That is too large, or it is not of this size.
    """
    size = chunk.uncompressed_size
    if size > MOST_BYTES:
        raise ValueError(f"a chunk of {size} bytes")
    match chunk.compression:
        case "":
            content = chunk.data
        case "zstd":
            import zstandard

            unpack = zstandard.ZstdDecompressor(max_window_size=MOST_BYTES)
            content = unpack.stream_reader(io.BytesIO(chunk.data)).read(size + 1)
        case "lz4":
            import lz4.frame

            content = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, size + 1)
        case other:
            raise ValueError(f"a chunk packed by {other}")
    if len(content) != size:
        raise ValueError(f"a chunk of {len(content)} bytes that should have {size}")
    return bytes(content)
