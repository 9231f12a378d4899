"""The part of Waymo's ``Scenario`` message that is read, as a schema built when first imported.

Names and numbers of the fields are those of the Waymo Open Dataset's ``scenario.proto`` and
``map.proto``. Fields not named here are skipped by the parser, so later versions still load.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

LANE_TYPES = ("undefined", "freeway", "surface_street", "bike_lane")
OBJECT_TYPES = ("TYPE_UNSET", "TYPE_VEHICLE", "TYPE_PEDESTRIAN", "TYPE_CYCLIST", "TYPE_OTHER")

_PACKAGE = "forecast.waymo"
# message: field: (number, type), "*" for repeated. Enumerations travel as int32.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ObjectState": {
        "center_x": (2, "double"),
        "center_y": (3, "double"),
        "length": (5, "float"),
        "width": (6, "float"),
        "heading": (8, "float"),
        "valid": (11, "bool"),
    },
    "Track": {"id": (1, "int32"), "object_type": (2, "int32"), "states": (3, "ObjectState*")},
    "MapPoint": {"x": (1, "double"), "y": (2, "double")},
    "LaneCenter": {"type": (2, "int32"), "polyline": (8, "MapPoint*")},
    "RoadEdge": {"type": (1, "int32"), "polyline": (2, "MapPoint*")},
    "Crosswalk": {"polygon": (1, "MapPoint*")},
    "MapFeature": {
        "id": (1, "int64"),
        "lane": (3, "LaneCenter"),
        "road_edge": (5, "RoadEdge"),
        "crosswalk": (8, "Crosswalk"),
    },
    "Scenario": {
        "timestamps_seconds": (1, "double*"),
        "tracks": (2, "Track*"),
        "scenario_id": (5, "bytes"),
        "sdc_track_index": (6, "int32"),
        "map_features": (8, "MapFeature*"),
    },
}


def _schema() -> FileDescriptorProto:
    file = FileDescriptorProto(name="forecast/waymo.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            field = made.field.add(name=name, number=number)
            repeated, kind = kind.endswith("*"), kind.removesuffix("*")
            field.label = (
                FieldDescriptorProto.LABEL_REPEATED
                if repeated
                else FieldDescriptorProto.LABEL_OPTIONAL
            )
            if kind in _MESSAGES:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    return file


def _message_class() -> Any:
    pool = descriptor_pool.DescriptorPool()  # one of our own: other programs' names do not clash
    pool.Add(_schema())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Scenario"))


Scenario: Any = _message_class()
