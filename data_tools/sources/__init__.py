"""The interface of a source of recordings, and the sources there are.

A source names its units of work (:meth:`Source.find`) and reads one unit into a scene
(:meth:`Source.read`). Units are plain strings, so that they travel between processes and machines,
and so that a list of them says what a store was made of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import import_module
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
    "mcap",
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
    name: str,
    settings: Mapping[str, str] | None = None,
    preset: str | None = None,
    map_classes: Sequence[tuple[str, str]] = (),
) -> Source:
    """The source of that name, set up as the user wants it.

    Args:
        name: One of :data:`SourceName`.
        settings: Values, as text, of fields that the source's class has.
        preset: What the columns of ``tracks`` are called and mean: the name of a preset, or the
            path of a YAML file.
        map_classes: Pairs of a label and the class that it becomes, for sources that read agents
            differently by class.

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
    if any(f.name == "map_classes" for f in fields):
        made = dataclasses.replace(made, map_classes=tuple(map_classes))
    known: dict[str, type[Any]] = {
        f.name: type(f.default) for f in fields if f.name not in ("name", "preset", "map_classes")
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


def _source(name: str) -> Source:
    """The source of that name; its module is imported only now."""
    if name not in _CLASSES:
        names = ", ".join(get_args(SourceName))
        raise ConfigError(f"a source: {names}", repr(name), "name one of them")
    module, kind = _CLASSES[name]
    made: Source = getattr(import_module(f"{__name__}.{module}"), kind)()
    return made


# Name -> module of this package, and class.
_CLASSES = {
    "nuscenes": ("nuscenes", "NuScenes"),
    "nuplan": ("nuplan", "NuPlan"),
    "waymo-json": ("waymo_json", "WaymoJson"),
    "waymo-motion": ("waymo_motion", "WaymoMotion"),
    "waymo-perception": ("waymo_perception", "WaymoPerception"),
    "scenarionet": ("scenarionet", "ScenarioNet"),
    "commonroad": ("commonroad", "CommonRoad"),
    "lyft-l5": ("lyft_l5", "LyftL5"),
    "kitti-tracking": ("kitti_tracking", "KittiTracking"),
    "py123d": ("py123d", "Py123D"),
    "mcap": ("mcap", "Mcap"),
    "tracks": ("tracks", "Tracks"),
    "rasters": ("rasters", "Rasters"),
    "sumo": ("sumo", "Sumo"),
    "argoverse2-sensor": ("argoverse2_sensor", "Argoverse2Sensor"),
    "argoverse2-motion": ("argoverse2_motion", "Argoverse2Motion"),
}
