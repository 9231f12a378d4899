"""Local paths and fsspec URLs alike: where they lead, and files read and written whole."""

from __future__ import annotations

import os
import stat
from typing import Any
from uuid import uuid4

import fsspec

from forecast.errors import DataError, reason_of

# Object stores, by fsspec's names: they have buckets and no folders.
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})


def filesystem(url: str) -> tuple[Any, str]:
    """The filesystem that a path or URL is on, and its path there.

    Raises:
        DataError: fsspec knows no such protocol, what it needs is not installed, or a local path is
            neither file nor folder: a pipe would be waited for.
    """
    try:
        # Other processes write too, so that cached listings may be out of date.
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise DataError(
            "a path or URL that fsspec opens", f"{url} ({error})", "check it"
        ) from error
    if is_local(system):
        refuse_pipe(path)
    return system, path


def refuse_pipe(path: str) -> None:
    """Refuses a local path that is there and is neither file nor folder.

    Raises:
        DataError: It is a pipe, a socket or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # nothing is there, or nothing can be
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError("a file or folder", f"{path}, a pipe or device", "copy it into a file")


def version_of(path: str, what: str) -> str:
    """A text that is another one once a file has changed, for what is kept of it in memory.

    Args:
        path: Local path or fsspec URL.
        what: What the file should be, for the error.

    Raises:
        DataError: It is not there.
    """
    system, inner = filesystem(path)
    try:
        return str(system.ukey(inner))
    except OSError as error:
        raise DataError(what, f"{path} ({reason_of(error)})", "restore it") from error


def refuse_pipes_in(folder: str) -> None:
    """Refuses a local folder in which a pipe or device is, at any depth.

    Raises:
        DataError: There is one.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:  # what is wrong shows when it is read
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            refuse_pipes_in(entry.path)
        elif not entry.is_file(follow_symlinks=False):  # else the folder's listing says so
            refuse_pipe(entry.path)


def refuse_pointer(head: bytes, where: str) -> None:
    """Refuses what Git leaves in the place of a large file that was not fetched.

    Args:
        head: What the file begins with, 12 bytes or more.
        where: Its path.

    Raises:
        DataError: It is such a pointer.
    """
    if head.startswith(b"version http"):
        raise DataError("the file itself", f"a Git LFS pointer to it, {where}", "git lfs pull")


def opened(url: str, mode: str = "rb", **options: Any) -> Any:
    """A file to read, as :func:`fsspec.open` opens it; pipes are refused."""
    filesystem(url)
    return fsspec.open(url, mode, **options)


def is_local(system: Any) -> bool:
    """Whether a filesystem is this machine's own."""
    return "file" in _protocols(system)


def is_within(path: str, folder: str) -> bool:
    """Whether a path or URL leads to a folder or to something in it; local links are followed."""
    (system, inner), (other, outer) = filesystem(path), filesystem(folder)
    if system != other:
        return False
    if is_local(system):
        inner, outer = os.path.realpath(inner), os.path.realpath(outer)
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def make_folder(system: Any, path: str) -> None:
    """Makes a folder and those above it, where a filesystem has such; never a bucket.

    Raises:
        DataError: There is no such bucket.
    """
    if BUCKETS & _protocols(system):
        refuse_missing_bucket(system, path)
    else:
        system.makedirs(path, exist_ok=True)


def refuse_missing_bucket(system: Any, path: str) -> None:
    """Refuses a path in a bucket that is not there; other filesystems have none.

    Raises:
        DataError: There is no such bucket.
    """
    bucket = path.split("/")[0]
    if BUCKETS & _protocols(system) and not system.exists(bucket):
        raise DataError(
            "a bucket that is there to write to",
            f"{bucket}, which is not, or not for these credentials",
            "create it or correct the URL",
        )


def _protocols(system: Any) -> set[str]:
    return {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)


def read_whole(url: str, at_most: int) -> bytes:
    """The content of a file from an unknown source, up to a size.

    Args:
        url: Local path or fsspec URL.
        at_most: Most bytes that such a file may have.

    Raises:
        DataError: It is missing, cannot be read, or is larger.
    """
    try:
        with opened(url) as file:
            content = bytes(file.read(at_most + 1))
    except OSError as error:
        raise DataError("a file that can be read", f"{url} ({error})", "restore it") from error
    if len(content) > at_most:
        raise DataError(f"a file of {at_most} bytes at most", url, "leave it out")
    return content


def write_whole(system: Any, path: str, content: bytes) -> None:
    """Writes a file that is never seen half-written, not even after a kill."""
    if not is_local(system):
        system.pipe_file(path, content)  # an object appears when it is complete
        return
    unfinished = f"{path}.{uuid4().hex}.tmp"
    with open(unfinished, "wb") as file:
        file.write(content)
    os.replace(unfinished, path)
