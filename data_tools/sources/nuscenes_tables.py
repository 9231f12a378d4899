"""The tables of a nuScenes version, read with json and boiled down to what scenes are made of.

A record of the large tables is reduced to a few values as soon as it is decoded, and only ego
poses of LIDAR_TOP keyframes are kept, so that ``v1.0-trainval`` fits in memory. A process keeps the
version that it read last.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from data_tools.formats.documents import read_json
from forecast.errors import DataError
from forecast.storage.files import version_of

CHANNEL = "LIDAR_TOP"
# What is read of a version.
TABLES = (
    *("category", "sensor", "calibrated_sensor", "sample_data", "ego_pose", "visibility"),
    *("sample_annotation", "scene", "sample", "instance", "log"),
)
Numbers = tuple[float, ...]
_FAULTS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Keyframe:
    """One sample: when it was taken, the samples and scene it belongs to.

    Args:
        time_us: Microseconds.
        scene: Token of its scene.
        following: Token of the next sample of the scene, empty at the end.
    """

    time_us: float
    scene: str
    following: str


@dataclass(frozen=True, slots=True)
class Box:
    """One annotation: whose, how visible (1 to 4), and pose and size as the table has them."""

    instance: str
    visibility: int
    translation: Numbers
    size: Numbers
    rotation: Numbers


@dataclass(frozen=True)
class Tables:
    """A version, indexed by tokens.

    Args:
        scenes: By name: tokens of the scene, of its first sample and of its log, and how many
            samples it has.
        keyframes: Samples.
        boxes: Annotations of each sample.
        categories: Category name of each instance.
        ego: Translation and rotation of the ego at each sample.
        locations: Where each log was recorded.
    """

    scenes: dict[str, tuple[str, str, str, int]]
    keyframes: dict[str, Keyframe]
    boxes: dict[str, list[Box]]
    categories: dict[str, str]
    ego: dict[str, tuple[Numbers, Numbers]]
    locations: dict[str, str]


def scene_names(folder: str) -> list[str]:
    """The scenes of a version, in the table's order.

    Raises:
        DataError: The table of scenes is missing or not as it should be.
    """
    return list(_by_key(_rows(folder, "scene", _scene), "scene", folder))


def tables(folder: str) -> Tables:
    """Reads a version, such as ``.../v1.0-mini``.

    Raises:
        DataError: A table is missing, cut off, or has a record at fault, which is named.
    """
    versions = (version_of(f"{folder}/{name}.json", "a nuScenes table") for name in TABLES)
    return _tables(folder, tuple(versions))


@lru_cache(maxsize=1)
def _tables(folder: str, _versions: tuple[str, ...]) -> Tables:
    """Reads a version; ``_versions`` of its files make a changed one a new one."""

    def table(name: str, keep: Callable[[dict[str, Any]], tuple[Any, Any] | None]) -> Any:
        return _by_key(_rows(folder, name, keep), name, folder)

    categories = table("category", lambda r: (_text(r["token"]), _text(r["name"])))
    sensors = table("sensor", lambda r: (_text(r["token"]), _text(r["channel"])))
    mounted = table("calibrated_sensor", lambda r: (_text(r["token"]), sensors[r["sensor_token"]]))

    def pose_of_sample(r: dict[str, Any]) -> tuple[str, str] | None:
        wanted = r["is_key_frame"] and mounted[r["calibrated_sensor_token"]] == CHANNEL
        return (_text(r["sample_token"]), _text(r["ego_pose_token"])) if wanted else None

    pose_tokens = table("sample_data", pose_of_sample)
    wanted = set(pose_tokens.values())

    def pose(r: dict[str, Any]) -> tuple[str, tuple[Numbers, Numbers]] | None:
        if r["token"] not in wanted:
            return None
        return r["token"], (_numbers(r["translation"], 3), _numbers(r["rotation"], 4))

    poses = table("ego_pose", pose)
    levels = table("visibility", lambda r: (_text(r["token"]), int(r["token"])))
    boxes: dict[str, list[Box]] = defaultdict(list)
    for sample, box in _rows(folder, "sample_annotation", lambda r: _box(r, levels)):
        boxes[sample].append(box)
    return Tables(
        scenes=table("scene", _scene),
        keyframes=table("sample", _keyframe),
        boxes=boxes,
        categories=table(
            "instance", lambda r: (_text(r["token"]), categories[r["category_token"]])
        ),
        ego={sample: poses[token] for sample, token in pose_tokens.items() if token in poses},
        locations=table("log", lambda r: (_text(r["token"]), _text(r["location"]))),
    )


def _scene(r: dict[str, Any]) -> tuple[str, tuple[str, str, str, int]]:
    token, first, log = (_text(r[name]) for name in ("token", "first_sample_token", "log_token"))
    return _text(r["name"]), (token, first, log, int(r["nbr_samples"]))


def _keyframe(r: dict[str, Any]) -> tuple[str, Keyframe]:
    (time_us,) = _numbers((r["timestamp"],), 1, below=2.0**53)
    keyframe = Keyframe(time_us, _text(r["scene_token"]), _text(r["next"]))
    return _text(r["token"]), keyframe


def _box(r: dict[str, Any], levels: dict[str, int]) -> tuple[str, Box]:
    box = Box(
        _text(r["instance_token"]),
        levels[r["visibility_token"]],
        _numbers(r["translation"], 3),
        _numbers(r["size"], 3),
        _numbers(r["rotation"], 4),
    )
    return _text(r["sample_token"]), box


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _numbers(values: Any, count: int, below: float = 1e8) -> Numbers:
    numbers = tuple(map(float, values))
    # By default within the Earth, in metres; NaN is nowhere.
    if len(numbers) != count or not all(abs(number) < below for number in numbers):
        raise ValueError(f"{values!r} are not {count} finite numbers")
    return numbers


def _rows(
    folder: str, name: str, keep: Callable[[dict[str, Any]], tuple[Any, Any] | None]
) -> list[tuple[Any, Any]]:
    """What is kept of each record of a table, without those of which nothing is."""
    path = f"{folder}/{name}.json"
    number = itertools.count(1)

    def kept(record: dict[str, Any]) -> tuple[Any, Any] | None:
        place = next(number)
        try:
            return keep(record)
        except _FAULTS as error:
            raise DataError(
                f"a record of the nuScenes table {name}",
                f"{error!r} in record {place} of {path}",
                "restore the table",
            ) from error

    rows = read_json(path, kept)
    if not isinstance(rows, list) or not all(row is None or isinstance(row, tuple) for row in rows):
        raise DataError("a list of records", f"something else in {path}", "restore the table")
    return [row for row in rows if row is not None]


def _by_key(rows: list[tuple[Any, Any]], name: str, folder: str) -> dict[Any, Any]:
    found = dict(rows)
    if len(found) < len(rows):
        twice = Counter(key for key, _ in rows).most_common(1)[0][0]
        raise DataError(
            "every token once", f"{twice!r} twice in {folder}/{name}.json", "restore it"
        )
    return found
