"""The ROS 2 messages that bags are read and written with, as text, and their definitions in bags.

Field by field as in autoware_perception_msgs 1.12 (github.com/autowarefoundation/autoware_msgs,
Apache-2.0) and ROS 2 Humble to Jazzy (common_interfaces, unique_identifier_msgs). Comments and
constants are left out: neither is in the bytes of a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from forecast.errors import ConfigError

TRACKED = "autoware_perception_msgs/msg/TrackedObjects"
DETECTED = "autoware_perception_msgs/msg/DetectedObjects"
PREDICTED = "autoware_perception_msgs/msg/PredictedObjects"
ODOMETRY = "nav_msgs/msg/Odometry"
OCCUPANCY = "nav_msgs/msg/OccupancyGrid"

# ObjectClassification.label, Shape.type and orientation_availability.
LABELS = (
    *("UNKNOWN", "CAR", "TRUCK", "BUS", "TRAILER", "MOTORCYCLE", "BICYCLE", "PEDESTRIAN"),
    *("ANIMAL", "HAZARD", "OVER_DRIVABLE", "UNDER_DRIVABLE"),
)
BOUNDING_BOX, CYLINDER, POLYGON = range(3)
YAW_UNAVAILABLE, YAW_SIGN_UNKNOWN, YAW_AVAILABLE = range(3)

_FIELDS: dict[str, str] = {
    "autoware_perception_msgs/TrackedObjects": "std_msgs/Header header; TrackedObject[] objects",
    "autoware_perception_msgs/TrackedObject": "unique_identifier_msgs/UUID object_id;"
    "float32 existence_probability; ObjectClassification[] classification;"
    "TrackedObjectKinematics kinematics; Shape shape",
    "autoware_perception_msgs/TrackedObjectKinematics": "geometry_msgs/PoseWithCovariance"
    " pose_with_covariance; geometry_msgs/TwistWithCovariance twist_with_covariance;"
    "geometry_msgs/AccelWithCovariance acceleration_with_covariance;"
    "uint8 orientation_availability; bool is_stationary",
    "autoware_perception_msgs/DetectedObjects": "std_msgs/Header header; DetectedObject[] objects",
    "autoware_perception_msgs/DetectedObject": "float32 existence_probability;"
    "ObjectClassification[] classification; DetectedObjectKinematics kinematics; Shape shape",
    "autoware_perception_msgs/DetectedObjectKinematics": "geometry_msgs/PoseWithCovariance"
    " pose_with_covariance; bool has_position_covariance; uint8 orientation_availability;"
    "geometry_msgs/TwistWithCovariance twist_with_covariance; bool has_twist;"
    "bool has_twist_covariance",
    "autoware_perception_msgs/PredictedObjects": "std_msgs/Header header;PredictedObject[] objects",
    "autoware_perception_msgs/PredictedObject": "unique_identifier_msgs/UUID object_id;"
    "float32 existence_probability; ObjectClassification[] classification;"
    "PredictedObjectKinematics kinematics; Shape shape",
    "autoware_perception_msgs/PredictedObjectKinematics": "geometry_msgs/PoseWithCovariance"
    " initial_pose_with_covariance; geometry_msgs/TwistWithCovariance"
    " initial_twist_with_covariance; geometry_msgs/AccelWithCovariance"
    " initial_acceleration_with_covariance; PredictedPath[] predicted_paths",
    "autoware_perception_msgs/PredictedPath": "geometry_msgs/Pose[] path;"
    "builtin_interfaces/Duration time_step; float32 confidence",
    "autoware_perception_msgs/ObjectClassification": "uint8 label; float32 probability",
    "autoware_perception_msgs/Shape": "uint8 type; geometry_msgs/Polygon footprint;"
    "geometry_msgs/Vector3 dimensions",
    "nav_msgs/Odometry": "std_msgs/Header header; string child_frame_id;"
    "geometry_msgs/PoseWithCovariance pose; geometry_msgs/TwistWithCovariance twist",
    "nav_msgs/OccupancyGrid": "std_msgs/Header header; MapMetaData info; int8[] data",
    "nav_msgs/MapMetaData": "builtin_interfaces/Time map_load_time; float32 resolution;"
    "uint32 width; uint32 height; geometry_msgs/Pose origin",
    "std_msgs/Header": "builtin_interfaces/Time stamp; string frame_id",
    "unique_identifier_msgs/UUID": "uint8[16] uuid",
    "geometry_msgs/PoseWithCovariance": "Pose pose; float64[36] covariance",
    "geometry_msgs/TwistWithCovariance": "Twist twist; float64[36] covariance",
    "geometry_msgs/AccelWithCovariance": "Accel accel; float64[36] covariance",
    "geometry_msgs/Pose": "Point position; Quaternion orientation",
    "geometry_msgs/Twist": "Vector3 linear; Vector3 angular",
    "geometry_msgs/Accel": "Vector3 linear; Vector3 angular",
    "geometry_msgs/Polygon": "Point32[] points",
    "geometry_msgs/Point": "float64 x; float64 y; float64 z",
    "geometry_msgs/Point32": "float32 x; float32 y; float32 z",
    "geometry_msgs/Vector3": "float64 x; float64 y; float64 z",
    "geometry_msgs/Quaternion": "float64 x; float64 y; float64 z; float64 w",
    "builtin_interfaces/Time": "int32 sec; uint32 nanosec",
    "builtin_interfaces/Duration": "int32 sec; uint32 nanosec",
}
_SEPARATOR = "=" * 80


def refuse_missing_packages() -> None:
    """Refuses to go on without the packages that read and write bags.

    Raises:
        ConfigError: One of them is not installed.
    """
    missing = [name for name in ("mcap", "mcap_ros2") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "the packages mcap and mcap-ros2-support",
            f"no {' and no '.join(missing)}",
            "install the extra: pip install 'bev-forecast[ros]'",
        )


def definition(name: str) -> str:
    """The text that a bag keeps of a message: its fields, then those of each type in it.

    Args:
        name: One of the constants of this module, ``package/msg/Type``.
    """
    first, *others = _types_in(name.replace("/msg/", "/"))
    parts = ["\n".join(map(" ".join, _ours(first)))]
    parts += [f"MSG: {other}\n" + "\n".join(map(" ".join, _ours(other))) for other in others]
    return f"\n{_SEPARATOR}\n".join(parts) + "\n"


def quick(text: str) -> str:
    """A definition of the same bytes at which Python is quick.

    Covariances are 288 bytes, for they follow numbers of eight, and cells of a grid are ``uint8``.
    """
    text = text.replace("float64[36] covariance", "uint8[288] covariance")
    return text.replace("int8[] data", "uint8[] data")


@lru_cache
def decoder(name: str) -> Callable[[bytes], Any]:
    """What makes a message with attributes of its bytes in a bag (CDR); covariances are bytes."""
    from mcap.records import Schema
    from mcap_ros2.decoder import DecoderFactory

    text = quick(definition(name)).encode()
    made = DecoderFactory().decoder_for(
        "cdr", Schema(id=1, name=name, encoding="ros2msg", data=text)
    )
    assert made is not None
    return made


def differs(name: str, text: str) -> str | None:
    """The first type by which a bag's definition of a message is not ours; None if it is.

    Bytes read by another definition would be wrong numbers.

    Args:
        name: Of the message, ``package/msg/Type``.
        text: What the bag says of it.
    """
    found = _parsed(name.replace("/msg/", "/"), text)
    for kind in _types_in(name.replace("/msg/", "/")):
        if kind.startswith("builtin_interfaces/") and kind not in found:
            continue  # some recorders take them for granted
        if found.get(kind) != _ours(kind):
            return kind
    return None


def _ours(kind: str) -> list[tuple[str, str]]:
    """The fields of a type, ``(type, name)``, types with their packages."""
    return list(_fields(kind, _FIELDS[kind].split(";")))


@lru_cache
def _types_in(name: str) -> tuple[str, ...]:
    """A type and all those within it, each once, in the order in which they are met."""
    found = {name: None}
    for kind, _ in _ours(name):
        if "/" in kind:
            found |= dict.fromkeys(_types_in(re.sub(r"\[.*", "", kind)))
    return tuple(found)


def _parsed(name: str, text: str) -> dict[str, list[tuple[str, str]]]:
    """The fields of all types in a bag's definition."""
    found = {}
    for number, part in enumerate(re.split(r"(?m)^={3,}[ \t]*\r?$", text)):
        lines = [line.split("#")[0].strip() for line in part.splitlines()]
        lines = [line for line in lines if line]
        if number and lines and lines[0].startswith("MSG:"):
            name = lines.pop(0).removeprefix("MSG:").strip().replace("/msg/", "/")
        found[name] = list(_fields(name, lines))
    return found


def _fields(kind: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    """Type and name of each field; types without a package are of that of ``kind``."""
    package = kind.split("/")[0]
    for line in lines:
        words = line.split()
        if len(words) < 2 or _CONSTANT.match(line):
            continue
        of = words[0].replace("/msg/", "/")
        own = "/" not in of and not _PRIMITIVE.match(of)
        yield (f"{package}/{of}" if own else of, words[1])


_CONSTANT = re.compile(r"\S+\s+\w+\s*=")
_PRIMITIVE = re.compile(r"(bool|byte|char|w?string|u?int\d+|float\d+)\b")
