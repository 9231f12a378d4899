"""Object stores know no rename: what is replaced there, and what a kill leaves in between."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from forecast.errors import DataError
from forecast.storage.resumable import ResumableOutput

PLAN = {"horizon": 6}
RESULTS = "memory://team/results"
OLD, NEW = ({"c/0": one, "c/1": one, "zarr.json": one} for one in (b"old", b"new"))


class Killed(BaseException):
    """What ends a run wherever it is."""


@dataclass
class Bucket:
    """A bucket in which a run can be killed before any of its changes.

    Attributes:
        changes_left: Changes before the kill.
    """

    changes_left: float = float("inf")

    def count(self) -> None:
        """Before each change."""
        if self.changes_left <= 0:
            raise Killed
        self.changes_left -= 1

    def put(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            MemoryFileSystem.store.pop(f"/team/results/{name}", None)
            MemoryFileSystem().pipe_file(f"/team/results/{name}", content)

    @property
    def content(self) -> dict[str, bytes]:
        """What begins with the name of the output."""
        system = MemoryFileSystem()
        return {
            path.removeprefix("/team/results/"): system.cat_file(path)
            for path in system.find("/team/results")
        }


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    bucket = Bucket()
    copy, write = MemoryFileSystem.cp_file, MemoryFileSystem.pipe_file

    def counted(own: Any) -> Any:
        def change(system: MemoryFileSystem, *arguments: Any, **options: Any) -> Any:
            bucket.count()
            return own(system, *arguments, **options)

        return change

    def remove(system: MemoryFileSystem, path: str, recursive: bool = False) -> None:
        for file in sorted(system.find(path)):  # in the order in which S3 lists them
            bucket.count()
            del system.store[file]

    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(MemoryFileSystem, "cp_file", counted(copy))
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", counted(write))
    monkeypatch.setattr(MemoryFileSystem, "rm", remove)
    return bucket


def worked(overwrite: bool | None = False) -> ResumableOutput:
    """A run that is about to publish."""
    output = ResumableOutput(RESULTS, overwrite)
    output.begin(PLAN, resume=False)
    for name, content in NEW.items():
        output.system.pipe_file(f"{output.root}/store/{name}", content)
    output.keep(0, {})
    return output


@pytest.mark.parametrize("overwrite", [None, False, True])
def test_a_prefix_that_holds_something_else_is_not_taken_for_a_free_name(
    bucket: Bucket, overwrite: bool | None
) -> None:
    bucket.put({"thesis.pdf": b"years", "runs/1.csv": b"weeks"})
    with pytest.raises(DataError, match=r"memory://team/results, which (exists|is something else)"):
        ResumableOutput(RESULTS, overwrite).begin(PLAN, resume=False)
    assert bucket.content == {"thesis.pdf": b"years", "runs/1.csv": b"weeks"}


def test_a_prefix_that_is_filled_meanwhile_is_not_removed(bucket: Bucket) -> None:
    output = worked()
    bucket.put({"thesis.pdf": b"years"})
    with pytest.raises(DataError, match="which exists"):
        output.publish()
    assert bucket.content == {"thesis.pdf": b"years"}


def test_a_name_that_another_begins_with_is_free(bucket: Bucket) -> None:
    MemoryFileSystem().pipe_file("/team/results-of-others/zarr.json", b"")
    worked().publish()
    assert bucket.content == NEW


@pytest.mark.parametrize("again", [False, True], ids=["killed once", "killed twice"])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("changes", range(14))
def test_a_run_killed_while_publishing_leaves_no_damaged_store_and_is_resumed(
    bucket: Bucket, changes: int, overwrite: bool, again: bool
) -> None:
    if overwrite:
        bucket.put(OLD)
    worked(overwrite)
    kills = [changes, 2 if again else float("inf"), float("inf")]
    while ResumableOutput(RESULTS).interrupted:  # else it is complete
        bucket.changes_left = kills.pop(0)
        with suppress(Killed):
            finish(ResumableOutput(RESULTS, overwrite))
        assert "zarr.json" not in bucket.content or bucket.content in (OLD, NEW)
    assert bucket.content == NEW


def finish(output: ResumableOutput) -> None:
    """What a run does once all its units are there."""
    output.begin(PLAN, resume=True)
    if not output.published:
        output.publish()
    output.discard()


def test_what_was_to_be_replaced_stays_where_a_resumed_run_may_not_replace_it(
    bucket: Bucket,
) -> None:
    bucket.put(OLD)
    output = worked(overwrite=True)
    bucket.changes_left = 1  # the marker
    with pytest.raises(Killed):
        output.publish()
    bucket.changes_left = float("inf")
    with pytest.raises(DataError, match="which exists"):
        ResumableOutput(RESULTS, overwrite=False).begin(PLAN, resume=True)
    assert bucket.content == OLD


def test_a_refused_start_leaves_a_half_published_run_as_it_was(bucket: Bucket) -> None:
    output = worked()
    bucket.changes_left = 3  # the marker twice, and one chunk
    with pytest.raises(Killed):
        output.publish()
    bucket.changes_left = float("inf")
    with pytest.raises(DataError, match="add --resume"):
        ResumableOutput(RESULTS, overwrite=False).begin(PLAN, resume=False)
    assert bucket.content == {"c/0": b"new"}
    finish(ResumableOutput(RESULTS, overwrite=False))
    assert bucket.content == NEW
