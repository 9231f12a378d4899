"""XML files from unknown sources, one child of the root at a time.

The standard library's parser fetches nothing that a file refers to. What it would do for a hostile
file is bounded here: entities need a document type, which is refused; so are depths, numbers and
lengths that no map or scenario has. No more is kept than one child of the root.
"""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from typing import IO, Any

from forecast.errors import DataError, reason_of
from forecast.storage.files import opened

# Of a piece that is parsed at once. Each has a tag in it, or a long token would be read again with
# every further piece (CVE-2023-52425).
PIECE_BYTES = 2**18
MAX_BYTES = 2**28  # unpacked
MAX_ELEMENTS = 2**22
MAX_DEPTH = 64
GZIP = b"\x1f\x8b"


def read_xml(path: str, root: str, most_bytes: int | None = None) -> Iterator[ET.Element]:
    """The root of an XML file, as yet without children, and then each of them, whole.

    A child is gone from the root when the next one is asked for.

    Args:
        path: Local path or fsspec URL; plain or gzipped, whatever its name.
        root: The name that the root must have.
        most_bytes: That such a file may have, unpacked; None = :data:`MAX_BYTES`.

    Raises:
        DataError: The file is missing, cut off, no such XML, not in UTF-8 or another encoding that
            extends ASCII, has a document type, or is larger or deeper than any of its kind.
    """
    try:
        with opened(path) as file:
            packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            content: Any = gzip.GzipFile(fileobj=file) if packed else file
            yield from _children(content, path, root, most_bytes or MAX_BYTES)
    except (OSError, EOFError, ValueError, LookupError, SyntaxError, zlib.error) as error:
        # ParseError is a SyntaxError; unknown encodings are a LookupError.
        raise DataError(
            f"an XML file whose root is {root}", f"{path} ({reason_of(error)})", "restore it"
        ) from error


def _children(file: IO[bytes], path: str, root: str, most_bytes: int) -> Iterator[ET.Element]:
    open_elements: list[ET.Element] = []
    elements = 0
    for event, element in _events(file, path, most_bytes):
        if event == "end":
            open_elements.pop()
            if len(open_elements) == 1:
                yield element
                del open_elements[0][:]
            continue
        open_elements.append(element)
        elements += 1
        if len(open_elements) > MAX_DEPTH or elements > MAX_ELEMENTS:
            wanted = f"at most {MAX_ELEMENTS} elements, {MAX_DEPTH} deep"
            raise DataError(wanted, f"more in {path}", "leave it out")
        if elements == 1:
            if element.tag != root:
                raise DataError(
                    f"an XML file whose root is {root}", f"{path} of {element.tag}", "leave it out"
                )
            yield element


def _events(file: IO[bytes], path: str, most_bytes: int) -> Iterator[tuple[str, ET.Element]]:
    """The start and end of every element."""
    parser: Any = ET.XMLPullParser(("start", "end"))  # typed for events of other kinds
    length = 0
    while piece := file.read(PIECE_BYTES):
        if not length:
            _refuse_entities(piece, path)
        length += len(piece)
        if length > most_bytes:
            raise DataError(f"XML of {most_bytes} bytes at most", path, "leave it out")
        parser.feed(piece)
        events = list(parser.read_events())
        if not events and len(piece) == PIECE_BYTES:
            raise DataError(
                f"a tag in every {PIECE_BYTES} bytes", f"none in {path}", "leave it out"
            )
        yield from events
    parser.close()
    yield from parser.read_events()


def _refuse_entities(head: bytes, path: str) -> None:
    """Refuses a document type: it alone can define entities, and stands before the root."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        raise DataError("XML in UTF-8", f"{path} in UTF-16 or UTF-32", "convert it")
    if b"<!DOCTYPE" in head:
        raise DataError("XML without a document type", f"<!DOCTYPE in {path}", "take it out")
