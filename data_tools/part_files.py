"""Records and part files of each scene, from which a sequence store is assembled.

Under ``OUTPUT.partial``, beside what every :class:`forecast.storage.resumable.ResumableOutput`
keeps, lie the parts with the sequences of each scene, from which the store is assembled at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from data_tools.store import Piece, part_counts
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
        classes: Wanted classes that agents of its scene have.
        unwanted: The source's labels that are of no wanted class.
        skipped: Why it gave nothing, or empty.
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
    classes: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    skipped: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class PartFiles(ResumableOutput):
    """A resumable output whose units are scenes, each with its parts. Picklable."""

    folders = (*ResumableOutput.folders, "parts")

    def part_path(self, index: int, part: int) -> str:
        """Where part ``part`` of unit ``index`` is."""
        return f"{self.root}/parts/{index:08d}-{part:06d}.npz.zst"

    def records(self, units: Sequence[str]) -> list[Record]:
        """The records of all units, in their order."""
        return [Record(**self.record(index)) for index in range(len(units))]

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
