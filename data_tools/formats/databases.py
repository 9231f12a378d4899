"""SQLite files from unknown sources: opened to be read only, with an end to rows and to work.

A file may hold views, virtual tables and computed columns in the place of tables, pages that refer
to each other in circles, and numbers where text should be. So only plain tables are read, SQLite
is stopped after so many steps, and each value's type is looked at.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote

import fsspec
import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError, reason_of
from forecast.storage.files import filesystem, is_local, refuse_pointer

MAX_ROWS = 2**20  # of one answer
MAX_VALUE_BYTES = 2**24  # of one text or blob
# Of SQLite's machine, counted in blocks: some seconds. A scan of a million rows takes a fortieth.
BLOCK, MAX_BLOCKS = 100_000, 4_000
_MAGIC = b"SQLite format 3\0"
_JOURNALS = ("-wal", "-journal")


@dataclass(frozen=True)
class Database:
    """An open file; see :func:`open_database`.

    Args:
        path: Its path or URL, for errors.
        connection: To the file.
    """

    path: str
    connection: sqlite3.Connection

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The answer to a query.

        Args:
            query: In SQL, over tables that were asked for when the file was opened.
            values: For its question marks.

        Raises:
            DataError: The file is damaged, or the answer has too many rows or takes too long.
        """
        with _refusing(self.path):
            found = self.connection.execute(query, values).fetchmany(MAX_ROWS + 1)
            if len(found) > MAX_ROWS:
                raise ValueError(f"an answer of more than {MAX_ROWS} rows")
        return found


@contextmanager
def open_database(path: str, tables: Mapping[str, Sequence[str]]) -> Iterator[Database]:
    """An SQLite file with some tables.

    Args:
        path: Local path, or fsspec URL of a file that is copied to this machine once.
        tables: Names of the tables that will be read, and of their columns that will.

    Raises:
        DataError: It is no such file, or lacks one of these tables or columns.
    """
    local = _local(path)
    with _refusing(path):
        link = f"file:{quote(local)}?mode=ro&immutable=1"
        connection = sqlite3.connect(link, uri=True, isolation_level=None)
    with closing(connection):
        with _refusing(path):
            _restrict(connection)
            _check_tables(connection, tables)
        yield Database(path, connection)


def number(column: str) -> str:
    """SQL for a column's value if it is a number, else NULL.

    A text of megabytes in a table of few rows would be made anew for each row that is joined to it.
    """
    return f"iif(typeof({column}) IN ('real', 'integer'), {column}, NULL)"


def numbers(rows: Sequence[tuple[Any, ...]], first: int, last: int, where: str) -> NDArray[Any]:
    """Columns of an answer, each by :func:`number`, as float64, ``(rows, last - first)``.

    Raises:
        DataError: One is missing or not finite; its row in the answer is named, counted from 1.
    """
    values = np.array([row[first:last] for row in rows], np.float64).reshape(-1, last - first)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        got = f"others in row {int(finite.argmin()) + 1} of {where}"
        raise DataError("finite numbers", got, "restore the file")
    return values


def _local(path: str) -> str:
    """The file itself, or a copy of one that is elsewhere, kept until the process ends."""
    system, inner = filesystem(path)
    try:
        if not is_local(system):
            with fsspec.open(f"simplecache::{path}", "rb") as copy:
                inner = copy.name
        with open(inner, "rb") as file:
            head = file.read(len(_MAGIC))
        journals = [end for end in _JOURNALS if os.path.exists(inner + end)]
        unwritten = [end for end in journals if os.path.getsize(inner + end)]
    except OSError as error:
        raise DataError("an SQLite file", f"{path} ({reason_of(error)})", "check it") from error
    refuse_pointer(head, path)
    if head != _MAGIC:
        raise DataError("an SQLite file", f"{path}, which begins otherwise", "restore it")
    if unwritten:
        raise DataError(
            "a database without a journal", f"{path} with {unwritten[0]} beside it",
            "open and close it once in sqlite3",
        )  # fmt: skip
    return inner


@contextmanager
def _refusing(path: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError, OverflowError, MemoryError) as error:
        raise DataError(
            "an SQLite file with the tables of its format",
            f"{path} ({reason_of(error)})",
            "restore it",
        ) from error


def _restrict(connection: sqlite3.Connection) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    blocks = count()
    connection.set_progress_handler(lambda: next(blocks) >= MAX_BLOCKS, BLOCK)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA query_only = ON")


def _check_tables(connection: sqlite3.Connection, tables: Mapping[str, Sequence[str]]) -> None:
    for table, columns in tables.items():
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
        made = connection.execute(query, (table,)).fetchone()
        if made is None or not str(made[0]).lstrip().upper().startswith("CREATE TABLE"):
            raise ValueError(f"no table {table}")
        # What is computed is not among these.
        info = connection.execute(f'PRAGMA table_info("{table}")').fetchmany(1000)
        missing = set(columns) - {name for _, name, *_ in info}
        if missing:
            raise ValueError(f"no column {min(missing)} in {table}")
