"""How the chunks of a store are fetched and decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import zarr

# One thread: what reads much does so in many processes.
_ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}


@contextmanager
def quickly(path: str) -> Iterator[None]:
    """Arrays that are opened in the block are read by ``zarrs`` if they are local.

    zarr's own pipeline plans every chunk anew in Python, which is two thirds of the time of reading
    a sequence. ``zarrs`` does that in Rust, but not for what fsspec opens.

    Source: https://github.com/zarrs/zarrs-python.

    Args:
        path: Local path or fsspec URL of the store.
    """
    remote = "://" in path or "::" in path
    with zarr.config.set({} if remote else _ZARRS):
        yield
