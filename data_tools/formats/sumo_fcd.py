"""SUMO's floating car data, as ``sumo --fcd-output`` writes them in XML, plain or gzipped.

A row is one vehicle or person at one time step, as SUMO has it: the middle of its front bumper, and
degrees clockwise from north. Neither sizes nor classes are in the file. They are those of the
``vType`` in a file of routes or additional definitions beside it (``drive.rou.xml`` or
``drive.add.xml`` for ``drive.fcd.xml``), else SUMO's defaults for the vehicle class that the type's
name says: ``bus``, ``veh_passenger``, ``DEFAULT_VEHTYPE``.
"""

from __future__ import annotations

import math
import posixpath
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from data_tools.formats.xml import read_xml
from data_tools.scene import FARTHEST_M
from forecast.errors import DataError
from forecast.storage.files import filesystem

MAX_BYTES = 2**30  # unpacked; the number of rows is bounded as that of all XML
TYPES_BESIDE = (".rou.xml", ".rou.xml.gz", ".add.xml", ".add.xml.gz")
NUMBERS = ("x", "y", "angle", "speed")
PERSON = "pedestrian"
# A person in SUMO is 0.215 m long and 0.478 m wide. Data sets label more, and so do our classes: it
# gets a square around the same middle.
PERSON_LENGTH_M, PERSON_BOX_M = 0.215, 0.8
# Length and width of SUMO's vehicle classes, metres.
SIZES_M: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("passenger", "private", "taxi", "evehicle", "hov", "vip", "authority", "army"), (5.0, 1.8)
    ),
    "emergency": (6.5, 2.16),
    "delivery": (6.5, 2.16),
    "truck": (7.1, 2.4),
    "trailer": (16.5, 2.55),
    "bus": (12.0, 2.5),
    "coach": (14.0, 2.6),
    "tram": (22.0, 2.4),
    "motorcycle": (2.2, 0.9),
    "moped": (2.1, 0.78),
    "bicycle": (1.6, 0.65),
    "scooter": (1.2, 0.5),
    PERSON: (PERSON_BOX_M, PERSON_BOX_M),
}
_DEFAULTS = {
    "DEFAULT_VEHTYPE": "passenger",
    "DEFAULT_TAXITYPE": "taxi",
    "DEFAULT_BIKETYPE": "bicycle",
    "DEFAULT_PEDTYPE": PERSON,
}


@dataclass(frozen=True)
class VehicleType:
    """Vehicle class and size, metres, of a ``vType``; NaN = not known."""

    vclass: str
    length_m: float = np.nan
    width_m: float = np.nan


def read_table(path: str) -> pd.DataFrame:
    """Reads a file step by step; what is kept grows with its rows only.

    Persons in vehicles and containers are left out. Of persons ``id`` is ``person:ID``: vehicles
    may have the same.

    Returns:
        Columns ``time``, ``id``, ``x``, ``y``, ``angle``, ``speed``, ``class`` (SUMO's vehicle
        class, or the type's name where that is not known), ``length`` and ``width``; NaN where a
        speed or size is not known.

    Raises:
        DataError: It is no such file, lacks what is needed, or is too long.
    """
    types = _types_beside(path)
    rows = _Rows()
    for step in read_xml(path, "fcd-export", MAX_BYTES):
        if step.tag != "timestep":
            continue
        where = f"timestep {step.get('time')} of {path}"
        time_s = _number(step, "time", where)
        for who in step:
            if who.tag == "vehicle" or (who.tag == "person" and not who.get("vehicle")):
                rows.add(time_s, who, where)
    if not rows.time:
        raise DataError("vehicles or persons", f"none in {path}", "leave it out")
    return rows.table(types)


@dataclass
class _Rows:
    time: array[float] = field(default_factory=lambda: array("d"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    agent: array[int] = field(default_factory=lambda: array("q"))
    kind: array[int] = field(default_factory=lambda: array("q"))
    agents: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, time_s: float, who: ET.Element, where: str) -> None:
        """Keeps one vehicle or person."""
        name, kind = who.get("id"), who.get("type")
        if name is None or kind is None:
            raise DataError(
                "id and type of everyone",
                f"a {who.tag} without in {where}",
                "add type to --fcd-output.attributes",
            )
        x, y, angle, speed = (_number(who, column, where) for column in NUMBERS)
        if who.tag == "person":
            name, kind = f"person:{name}", "DEFAULT_PEDTYPE"
            ahead = (PERSON_BOX_M - PERSON_LENGTH_M) / 2  # from the body's front to the box's
            x += ahead * math.sin(math.radians(angle))
            y += ahead * math.cos(math.radians(angle))
        self.time.append(time_s)
        self.agent.append(self.agents.setdefault(name, len(self.agents)))
        self.kind.append(self.kinds.setdefault(kind, len(self.kinds)))
        self.numbers.extend((x, y, angle, speed))

    def table(self, types: Mapping[str, VehicleType]) -> pd.DataFrame:
        """All rows, with their types looked up."""
        kinds = [types.get(name) or _by_name(name) for name in self.kinds]
        sizes = np.array([(kind.length_m, kind.width_m) for kind in kinds])
        numbers = np.array(self.numbers).reshape(-1, len(NUMBERS))
        return pd.DataFrame(
            {
                "time": np.array(self.time),
                "id": np.array(list(self.agents), object)[self.agent],
                "class": np.array([kind.vclass for kind in kinds], object)[self.kind],
                **dict(zip(NUMBERS, numbers.T, strict=True)),
                "length": sizes[self.kind, 0],
                "width": sizes[self.kind, 1],
            }
        )


def definitions_beside(path: str) -> list[str]:
    """Where definitions of types may be, beside a file of floating car data."""
    return [_stem(path) + ending for ending in TYPES_BESIDE]


def _types_beside(path: str) -> dict[str, VehicleType]:
    """The types defined in the files beside a file of floating car data, by their names."""
    types: dict[str, VehicleType] = {}
    for place in definitions_beside(path):
        system, inner = filesystem(place)
        if system.isfile(inner):
            root = "routes" if ".rou." in place.removeprefix(_stem(path)) else "additional"
            for child in read_xml(place, root):
                types |= {
                    one.get("id", ""): _type(one, f"vType {one.get('id')} of {place}")
                    for one in child.iter("vType")
                }
    return types


def _stem(path: str) -> str:
    folder, name = posixpath.split(path)
    return posixpath.join(folder, name.split(".")[0])


def _type(element: ET.Element, where: str) -> VehicleType:
    vclass = element.get("vClass", "passenger")
    length_m, width_m = SIZES_M.get(vclass, (np.nan, np.nan))
    if element.get("length") is not None:
        length_m = _number(element, "length", where)
    if element.get("width") is not None:
        width_m = _number(element, "width", where)
    return VehicleType(vclass, length_m, width_m)


def _by_name(name: str) -> VehicleType:
    """What the name of a type says: SUMO's own, a class, or ``veh_passenger``; else nothing."""
    vclass = _DEFAULTS.get(name, name.rpartition("_")[2])
    return VehicleType(
        vclass if vclass in SIZES_M else name, *SIZES_M.get(vclass, (np.nan, np.nan))
    )


def _number(element: ET.Element, name: str, where: str) -> float:
    text = element.get(name)
    if text is None and name == "speed":
        return np.nan
    try:
        number = float("" if text is None else text)
    except ValueError:
        number = np.nan
    if not abs(number) <= FARTHEST_M:
        raise DataError(
            f"a number up to {FARTHEST_M:g} as {name} of every {element.tag}",
            f"{'nothing' if text is None else repr(text[:50])} in {where}",
            "write it, see --fcd-output.attributes, or leave the file out",
        )
    return number
