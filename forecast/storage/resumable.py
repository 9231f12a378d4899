"""What an interrupted run leaves behind, and how it is taken up again.

Under ``OUTPUT.partial`` lie the plan (what is being made), one record per unit of work (what came
of it), and the store. A record is written after the work that it stands for, so what a record says
is there is there, and a resumed run does only the units without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from forecast.errors import DataError, reason_of
from forecast.storage.atomic import ROOT_METADATA, is_there, publish, remove
from forecast.storage.files import filesystem, is_local, make_folder, write_whole

WITHDRAWN = b'{"withdrawn": true}'
"""What the marker says once nothing but our own copy has the final name on an object store."""


class ResumableOutput:
    """The place beside the output where a run keeps what it has so far. Picklable.

    Args:
        output: Final path or URL of the store.
        overwrite: Whether what has that name is replaced; None where there is no such option.

    Attributes:
        folders: What is made in it at the start.

    Raises:
        DataError: The URL cannot be opened.
    """

    folders: tuple[str, ...] = ("records",)

    def __init__(self, output: str, overwrite: bool | None = None) -> None:
        self.output = output.rstrip("/")
        self.overwrite = overwrite
        self.system, self.final = filesystem(self.output)
        self.root = f"{self.final}.partial"
        # zarr makes folders for a local path, but not for the same place as a file:// URL.
        base = self.final if is_local(self.system) else self.output
        self.store_url = f"{base}.partial/store"

    def begin(self, plan: Mapping[str, Any], resume: bool) -> None:
        """Starts anew, or checks that what is there belongs to the same plan.

        What is refused changes nothing, and a start that fails leaves nothing. Work that an
        unfinished run has done is thrown away only where the output may be overwritten.

        Args:
            plan: All that the result depends on, as JSON can hold it.
            resume: Whether to go on with what is there.

        Raises:
            DataError: The output exists, its bucket does not, an unfinished run is there and not to
                be resumed, or what is to be resumed is something else.
        """
        plan_path, text = f"{self.root}/plan.json", json.dumps(plan, indent=1)
        resumed = resume and self.interrupted
        if resumed:
            self._check(json.loads(text), plan_path)
        elif resume and self.overwrite and is_there(self.system, self.final):
            raise DataError(
                "an interrupted run for --resume with --overwrite",
                f"none beside {self.output}, which is complete",
                "leave out --overwrite to keep it, or --resume to make it anew",
            )
        if not (resumed and self.published):
            self.refuse_existing()
            if not resumed:
                self.refuse_unfinished()
            self._forget_attempt()
        if resumed:
            self._sweep()
            return
        self.discard()
        try:
            for folder in self.folders:
                make_folder(self.system, f"{self.root}/{folder}")
            write_whole(self.system, plan_path, text.encode())
        except BaseException:
            self.discard()
            raise

    @contextmanager
    def begun(self, plan: Mapping[str, Any], resume: bool) -> Iterator[None]:
        """Begins; a run that fails before its first record leaves nothing behind."""
        self.begin(plan, resume)
        try:
            yield
        except BaseException:
            if not self._records():
                self.discard()
            raise

    def refuse_existing(self) -> None:
        """Refuses to replace what is there; callers with slow work before :meth:`begin` ask first.

        On an object store, whatever begins with the name is there, but for what a killed run has
        copied of its own store.

        Raises:
            DataError: The output exists and is not to be replaced, or is no store.
        """
        if not self.system.exists(self.final) or self._half_published:
            return
        if self.overwrite:
            self._refuse_other_than_stores()
            return
        remedy = "choose another name or remove it"
        if self.overwrite is not None:
            remedy = "choose another or --overwrite"
        raise DataError("a new output", f"{self.output}, which exists", remedy)

    def _refuse_other_than_stores(self) -> None:
        """What is replaced is removed whole: a folder of somebody's work must not be."""
        if self.system.exists(f"{self.final}/{ROOT_METADATA}"):
            return
        # A folder without anything may be replaced; a bucket without anything would be removed.
        empty = is_local(self.system) and self.system.isdir(self.final)
        if not empty or self.system.ls(self.final):
            got = f"{self.output}, which is something else"
            raise DataError("a zarr store to replace", got, "choose another name or remove it")

    def refuse_unfinished(self) -> None:
        """Refuses to throw away what an unfinished run has done; callers may ask first, as above.

        Raises:
            DataError: Such a run is there and is not to be overwritten.
        """
        if self.overwrite or not (self.interrupted and self._records()):
            return
        raise DataError(
            f"no unfinished run at {self.output}",
            f"one in {self.output}.partial",
            "add --resume to go on with it or --overwrite to begin anew",
        )

    def keep(self, index: int, record: Mapping[str, Any]) -> None:
        """Marks a unit as done; what its record speaks of must be there."""
        write_whole(self.system, self._record_path(index), json.dumps(record).encode())

    def missing(self, units: int) -> list[int]:
        """Which of so many units have no record yet."""
        kept = self._records()
        return [index for index in range(units) if self._record_path(index) not in kept]

    def record(self, index: int) -> dict[str, Any]:
        """What was kept of a unit."""
        return self._read(self._record_path(index))

    @property
    def interrupted(self) -> bool:
        """Whether a run is there that was begun and not finished."""
        return bool(self.system.exists(f"{self.root}/plan.json"))

    @property
    def published(self) -> bool:
        """Whether the store has its final name already: the run was killed while tidying up.

        What has that name is another's where this run was not about to give it. On an object
        store, which is copied to, all is there once the root is, whatever is left beside it.
        """
        if not self.system.exists(self._marker) or not is_there(self.system, self.final):
            return False
        if is_local(self.system):
            return not is_there(self.system, f"{self.root}/store")
        return bool(self.system.cat_file(self._marker) == WITHDRAWN)

    def publish(self) -> None:
        """Gives the store its final name.

        Raises:
            DataError: Meanwhile something else took it, and is not to be replaced.
        """
        self.refuse_existing()
        self._sweep()
        write_whole(self.system, self._marker, b"{}")
        if not is_local(self.system):
            remove(self.system, f"{self.final}/{ROOT_METADATA}")
            write_whole(self.system, self._marker, WITHDRAWN)
        publish(self.system, f"{self.root}/store", self.final)

    def discard(self) -> None:
        """Removes all that is not the store under its final name, if anything is left of it."""
        remove(self.system, f"{self.root}/plan.json")  # first: without it nothing is resumed
        remove(self.system, self.root)

    def _forget_attempt(self) -> None:
        """Removes what an attempt to publish that failed has copied, then its marker."""
        if self._half_published:
            remove(self.system, self.final)
        remove(self.system, self._marker)

    @property
    def _half_published(self) -> bool:
        """Whether what has the final name on an object store is what this run was copying."""
        if is_local(self.system) or not self.system.exists(self._marker):
            return False
        if is_there(self.system, self.final):
            return False
        # Until the marker says more, nothing was copied: what lies there is of a store replaced.
        return self.overwrite or bool(self.system.cat_file(self._marker) == WITHDRAWN)

    def _sweep(self) -> None:
        """Removes the chunks that a killed process was writing, still without their name.

        Only on disks: an object store has whole objects or none.
        """
        if not is_local(self.system):
            return
        for path in self.system.find(f"{self.root}/store"):
            if path.endswith(".partial"):
                remove(self.system, path)

    def _check(self, plan: Mapping[str, Any], plan_path: str) -> None:
        known = self._read(plan_path)
        changed = sorted(name for name in {*known, *plan} if known.get(name) != plan.get(name))
        if changed:
            raise DataError(
                "the inputs and options of the interrupted run",
                f"others ({', '.join(changed)}) than in {plan_path}",
                "repeat them, or take --overwrite in place of --resume to begin anew",
            )

    def _read(self, path: str) -> dict[str, Any]:
        """A file of ours, unless others have spoiled it."""
        try:
            found = json.loads(self.system.cat_file(path))
            return {**found}
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(
                "what an interrupted run has left",
                f"a damaged {path} ({reason_of(error)})",
                "take --overwrite in place of --resume to begin anew",
            ) from error

    def _records(self) -> set[str]:
        """Paths of the records that are complete."""
        found = self.system.find(f"{self.root}/records")
        return {path for path in found if path.endswith(".json")}

    @property
    def _marker(self) -> str:
        """Path of the file that says that the store is about to get its final name."""
        return f"{self.root}/publishing.json"

    def _record_path(self, index: int) -> str:
        return f"{self.root}/records/{index:08d}.json"
