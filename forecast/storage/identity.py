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
    """What the file system tells two stores of one name apart by: one look at one small file.

    It sees a store that was replaced, removed, or written anew. Chunks that are changed in place
    it does not see, nor can it on file systems that tell nothing of their files.

    Attributes:
        path: Local path or fsspec URL of a zarr v3 store.
        facts: Of its root metadata; None where nothing is known.
    """

    path: str
    facts: Any

    @classmethod
    def of(cls, path: str) -> StoreIdentity:
        """What is there now."""
        try:
            return cls(path, _facts(path))
        except (OSError, ImportError, ValueError):  # opening the store says it better
            return cls(path, None)

    @contextmanager
    def checked(self) -> Iterator[None]:
        """What the block has read, or could not read, was of the store that was opened.

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
    """Stores that are opened and read in the block are the same ones throughout.

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
