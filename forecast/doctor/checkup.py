"""Examines a store, a sequence at a time, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from forecast.doctor import headings, motion, orientation, places, plausible, rasters
from forecast.doctor.clip import Clip, Finding, clip_of
from forecast.errors import DataError
from forecast.parallel import Progress
from forecast.storage.stores import open_sequence_store, refusing_damage

Check = Callable[[Clip], Iterator[Finding]]

CHECKS: dict[str, Check] = {
    "classes known": rasters.classes_known,
    "ids constant": rasters.ids_constant,
    "ids unique": rasters.ids_unique,
    "boxes whole": rasters.boxes_whole,
    "masks agree with boxes": rasters.masks_agree,
    "no teleports": motion.no_teleports,
    "headings follow motion": motion.headings_follow_motion,
    "ego poses consistent": motion.ego_consistent,
    "ids not reused": motion.ids_not_reused,
    "headings do not flip": headings.no_flips,
}
"""Name -> check of one sequence."""


class StoreCheck(Protocol):
    """A question to a whole store: it takes sequence after sequence, then judges."""

    def add(self, sequence: int, scene: str, clip: Clip) -> None:
        """Takes what one sequence says."""

    def findings(self) -> Iterator[Finding]:
        """What is wrong with the store, or with scenes of it."""

    @property
    def skipped(self) -> str:
        """Why it could say nothing; "" where it could."""


OF_IDS = (
    "ids constant",
    "ids unique",
    "ids not reused",
    "no teleports",
    "frames in the present frame",
)
MAP_CHECK = "map under the traffic"
LANE_CHECK = "lanes along the traffic"
OF_TRACKS = (
    "boxes whole",
    "masks agree with boxes",
    "headings follow motion",
    "headings do not flip",
    "rasters lie as the boxes",
    "sizes and speeds plausible",
    MAP_CHECK,
    LANE_CHECK,
)
OVERLAP_CHECK = "no overlap with the other store"
STORE_CHECKS: dict[str, Callable[[], StoreCheck]] = {
    "frames in the present frame": orientation.FramesStandStill,
    "rasters lie as the boxes": orientation.RastersFitBoxes,
    "headings without an offset": headings.HeadingOffset,
    "sizes and speeds plausible": plausible.SizesAndSpeeds,
    MAP_CHECK: places.MapUnderTraffic,
    LANE_CHECK: headings.LanesLead,
}
"""Name -> maker of a check of the whole store."""


@dataclass(frozen=True)
class Checkup:
    """What an examination found.

    Attributes:
        store: Its path.
        sequences: How many were examined.
        findings: Check -> what is wrong, in the order of the store; empty where all is well.
        skipped: Check -> why it could say nothing.
    """

    store: str
    sequences: int
    findings: dict[str, list[Finding]]
    skipped: dict[str, str]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.findings.values())


def examine_store(
    path: str, against: str | None = None, progress: Progress | None = None
) -> Checkup:
    """Checks every invariant of a sequence store.

    Args:
        path: Local path or fsspec URL.
        against: A second store that must share no scene and no place with it.
        progress: Told (sequences done, sequences in all).

    Raises:
        DataError: A store is missing, damaged or of another schema, or has no sequence.
    """
    findings: dict[str, list[Finding]] = {name: [] for name in (*CHECKS, *STORE_CHECKS)}
    of_store = {name: make() for name, make in STORE_CHECKS.items()}
    prints, count, ids = places.Prints(), 0, False
    for index, scene, clip in _clips(path, progress):
        for name, check in CHECKS.items():
            found = (replace(one, sequence=index, scene=scene) for one in check(clip))
            findings[name] += found
        for store_check in of_store.values():
            store_check.add(index, scene, clip)
        ids = ids or clip.has_ids
        if against is not None:
            prints.add(scene, clip)
        count += 1
    for name, store_check in of_store.items():
        findings[name] += store_check.findings()
    if against is not None:
        findings[OVERLAP_CHECK] = _overlap(prints, against, progress)
    return Checkup(path, count, findings, _skipped(path, of_store, ids))


def _clips(path: str, progress: Progress | None) -> Iterator[tuple[int, str, Clip]]:
    data, meta = open_sequence_store(path)
    count = data.sizes["sequence"]
    if count < 1:
        raise DataError("at least one sequence", f"none in {path}", "prepare more data")
    for index, scene in enumerate(data["scene"].values.tolist()):
        with refusing_damage(path):
            clip = clip_of(data, meta, index)
        yield index, str(scene), clip
        if progress is not None:
            progress(index + 1, count)


def _overlap(prints: places.Prints, against: str, progress: Progress | None) -> list[Finding]:
    other = places.Prints()
    for _, scene, clip in _clips(against, progress):
        other.add(scene, clip)
    return list(places.overlap(prints, other))


def _skipped(path: str, of_store: Mapping[str, StoreCheck], ids: bool) -> dict[str, str]:
    data, meta = open_sequence_store(path)
    reasons = {} if ids else dict.fromkeys(OF_IDS, "the store has no ids")
    if meta.protocol.get("name") != "exact":
        reasons["masks agree with boxes"] = "which its protocol does not promise"
    if "track_state" not in data:
        reasons |= dict.fromkeys(OF_TRACKS, "the store has no track_state")
    for name, check in of_store.items():
        if reason := check.skipped:
            reasons.setdefault(name, reason)
    return reasons
