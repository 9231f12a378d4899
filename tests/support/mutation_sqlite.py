"""SQLite files made wrong by SQL: other tables, columns, rows and values."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, -1, 0, 1, 0.5, 1e9, 1e300, -1e300, 9e999, 2**31, 2**53, 2**63 - 1, -(2**63)),
    *("", "x", "0", "nan", "A" * 100_000, b"", b"\xff", b"GP\0\1", bytes(100)),
)


def changed_database(content: bytes, chance: random.Random) -> bytes:
    """The file after a few changes; those that SQLite itself refuses are passed over.

    Raises:
        sqlite3.Error: It is no database to begin with.
    """
    with closing(sqlite3.connect(":memory:")) as file:
        file.deserialize(content)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            try:
                file.execute(*_change(file, chance))
            except sqlite3.OperationalError:
                continue
        file.commit()
        return file.serialize()


def _change(file: sqlite3.Connection, chance: random.Random) -> tuple[str, tuple[Any, ...]]:
    names = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    table, other = (f'"{chance.choice(names)[0]}"' for _ in range(2))
    columns = [name for _, name, *_ in file.execute(f"PRAGMA table_info({table})")]
    column, second = (f'"{chance.choice(columns)}"' for _ in range(2))
    some = chance.choice(("", f"WHERE random() % {chance.choice((2, 5, 50))} = 0"))
    changes: tuple[tuple[str, tuple[Any, ...]], ...] = (
        (f"DROP TABLE {table}", ()),
        (f"ALTER TABLE {table} DROP COLUMN {column}", ()),
        (f"ALTER TABLE {table} RENAME COLUMN {column} TO other", ()),
        (f"DELETE FROM {table} {some}", ()),
        (f"INSERT INTO {table} SELECT * FROM {table}", ()),
        (f"UPDATE OR REPLACE {table} SET {column} = {second} {some}", ()),
        (f"UPDATE OR REPLACE {table} SET {column} = -{column} {some}", ()),
        (f"UPDATE {table} SET {column} = (SELECT rowid FROM {other}) {some}", ()),
        *((f"UPDATE OR REPLACE {table} SET {column} = ? {some}", (v,)) for v in VALUES),
        (f"CREATE VIEW other AS SELECT * FROM {table}", ()),
    )
    weights = [3] * 8 + [1] * (len(changes) - 8)
    return chance.choices(changes, weights)[0]
