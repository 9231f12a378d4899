"""How the chunks of a store are fetched and decoded."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

import zarr

# What decoders raise for a chunk that is cut off, garbled or empty. The first bytes of one of names
# say how many there are, and memory is taken for as many.
DAMAGE = (
    *(OSError, RuntimeError, ValueError, LookupError, EOFError),
    *(zlib.error, SystemError, MemoryError),
)
# One thread: whoever reads much does so in many processes, some of them forked.
_ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}
_LOCK = Lock()  # zarr's settings are the whole process's


@contextmanager
def quickly(path: str) -> Iterator[None]:
    """Arrays that are opened in the block are read by ``zarrs`` if they are local.

    zarr's own pipeline plans every chunk anew in Python, which is two thirds of the time of reading
    a sequence. ``zarrs`` does that in Rust, but not for what fsspec opens, nor for every data type,
    nor where a name is bytes that are no text: such arrays are read by zarr.

    Source: https://github.com/zarrs/zarrs-python.

    Args:
        path: Local path or fsspec URL of the store.
    """
    if "://" in path or "::" in path or not _is_text(os.path.abspath(path)):
        yield
        return
    _start_zarr()
    with _LOCK, zarr.config.set(_ZARRS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Array is unsupported by ZarrsCodecPipeline")
        yield


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _start_zarr() -> None:
    """Lets zarr make its threads, as many as it likes, before the one thread above is set."""
    zarr.open_group({}, mode="w")
