"""Records and part files of each scene, from which a sequence store is assembled.

Under ``OUTPUT.partial``, beside what every :class:`forecast.storage.resumable.ResumableOutput`
keeps, lie the parts with the sequences of each scene, from which the store is assembled at the end.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data_tools.store import Piece, part_counts
from forecast.errors import DataError
from forecast.storage.resumable import ResumableOutput


@dataclass(frozen=True)
class Record:
    """The outcome of one unit.

    Args:
        unit: Its name.
        scene: Name of the scene that it holds.
        sequences: Sequences that it gave; 0 if it was skipped.
        tracks: Most tracks of any of them; 0 if the scene is of rasters.
        points: Most map points of any of them.
        samples: Most samples of what was observed of any of them; 0 if the scene is of rasters.
        has_score: Whether its tracker says how sure it is.
        has_map: Whether the scene has a map.
        channels: Names of its further channels.
        notes: What was repaired or left out, by reason.
        warnings: What looks wrong with the scene, and what supports that.
        classes: Wanted classes that agents of its scene have.
        unwanted: The source's labels that are of no wanted class.
        skipped: Why it gave nothing, or empty.
        version: Of the file that it is in, as that was when it was read; empty where it is in none.
    """

    unit: str
    scene: str = ""
    sequences: int = 0
    tracks: int = 0
    points: int = 0
    samples: int = 0
    has_score: bool = False
    has_map: bool = False
    channels: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    skipped: str = ""
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


_RECORD = TypeAdapter(Record)


def told_apart(records: Sequence[Record]) -> list[Record]:
    """The records, scenes of one name from several units told apart by the folders of these.

    Two recordings of one file name are two: ``a/0007`` and ``b/0007``, what the folders share left
    out; units of one folder are numbered.
    """
    alike: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if record.sequences:
            alike.setdefault(record.scene, []).append(index)
    names = [record.scene for record in records]
    for scene, indices in alike.items():
        folders = [
            records[index].unit.rpartition("#")[0] or records[index].unit for index in indices
        ]
        parts = [folder.split("/")[:-1] for folder in folders]
        shared = len(posixpath.commonprefix(parts)) if len(indices) > 1 else len(parts[0])
        taken: Counter[str] = Counter()
        for index, folder in zip(indices, parts, strict=True):
            name = "/".join([*folder[shared:], scene])
            taken[name] += 1
            names[index] = f"{name} ({taken[name]})" if taken[name] > 1 else name
    return [replace(record, scene=name) for record, name in zip(records, names, strict=True)]


class PartFiles(ResumableOutput):
    """A resumable output whose units are scenes, each with its parts. Picklable."""

    folders = (*ResumableOutput.folders, "parts")

    def part_path(self, index: int, part: int) -> str:
        """Where part ``part`` of unit ``index`` is."""
        return f"{self.root}/parts/{index:08d}-{part:06d}.part"

    def records(self, units: Sequence[str]) -> list[Record]:
        """The records of all units, in their order."""
        return [self.record_of(index) for index in range(len(units))]

    def record_of(self, index: int) -> Record:
        """The record of a unit that has one."""
        try:
            return _RECORD.validate_python(self.record(index))
        except ValidationError as error:
            raise DataError(
                "what an interrupted run has left",
                f"a damaged record {index} in {self.root}",
                "take --overwrite in place of --resume to begin anew",
            ) from error

    def pieces(self, records: Sequence[Record]) -> list[Piece]:
        """All parts with their places in the store."""
        pieces: list[Piece] = []
        place = 0
        for index, record in enumerate(records):
            counts = part_counts(record.sequences)
            for part, count in enumerate(counts):
                path = self.part_path(index, part)
                pieces.append(Piece(path, record.scene, 0, count, place))
                place += count
        return pieces
