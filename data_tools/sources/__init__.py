"""The interface of a source of recordings, and the sources there are.

A source names its units of work (:meth:`Source.find`) and reads one unit into a scene
(:meth:`Source.read`). Units are plain strings, so that they travel between processes and machines,
and so that a list of them says what a store was made of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

from data_tools.scene import DenseScene, Scene
from forecast.errors import ConfigError

SourceName = Literal[
    "nuscenes",
    "nuplan",
    "argoverse2-sensor",
    "argoverse2-motion",
    "waymo-json",
    "waymo-motion",
    "waymo-perception",
    "scenarionet",
    "commonroad",
    "lyft-l5",
    "kitti-tracking",
    "py123d",
    "tracks",
    "rasters",
    "sumo",
]


class Source(Protocol):
    """A kind of recording. Instances are picklable and hold no open files."""

    @property
    def name(self) -> str:
        """What the source is called in commands and stores."""
        ...

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The units of work in some inputs: one file, ``file#scene``, or a seed, each.

        Args:
            inputs: Files, directories, globs, fsspec URLs or ``@list.txt`` (one input per line).

        Returns:
            Units in a fixed order, each once.

        Raises:
            DataError: An input does not exist, or holds nothing of this kind.
        """
        ...

    def read(self, unit: str, dt_s: float) -> Scene | DenseScene:
        """One unit as a scene with exactly ``dt_s`` seconds between frames.

        Raises:
            DataError: The unit cannot be read; it is skipped and reported.
        """
        ...


def source(
    name: str, settings: Mapping[str, str] | None = None, preset: str | None = None
) -> Source:
    """The source of that name, set up as the user wants it.

    Args:
        name: One of :data:`SourceName`.
        settings: Values, as text, of fields that the source's class has.
        preset: What the columns of ``tracks`` are called and mean: the name of a preset, or the
            path of a YAML file.

    Raises:
        ConfigError: There is no such source, it has no such setting, the value does not fit, or
            the preset is none, or is not as documented.
    """
    made: Any = _source(name)
    if preset is not None:
        if name != "tracks":
            raise ConfigError("--preset with tracks", f"it with {name}", "leave it out")
        from data_tools.sources.presets import load_preset

        made = dataclasses.replace(made, preset=load_preset(preset))
    fields = dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
    known: dict[str, type[Any]] = {
        f.name: type(f.default) for f in fields if f.name not in ("name", "preset")
    }
    values: dict[str, Any] = {}
    for key, text in (settings or {}).items():
        if key not in known:
            got = f"{key!r}, which {name} does not have"
            raise ConfigError(f"a setting: {', '.join(known) or 'none'}", got, "correct --set")
        try:
            values[key] = known[key](text)
        except ValueError as error:
            wanted = f"{key} as {known[key].__name__}"
            raise ConfigError(wanted, repr(text), "correct --set") from error
    changed: Source = dataclasses.replace(made, **values) if values else made
    return changed


def _source(name: str) -> Source:  # noqa: C901 - one case a source, and no other decision
    """The source of that name; its module is imported only now."""
    match name:
        case "nuscenes":
            from data_tools.sources.nuscenes import NuScenes

            return NuScenes()
        case "nuplan":
            from data_tools.sources.nuplan import NuPlan

            return NuPlan()
        case "waymo-json":
            from data_tools.sources.waymo_json import WaymoJson

            return WaymoJson()
        case "waymo-motion":
            from data_tools.sources.waymo_motion import WaymoMotion

            return WaymoMotion()
        case "waymo-perception":
            from data_tools.sources.waymo_perception import WaymoPerception

            return WaymoPerception()
        case "scenarionet":
            from data_tools.sources.scenarionet import ScenarioNet

            return ScenarioNet()
        case "commonroad":
            from data_tools.sources.commonroad import CommonRoad

            return CommonRoad()
        case "lyft-l5":
            from data_tools.sources.lyft_l5 import LyftL5

            return LyftL5()
        case "kitti-tracking":
            from data_tools.sources.kitti_tracking import KittiTracking

            return KittiTracking()
        case "py123d":
            from data_tools.sources.py123d import Py123D

            return Py123D()
        case "tracks":
            from data_tools.sources.tracks import Tracks

            return Tracks()
        case "rasters":
            from data_tools.sources.rasters import Rasters

            return Rasters()
        case "sumo":
            from data_tools.sources.sumo import Sumo

            return Sumo()
        case "argoverse2-sensor":
            from data_tools.sources.argoverse2_sensor import Argoverse2Sensor

            return Argoverse2Sensor()
        case "argoverse2-motion":
            from data_tools.sources.argoverse2_motion import Argoverse2Motion

            return Argoverse2Motion()
    raise ConfigError(
        f"a source: {', '.join(get_args(SourceName))}", repr(name), "name one of them"
    )
