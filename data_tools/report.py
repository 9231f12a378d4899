"""The report of a run: scenes of which no store can be made are refused, the others summed up."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from urllib.parse import unquote

from data_tools import windows
from data_tools.classes import class_of, is_known
from data_tools.options import LEFT_OUT, PrepareOptions
from data_tools.part_files import Record
from data_tools.sizes import WITHOUT_SIZE
from forecast.errors import DataError, counted
from forecast.schema import DEFAULT_CLASSES

MOST_REASONS = 3  # why scenes cannot be read; the rest is counted
MOST_CLASSES = 12  # named in one line


@dataclass(frozen=True)
class PrepareReport:
    """What came of a run.

    Args:
        sequences: Sequences in the store.
        scenes: Scenes that gave at least one.
        skipped: Inputs that gave none, each with the reason.
        notes: What was repaired or left out in the others, by reason.
        warnings: What looks wrong with the recordings, one line each.
        hints: What can be done about some of these, by the same reason.
        absent: Classes asked for that no agent has.
        left_out: Classes of the agents that were left out.
        seconds: Time that the run took; a resumed one counts from its resumption.
    """

    sequences: int
    scenes: int
    skipped: list[tuple[str, str]]
    notes: dict[str, int]
    warnings: list[str]
    hints: dict[str, str]
    absent: list[str]
    left_out: list[str]
    seconds: float


def refuse_useless(source: str, records: Sequence[Record], options: PrepareOptions) -> None:
    """Refuses scenes that would make an empty store.

    Raises:
        DataError: None gave a sequence, or all agents are of other classes than those wanted.
    """
    if not any(record.sequences for record in records):
        raise DataError(
            "at least one scene that can be read",
            f"{len(records)} that cannot",
            f"mend this: {_reasons(records)}",
        )
    left_out = _left_out(source, records, options)
    if left_out and not any(record.classes for record in records):
        raise DataError(
            f"agents of class {' or '.join(options.classes)}",
            f"none, but of {', '.join(left_out[:MOST_CLASSES])}",
            "correct --classes or add --map-class NATIVE=CLASS",
        )


def summarise(
    source: str, records: Sequence[Record], options: PrepareOptions, seconds: float
) -> PrepareReport:
    """Sums the records up."""
    skipped = [(record.unit, record.skipped) for record in records if record.skipped]
    left_out = _left_out(source, records, options)
    return PrepareReport(
        sequences=sum(record.sequences for record in records),
        scenes=len(records) - len(skipped),
        skipped=skipped,
        notes=notes(records, options),
        warnings=_warnings(records) + (_in_parts(records) if source == "tracks" else []),
        hints=_hints(source, records),
        absent=_absent(records, options),
        left_out=left_out,
        seconds=seconds,
    )


def notes(records: Sequence[Record], options: PrepareOptions) -> dict[str, int]:
    """What was repaired or left out in all scenes, by reason."""
    found = sum((Counter(record.notes) for record in records), Counter[str]())
    if options.directions and not any(record.has_map for record in records):
        found["scenes without a map, so no --directions"] = sum(r.sequences > 0 for r in records)
    return dict(sorted(found.items()))


def _reasons(records: Sequence[Record]) -> str:
    """Each different reason once, whatever the name of the scene in it."""
    alike: dict[str, list[str]] = {}
    for record in records:
        path = record.unit.rpartition("#")[0] or record.unit
        alike.setdefault(record.skipped.replace(path, ""), []).append(record.skipped)
    reasons = [
        first + (f" ({counted(len(others), 'scene')} more)" if others else "")
        for first, *others in alike.values()
    ]
    if (more := len(reasons) - MOST_REASONS) > 0:
        reasons[MOST_REASONS:] = [f"and {counted(more, 'other reason')}"]
    return " | ".join(reasons)


def _left_out(source: str, records: Sequence[Record], options: PrepareOptions) -> list[str]:
    """Classes of the agents that are of no wanted class, without those mapped to LEFT_OUT."""
    labels = {label for record in records for label in record.unwanted}
    return sorted({class_of(source, label, options.map_classes) for label in labels} - {LEFT_OUT})


def _absent(records: Sequence[Record], options: PrepareOptions) -> list[str]:
    """Classes asked for that no agent has, perhaps misspelt; the default classes do not count."""
    if tuple(options.classes) == DEFAULT_CLASSES:
        return []
    there = {name for record in records for name in record.classes}
    return [name for name in options.classes if name not in there]


def _warnings(records: Sequence[Record]) -> list[str]:
    """Each suspicion once, with what supports it in the first scene."""
    where: dict[str, list[str]] = {}
    for record in records:
        for suspicion, support in record.warnings.items():
            if record.sequences:
                where.setdefault(suspicion, []).append(f"{record.scene}: {support}")
    lines = []
    for suspicion, (first, *others) in where.items():
        more = f"; {counted(len(others), 'scene')} more" if others else ""
        lines.append(f"{suspicion} ({first}{more})")
    return lines


def _in_parts(records: Sequence[Record]) -> list[str]:
    """Scenes of one name in several tables of a folder, each with a part of its agents perhaps."""
    tables: dict[tuple[str, str], list[str]] = {}
    for record in records:
        path, mark, scene = record.unit.rpartition("#")
        if mark and record.sequences:
            folder, name = posixpath.split(path)
            tables.setdefault((folder, unquote(scene)), []).append(name)
    found = [f"{scene}: {', '.join(of[:2])}" for (_, scene), of in tables.items() if len(of) > 1]
    if not found:
        return []
    more = f"; {counted(len(found) - 1, 'scene')} more" if len(found) > 1 else ""
    return [
        "tables of one folder name the same scene and are a scene each; if it is one, put its rows"
        f" into one table ({found[0]}{more})"
    ]


def _hints(source: str, records: Sequence[Record]) -> dict[str, str]:
    """How to keep agents of a user's own, unknown labels, and of those without a size."""
    unwanted = {label for record in records for label in record.unwanted}
    reasons = {reason for record in records for reason in record.notes}
    sizes = "give their sizes, or a class that has one by --map-class"
    return {reason: sizes for reason in reasons if reason.endswith(WITHOUT_SIZE)} | {
        windows.left_out_note(label): f"to keep them, add --map-class {quote(f'{label}=CLASS')}"
        for label in unwanted
        if source == "tracks" and not is_known(source, label)
    }
