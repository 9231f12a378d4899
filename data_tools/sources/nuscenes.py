"""nuScenes: the tables of a version as they lie on disk, keyframes at 2 Hz, map expansion if any.

The ego's pose at a keyframe is that of its LIDAR_TOP sweep. Keyframes are taken as frames half a
second apart, as all who publish on this data set do; their clock is off by up to 0.1 s. Tables of
one's own in this format may have another step, which is then that of the frames.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from data_tools.passing import refuse_passing
from data_tools.scene import MapElement, Scene
from data_tools.sources.inputs import find_files
from data_tools.sources.nuscenes_map import read_map
from data_tools.sources.nuscenes_tables import Keyframe, Tables, scene_names, tables
from data_tools.sources.observations import Observations, frame_numbers, scene_of, stack
from data_tools.spatial import headings, rotations
from forecast.errors import ConfigError, DataError
from forecast.storage.files import filesystem

Array = NDArray[np.float64]

STEP_S = 0.5
SAME_STEP = 0.05  # steps that differ by this share, on average, are one step
JITTER = 0.4  # of a step, from one keyframe to the next
HARDLY = 1  # the token of "visible by 40 % at most"


@dataclass(frozen=True)
class NuScenes:
    """Scenes of a version; a unit is ``.../v1.0-mini#scene-0061``.

    Args:
        min_visibility: Annotations less visible than this are left out, 1 to 4: 2 leaves out
            what is visible by 40 % at most, altogether; published label protocols leave it out
            of the labels (``PrepareOptions.protocol``).

    Raises:
        ConfigError: ``min_visibility`` is out of its range.
    """

    name: str = "nuscenes"
    min_visibility: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min_visibility <= 4:
            raise ConfigError("min_visibility of 1 to 4", str(self.min_visibility), "correct --set")

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenes of some versions: their directories or the one that they are in.

        A version whose scenes cannot be read is a unit too: reading it says what is wrong.

        Raises:
            DataError: An input does not exist or holds no ``scene.json``.
        """
        units: dict[str, None] = {}
        for path in find_files(
            [place for text in inputs for place in _places(text)], ("scene.json",)
        ):
            folder = posixpath.dirname(path)
            try:
                units.update((f"{folder}#{quote(name)}", None) for name in scene_names(folder))
            except DataError as error:
                refuse_passing(error, folder)
                units[folder] = None
        return list(units)

    def read(self, unit: str, dt_s: float) -> Scene:
        """One scene at ``dt_s``, which must be a multiple of its step, 0.5 s in nuScenes.

        Raises:
            DataError: A table, or what it says of the scene, is not as it should be.
        """
        folder, mark, name = unit.rpartition("#")
        if not mark:
            scene_names(unit)  # raises what kept it from being listed scene by scene
            raise DataError("v1.0-...#scene", repr(unit), "name a scene")
        whole = tables(folder)
        if unquote(name) not in whole.scenes:
            raise DataError("the name of a scene", f"{unit}", "check it")
        _, first, log, _ = whole.scenes[unquote(name)]
        samples = _samples(whole, unquote(name), first, unit)
        time_us = np.array([whole.keyframes[token].time_us for token in samples])
        frame, step_s = _frames((time_us - time_us[:1]) * 1e-6, unit)
        ego_pose = _ego(whole, samples, frame, unit)
        seen, obscured, left_out = self._boxes(whole, samples, frame, unit)
        tracks = stack(seen, len(ego_pose), unit)
        place = {track: number for number, track in enumerate(tracks.track_id)}
        hidden = np.zeros(tracks.state.shape[:2], bool)
        hidden[[place[track] for track in seen.track], seen.frame] = obscured
        return scene_of(
            unquote(name),
            tracks,
            ego_pose,
            step_s=step_s,
            dt_s=dt_s,
            where=unit,
            hidden=hidden,
            map=_map(folder, whole.locations.get(log, ""), ego_pose, unit),
            notes={"boxes less visible than asked for": left_out},
        )

    def _boxes(
        self, whole: Tables, samples: Sequence[str], frame: NDArray[np.int64], unit: str
    ) -> tuple[Observations, NDArray[np.bool_], int]:
        """The annotations that are visible enough, which of them hardly, and how many are not."""
        every = [
            (int(number), box)
            for sample, number in zip(samples, frame, strict=True)
            for box in whole.boxes.get(sample, ())
        ]
        shown = [(number, box) for number, box in every if box.visibility >= self.min_visibility]
        boxes = [box for _, box in shown]
        unknown = {box.instance for box in boxes} - whole.categories.keys()
        if unknown:
            raise DataError(
                "a record of every instance", f"none of {min(unknown)} for {unit}", "restore it"
            )
        place = np.array([box.translation for box in boxes]).reshape(-1, 3)
        turned = rotations(np.array([box.rotation for box in boxes]).reshape(-1, 4), unit)
        width, length, _ = np.array([box.size for box in boxes]).reshape(-1, 3).T
        seen = Observations(
            np.array([number for number, _ in shown], np.int64),
            np.array([box.instance for box in boxes]),
            np.array([whole.categories[box.instance] for box in boxes]),
            np.column_stack([place[:, :2], headings(turned), length, width]),
        )
        hardly = np.array([box.visibility == HARDLY for box in boxes], bool)
        return seen, hardly, len(every) - len(shown)


def _places(text: str) -> list[str]:
    """The table of scenes that a directory holds; data sets have too many files to search all."""
    if text.startswith("@"):
        return [text]
    system, inner = filesystem(text)
    if not system.isdir(inner):
        return [text]
    if system.isfile(posixpath.join(inner, "scene.json")):
        return [posixpath.join(text, "scene.json")]
    versions = sorted(map(posixpath.basename, system.ls(inner, detail=False)))
    found = [posixpath.join(text, v, "scene.json") for v in versions if v.startswith("v1.0-")]
    if not found:
        raise DataError("a nuScenes version, v1.0-...", f"none in {text}", "check the path")
    return found


def _samples(whole: Tables, name: str, first: str, unit: str) -> list[str]:
    """Tokens of a scene's keyframes, from its first on."""
    scene, _, _, count = whole.scenes[name]
    samples: list[str] = []
    token = first
    while token:
        keyframe: Keyframe | None = whole.keyframes.get(token)
        if keyframe is None or keyframe.scene != scene or len(samples) >= count:
            raise DataError(
                f"{count} samples of the scene, each with the next",
                f"{token!r} after {len(samples)} in {unit}",
                "restore the tables",
            )
        samples.append(token)
        token = keyframe.following
    if len(samples) < count:
        raise DataError(f"{count} samples", f"{len(samples)} in {unit}", "restore the tables")
    return samples


def _frames(time_s: Array, unit: str) -> tuple[NDArray[np.int64], float]:
    """The numbers of keyframes and the step between them, 0.5 s unless they say otherwise."""
    since_s = np.diff(time_s)
    step_s = STEP_S
    if len(since_s) and since_s.min() > 0:
        on_average_s = since_s.sum() / np.maximum(np.round(since_s / STEP_S), 1).sum()
        if abs(on_average_s / STEP_S - 1) > SAME_STEP:
            step_s = float(np.median(since_s))
    frame = frame_numbers(time_s, step_s, JITTER * step_s, unit)
    on_average_s = time_s[-1] / max(int(frame[-1]), 1)
    if len(since_s) and abs(on_average_s / step_s - 1) > SAME_STEP:
        raise DataError(
            f"keyframes {step_s:g} s apart, as most are",
            f"{on_average_s:g} s on average in {unit}",
            "resample them, or write a table for the source tracks",
        )
    return frame, step_s


def _ego(whole: Tables, samples: Sequence[str], frame: NDArray[np.int64], unit: str) -> Array:
    """The ego's pose in each frame, ``(T, 3)``, NaN in gaps."""
    missing = [sample for sample in samples if sample not in whole.ego]
    if missing:
        raise DataError(
            "an ego pose of a LIDAR_TOP keyframe for every sample",
            f"none of {missing[0]} in {unit}",
            "restore the tables",
        )
    place = np.array([whole.ego[sample][0] for sample in samples])
    turned = rotations(np.array([whole.ego[sample][1] for sample in samples]), unit)
    pose = np.full((int(frame[-1]) + 1, 3), np.nan)
    pose[frame] = np.column_stack([place[:, :2], headings(turned)])
    return pose


def _map(folder: str, location: str, ego_pose: Array, unit: str) -> tuple[MapElement, ...]:
    """The map expansion around the ego's path, if it is installed."""
    if not re.fullmatch(r"[\w-]+", location):  # it becomes part of a path
        raise DataError("a log with a location", f"{location!r} for {unit}", "restore log.json")
    root = posixpath.dirname(folder.rstrip("/"))
    path = posixpath.join(root, "maps", "expansion", f"{location}.json")
    system, inner = filesystem(path)
    return read_map(path, ego_pose[:, :2]) if system.exists(inner) else ()
