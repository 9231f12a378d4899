"""All or nothing on disk: work under a temporary name, and only success gets the real one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from forecast.errors import DataError


@contextmanager
def staged(path: str, *, overwrite: bool = False) -> Iterator[str]:
    """Yields a temporary name beside ``path``, for a file or a directory to be written to.

    When the block ends well, what was written is flushed to the disk and renamed to ``path``;
    when it does not (any exception, an interrupt too), it is removed and ``path`` is untouched.
    On object stores, which know no rename, the last step is a copy and not atomic.

    Args:
        path: Local path or fsspec URL.
        overwrite: Whether something that is already there is replaced.

    Raises:
        DataError: ``path`` exists and is not to be replaced, or cannot be written.
    """
    if not overwrite:
        refuse_existing(path)
    with refusing_os_errors(path):
        system, target = url_to_fs(path)
        parent, _, name = target.rstrip("/").rpartition("/")
        temporary = f"{parent}/.{name}.partial-{uuid.uuid4().hex[:8]}"
        system.makedirs(parent or "/", exist_ok=True)
    try:
        yield system.unstrip_protocol(temporary) if "://" in path else temporary
        with refusing_os_errors(path):
            if "://" not in path:
                _flush(Path(temporary))
            _replace(system, temporary, target)
    except BaseException:
        _remove(system, temporary)
        raise


def refuse_existing(path: str) -> None:
    """Refuses to replace what is there; callers with long work before them ask at once.

    Raises:
        DataError: ``path`` exists.
    """
    with refusing_os_errors(path):
        system, target = url_to_fs(path)
        if system.exists(target):
            raise DataError("a new path", f"{path}, which exists", "choose another or --overwrite")


@contextmanager
def refusing_os_errors(path: str) -> Iterator[None]:
    """Turns what the operating system says while ``path`` is written into a one-line DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise DataError(
            f"to write {path}", reason.lower(), "free some space or choose a writable --output"
        ) from error


def _replace(system: Any, temporary: str, target: str) -> None:
    """Gives the temporary its name; an old target is out of the way only for that moment."""
    old = f"{temporary}-old"
    if replaces := system.exists(target):
        system.mv(target, old, recursive=True)
    try:
        system.mv(temporary, target, recursive=True)
    except BaseException:
        if replaces:
            system.mv(old, target, recursive=True)
        raise
    _remove(system, old)


def _remove(system: Any, path: str) -> None:
    if system.exists(path):
        system.rm(path, recursive=True)


def _flush(root: Path) -> None:
    """Waits until the files under ``root`` and their names are on the disk."""
    paths = [root, *root.rglob("*")] if root.is_dir() else [root]
    for path in paths:
        if path.is_dir() and os.name == "nt":  # Windows cannot open a directory
            continue
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
