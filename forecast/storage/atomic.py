"""All or nothing on disk: files are written under a temporary name and renamed when complete."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from forecast.errors import ConfigError, DataError, reason_of
from forecast.storage.files import (
    filesystem,
    is_local,
    is_within,
    make_folder,
    refuse_missing_bucket,
)

ROOT_METADATA = "zarr.json"
FLUSHES = 16  # files at a time: the disk writes the journal once for all of them


@contextmanager
def staged_file(path: str, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Yields a file that has a temporary name beside ``path`` until it is complete.

    When the block ends well, what was written is flushed to the disk and renamed to ``path``;
    when it does not (any exception, an interrupt too), it is removed and ``path`` is untouched.
    On object stores, which know no rename, the last step is a copy and not atomic.

    Args:
        path: Local path or fsspec URL.
        overwrite: Whether something that is already there is replaced.

    Raises:
        DataError: ``path`` exists and is not to be replaced, or is a folder, its bucket does not
            exist, or it cannot be written.
    """
    refuse_existing(path, overwrite=overwrite)
    with refusing_os_errors(path):
        system, target = filesystem(path)
        parent, _, name = target.rstrip("/").rpartition("/")
        temporary = f"{parent}/.{name}.partial-{uuid.uuid4().hex[:8]}"
        make_folder(system, parent or "/")
    try:
        with refusing_os_errors(path):
            with system.open(temporary, "wb") as file:
                yield file
            publish(system, temporary, target)
    except BaseException:
        remove(system, temporary)
        raise


@contextmanager
def staged_folder(path: str) -> Iterator[Path]:
    """Yields a local folder that has a temporary name beside ``path`` until it is complete.

    When the block ends well, the folder takes the place of what is at ``path``; when it does not,
    it is removed and ``path`` is untouched.

    Args:
        path: Local path. :func:`refuse_existing` says early that something is there.

    Raises:
        ConfigError: ``path`` is on an object store.
        DataError: It cannot be written.
    """
    system, target = filesystem(path)
    if not is_local(system):
        raise ConfigError("a local folder to write", path, "write there and copy it")
    folder = Path(target).with_name(f".{Path(target).name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        with refusing_os_errors(path):
            folder.mkdir(parents=True)
            yield folder
            publish(system, str(folder), target)
    except BaseException:
        remove(system, str(folder))
        raise


def publish(system: Any, temporary: str, target: str) -> None:
    """Renames a complete ``temporary`` to ``target``, replacing what is there.

    On local disks everything is flushed and renamed, and an old target is missing only for
    that moment. Object stores know no rename: there the root metadata, without which nothing opens
    a store, is the last to be copied and the first to be removed.
    """
    if is_local(system):
        _flush(Path(temporary))
        _replace(system, temporary, target)
        return
    root = f"{temporary}/{ROOT_METADATA}"
    remove(system, f"{target}/{ROOT_METADATA}")
    remove(system, target)
    for path in sorted(system.find(temporary), key=lambda path: path == root):
        system.copy(path, target + path.removeprefix(temporary))
    remove(system, root)
    remove(system, temporary)


def is_there(system: Any, path: str) -> bool:
    """Whether something complete has a name; on an object store, a zarr store with its root."""
    return bool(system.exists(path if is_local(system) else f"{path}/{ROOT_METADATA}"))


def refuse_existing(path: str, *, overwrite: bool = False) -> None:
    """Refuses to replace what is there; callers that work long first check early.

    Args:
        path: Local path or fsspec URL.
        overwrite: Whether a file may be replaced; a folder never is by a file.

    Raises:
        DataError: ``path`` exists.
    """
    with refusing_os_errors(path):
        system, target = filesystem(path)
        if overwrite and is_local(system) and system.isdir(target):
            raise DataError("a file to replace", f"{path}, a folder", "choose another name")
        if not overwrite and system.exists(target):
            raise DataError("a new path", f"{path}, which exists", "choose another or --overwrite")


def refuse_unwritable(path: str) -> None:
    """Refuses a place in which nothing can be made, before long work for it.

    Raises:
        DataError: There is no such bucket; on a local disk, the nearest existing folder
            above it is a file or cannot be written to.
    """
    system, target = filesystem(path)
    if not is_local(system):
        refuse_missing_bucket(system, target)
        return
    folder = Path(target).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "which cannot be written to" if folder.is_dir() else "which is no folder"
        raise DataError(f"to write {path}", f"{folder}, {what}", "choose another place")


def refuse_replacing(option: str, path: str, read: Iterable[str], around: Iterable[str]) -> None:
    """Refuses to write to a place that contains what is read, even with ``--overwrite``.

    Args:
        option: Option that names the place, for the message.
        path: The place.
        read: Paths that may not lie in it.
        around: Folders that it may not lie in.

    Raises:
        ConfigError: It does.
    """
    inside = (held for held in read if is_within(held, path))
    held = next(chain(inside, (held for held in around if is_within(path, held))), None)
    if held is not None:
        raise ConfigError(
            f"{option} apart from what is read",
            f"{path}, where {held} is",
            "choose another place; --overwrite does not replace it",
        )


@contextmanager
def refusing_os_errors(path: str) -> Iterator[None]:
    """Turns errors of the operating system while ``path`` is written into a one-line DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else reason_of(error)
        raise DataError(
            f"to write {path}", reason, "free some space or choose a writable --output"
        ) from error


def remove(system: Any, path: str) -> None:
    """Removes a file or a directory with all that is in it, if it is there."""
    if system.exists(path):
        system.rm(path, recursive=True)


def _replace(system: Any, temporary: str, target: str) -> None:
    old = f"{temporary}-old"
    if replaces := system.exists(target):
        system.mv(target, old, recursive=True)
    try:
        system.mv(temporary, target, recursive=True)
    except BaseException:
        if replaces:
            system.mv(old, target, recursive=True)
        raise
    remove(system, old)


def _flush(root: Path) -> None:
    """Waits until the files under ``root`` and their names are on the disk."""
    paths = [root, *root.rglob("*")] if root.is_dir() else [root]
    with ThreadPoolExecutor(FLUSHES) as threads:
        for _ in threads.map(_flush_one, paths):
            pass


def _flush_one(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
