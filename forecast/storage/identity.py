"""Whether a store is still the one that was opened: what is read must not mix two stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fsspec.core import url_to_fs

from forecast.errors import DataError


@dataclass(frozen=True)
class StoreIdentity:
    """What tells two stores of one name apart: facts about one small file of theirs.

    This detects a store that was replaced, removed, or written anew, but not chunks changed in
    place, and nothing on file systems without such facts.

    Attributes:
        path: Local path or fsspec URL of a zarr v3 store.
        facts: Of its root metadata; None where nothing is known.
    """

    path: str
    facts: Any

    @classmethod
    def of(cls, path: str) -> StoreIdentity:
        """The store at ``path`` as it is now."""
        try:
            return cls(path, _facts(path))
        except (OSError, ImportError, ValueError):  # opening the store gives a better message
            return cls(path, None)

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Checks after the block that all it read came from the store that was opened.

        Raises:
            DataError: Another store is there now, or none.
        """
        try:
            yield
        finally:
            if self.facts is not None and StoreIdentity.of(self.path) != self:
                raise DataError(
                    "a store that stays as it was opened",
                    f"{self.path}, which was changed, replaced or removed while it was read",
                    "leave it alone until all is read, then start again (a training: --resume)",
                )


@contextmanager
def unchanged(*paths: str) -> Iterator[None]:
    """Checks that stores opened and read in the block stay the same throughout.

    Raises:
        DataError: One of them is not.
    """
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(StoreIdentity.of(path).checked())
        yield


def _facts(path: str) -> Any:
    # Its file systems are made where they are used: some do not survive a fork.
    if "://" not in path:
        found = os.stat(f"{path}/zarr.json")
        return found.st_ino, found.st_mtime_ns, found.st_size
    system, root = url_to_fs(path)
    root = root.rstrip("/")
    system.invalidate_cache(root)
    return system.ukey(f"{root}/zarr.json")
