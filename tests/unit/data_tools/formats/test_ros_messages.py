"""Messages as text: those of other libraries are the same, and their bytes are read alike."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from data_tools.formats.ros_messages import (
    DETECTED,
    OCCUPANCY,
    ODOMETRY,
    PREDICTED,
    TRACKED,
    decoder,
    definition,
    differs,
)

RULE = "=" * 80
KINEMATICS = """
# Only position is available, orientation is empty = not known.
uint8 UNAVAILABLE=0
uint8 SIGN_UNKNOWN = 1  # up to a sign flip
uint8 AVAILABLE=2
string NOTE="a=b"

geometry_msgs/PoseWithCovariance pose_with_covariance
geometry_msgs/msg/TwistWithCovariance twist_with_covariance
geometry_msgs/AccelWithCovariance acceleration_with_covariance

uint8 orientation_availability 2
bool is_stationary  # since when is not said
"""


def block(name: str, text: str) -> str:
    return f"MSG: {name}\n{text}"


def recorded(changes: dict[str, str], without: str = "") -> str:
    """The definition of TrackedObjects with some types in other words, as a recorder writes it."""
    first, *parts = definition(TRACKED).split(f"{RULE}\n")
    names = [part.splitlines()[0].removeprefix("MSG: ") for part in parts]
    made = [
        block(name, changes[name]) if name in changes else part
        for name, part in zip(names, parts, strict=True)
        if name != without
    ]
    return f"{RULE}\r\n".join([first, *made])


def test_comments_constants_and_defaults_make_no_other_message() -> None:
    changes = {
        "autoware_perception_msgs/TrackedObjectKinematics": KINEMATICS,
        "geometry_msgs/Quaternion": "float64 x 0\nfloat64 y 0\nfloat64 z 0\nfloat64 w 1\n",
    }
    assert differs(TRACKED, recorded(changes)) is None
    assert differs(TRACKED, recorded({}, without="builtin_interfaces/Time")) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("geometry_msgs/Point", "float32 x\nfloat32 y\nfloat32 z\n"),
        ("geometry_msgs/Point", "float64 y\nfloat64 x\nfloat64 z\n"),
        ("geometry_msgs/Vector3", "float64 x\nfloat64 y\n"),
        ("unique_identifier_msgs/UUID", "uint8[] uuid\n"),
        ("autoware_perception_msgs/Shape", "uint8 type\n"),
        ("std_msgs/Header", "uint32 seq\nbuiltin_interfaces/Time stamp\nstring frame_id\n"),
    ],
)
def test_other_fields_are_noticed(name: str, text: str) -> None:
    assert differs(TRACKED, recorded({name: text})) == name
    assert differs(TRACKED, recorded({}, without=name)) == name


@pytest.mark.parametrize("version", ["ROS2_HUMBLE", "ROS2_JAZZY"])
def test_the_definitions_of_ros_are_those_of_another_library(version: str) -> None:
    store = get_typestore(Stores[version])
    for kind in (ODOMETRY, OCCUPANCY):
        assert differs(kind, store.generate_msgdef(kind, ros_version=2)[0]) is None


def filled(store: Any, kind: str, chance: np.random.Generator, frame: str) -> Any:
    """A message of random values, two of each sequence."""
    values: dict[str, Any] = {}
    for name, (node, of) in store.fielddefs[kind][1]:
        values[name] = _value(store, node, of, chance, frame)
    return store.types[kind](**values)


def _value(store: Any, node: int, of: Any, chance: np.random.Generator, frame: str) -> Any:
    if node == Nodetype.BASE:
        return _number(of[0], chance, frame)
    if node == Nodetype.NAME:
        return filled(store, of, chance, frame)
    (inner_node, inner), count = of
    count = count or 2
    if inner_node == Nodetype.NAME:
        return [filled(store, inner, chance, frame) for _ in range(count)]
    return np.array([_number(inner[0], chance, frame) for _ in range(count)], inner[0])


def _number(base: str, chance: np.random.Generator, frame: str) -> Any:
    if base == "string":
        return frame
    if base == "bool":
        return True
    if base.startswith("float"):
        return float(np.float32(chance.normal()))
    return int(chance.integers(0, 100))


def ours_plain(value: Any, name: str = "") -> Any:
    """A message that we decoded as dictionaries, lists and numbers."""
    if isinstance(value, bytes):
        return np.frombuffer(value, "<f8" if name == "covariance" else np.uint8).tolist()
    if isinstance(value, list):
        return [ours_plain(one) for one in value]
    if hasattr(value, "__slots__"):
        return {name: ours_plain(getattr(value, name), name) for name in value.__slots__}
    return value


def theirs_plain(value: Any) -> Any:
    """The same of a message of the other library."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [theirs_plain(one) for one in value]
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.name != "__msgtype__"]
        return {name: theirs_plain(getattr(value, name)) for name in names}
    return value


@pytest.mark.parametrize("frame", ["", "map", "base_link", "odometry"])
@pytest.mark.parametrize("kind", [TRACKED, DETECTED, PREDICTED, ODOMETRY, OCCUPANCY])
def test_bytes_that_another_library_writes_are_read_as_it_means_them(kind: str, frame: str) -> None:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition(kind), kind))
    theirs = filled(store, kind, np.random.default_rng(len(frame)), frame)
    ours = decoder(kind)(bytes(store.serialize_cdr(theirs, kind)))
    assert ours_plain(ours) == theirs_plain(theirs)
    assert ours.header.frame_id == frame
