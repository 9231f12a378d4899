"""One program at a time writes an output; a second one is refused while the first lives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from forecast.errors import ConfigError, DataError
from forecast.storage.files import filesystem, is_local, is_within

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def sole_writer(output: str) -> Iterator[None]:
    """Holds a lock beside an output, which ends with the process that holds it, however it ends.

    On object stores, which know no locks, and on Windows, nothing is held.

    Args:
        output: Local path or fsspec URL of what is going to be written.

    Raises:
        DataError: Another program writes it.
    """
    system, path = filesystem(output)
    if fcntl is None or not is_local(system):
        yield
        return
    folder, name = os.path.split(path.rstrip("/"))
    os.makedirs(folder, exist_ok=True)
    lock = os.path.join(folder, f".{name}.lock")
    descriptor = _take(lock, output)
    try:
        yield
    finally:
        os.unlink(lock)
        os.close(descriptor)


def _take(lock: str, output: str) -> int:
    """The descriptor of a lock file that is ours and still has its name."""
    while True:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                return descriptor
        except FileNotFoundError:  # whoever held it has just removed it
            pass
        except BlockingIOError as error:
            os.close(descriptor)
            raise DataError(
                f"to be alone in writing {output}",
                "another program that is writing it",
                "wait until it is done, or choose another place",
            ) from error
        os.close(descriptor)


def refuse_working_folder(output: str) -> None:
    """Refuses to make a store of the folder that one stands in, or of one around it.

    Raises:
        ConfigError: ``output`` is such a folder, as ``.`` is.
    """
    if is_within(os.getcwd(), output):
        raise ConfigError(
            "--output with a name of its own",
            f"{output}, which is or holds the working folder",
            "name it, such as ./out.zarr",
        )
