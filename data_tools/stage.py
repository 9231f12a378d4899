"""What an interrupted run leaves behind, and how it is taken up again.

Under ``OUTPUT.partial`` lie the plan (what is being made), one record per unit of work (what came
of it), the parts with its sequences, and at the end the store. A record is written after its
parts, so what a record says is there is there, and a resumed run does only the units without one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from data_tools.files import filesystem, is_local, is_there, publish, write_whole
from data_tools.store import Piece, part_counts
from forecast.errors import DataError


@dataclass(frozen=True)
class Record:
    """What came of one unit.

    Args:
        unit: Its name.
        scene: Name of the scene that it holds.
        sequences: Sequences that it gave; 0 if it was skipped.
        tracks: Most tracks of any of them; 0 if the scene is of rasters.
        points: Most map points of any of them.
        has_map: Whether the scene has a map.
        channels: Names of its further channels.
        notes: What was repaired or left out, by reason.
        skipped: Why it gave nothing, or empty.
    """

    unit: str
    scene: str = ""
    sequences: int = 0
    tracks: int = 0
    points: int = 0
    has_map: bool = False
    channels: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    skipped: str = ""


class Stage:
    """The place beside the output where a run keeps what it has so far. Picklable.

    Args:
        output: Final path or URL of the store.

    Raises:
        DataError: The URL cannot be opened.
    """

    def __init__(self, output: str) -> None:
        self.output = output.rstrip("/")
        self.system, self.final = filesystem(self.output)
        self.root = f"{self.final}.partial"
        # zarr makes folders for a local path, but not for the same place as a file:// URL.
        base = self.final if is_local(self.system) else self.output
        self.store_url = f"{base}.partial/store"

    def begin(self, plan: dict[str, Any], resume: bool) -> None:
        """Starts anew, or checks that what is there belongs to the same plan.

        Raises:
            DataError: The output exists, or what is to be resumed is something else.
        """
        plan_path = f"{self.root}/plan.json"
        resumed = resume and self.system.exists(plan_path)
        if resumed and json.loads(self.system.cat_file(plan_path)) != plan:
            raise DataError(
                "the inputs and options of the interrupted run",
                f"others than in {plan_path}",
                "repeat them, or leave --resume out to start anew",
            )
        if is_there(self.system, self.final) and not resumed:
            raise DataError(
                "an output that does not exist yet", self.output, "choose another name or remove it"
            )
        if resumed:
            return
        if self.system.exists(self.root):
            self.system.rm(self.root, recursive=True)
        for folder in ("records", "parts"):
            self.system.makedirs(f"{self.root}/{folder}", exist_ok=True)
        write_whole(self.system, plan_path, json.dumps(plan, indent=1).encode())

    def part_path(self, index: int, part: int) -> str:
        """Where part ``part`` of unit ``index`` is."""
        return f"{self.root}/parts/{index:08d}-{part:06d}.npz.zst"

    def keep(self, index: int, record: Record) -> None:
        """Marks a unit as done; its parts must be there."""
        write_whole(self.system, self._record_path(index), json.dumps(asdict(record)).encode())

    def missing(self, units: Sequence[str]) -> list[int]:
        """The units that have no record yet."""
        names = {path.rsplit("/", 1)[-1] for path in self.system.find(f"{self.root}/records")}
        return [i for i in range(len(units)) if f"{i:08d}.json" not in names]

    def records(self, units: Sequence[str]) -> list[Record]:
        """The records of all units, in their order."""
        paths = [self._record_path(index) for index in range(len(units))]
        return [Record(**json.loads(self.system.cat_file(path))) for path in paths]

    def pieces(self, records: Sequence[Record]) -> list[Piece]:
        """All parts and their places in the store."""
        pieces: list[Piece] = []
        place = 0
        for index, record in enumerate(records):
            counts = part_counts(record.sequences)
            for part, count in enumerate(counts):
                path = self.part_path(index, part)
                pieces.append(Piece(path, record.scene, 0, count, place))
                place += count
        return pieces

    @property
    def published(self) -> bool:
        """Whether the store has its final name already: the run was killed while tidying up."""
        return is_there(self.system, self.final)

    def publish(self) -> None:
        """Gives the store its final name."""
        publish(self.system, f"{self.root}/store", self.final)

    def discard(self) -> None:
        """Removes all that is not the store under its final name."""
        self.system.rm(self.root, recursive=True)

    def _record_path(self, index: int) -> str:
        return f"{self.root}/records/{index:08d}.json"
