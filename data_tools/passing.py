"""Failures of the machine or of a network, which say nothing of the recording that was read."""

from __future__ import annotations

import errno

import pyarrow as pa

from forecast.errors import STORE_CLIENTS, DataError, PassingError, reason_of

# What the system says of a file itself, and will say again.
_OF_THE_FILE = frozenset(
    {
        *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM),
        *(errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP),
    }
)


def refuse_passing(error: Exception, unit: str) -> None:
    """Stops a run at what may succeed when it is tried again: a scene must not be lost by it.

    Args:
        error: What reading raised, or an error of ours that it was turned into.
        unit: What was read.

    Raises:
        PassingError: It is such a failure.
    """
    cause: BaseException | None = error
    while isinstance(cause, DataError):
        cause = cause.__cause__
    # Where a source turns too little memory into an error of ours, a damaged file asked for it.
    if cause is None or not is_passing(cause) or (cause is not error and is_memory(cause)):
        return
    raise PassingError(
        "a network, disk and memory that serve",
        f"{reason_of(cause)} while reading {unit}",
        "mend that; --resume goes on from what is done",
    ) from error


def is_passing(error: BaseException) -> bool:
    """Whether an error is of the machine, a network or a store, rather than of what was read.

    Readers say by an :class:`OSError` without a number that a file is damaged; those of the system
    have one.
    """
    if isinstance(error, ConnectionError | TimeoutError) or is_memory(error):
        return True
    if type(error).__module__.partition(".")[0] in STORE_CLIENTS:
        return True
    return isinstance(error, OSError) and error.errno not in _OF_THE_FILE | {None}


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out; pyarrow says so of damaged files that claim to be endless."""
    return isinstance(error, MemoryError) and not isinstance(error, pa.ArrowException)
