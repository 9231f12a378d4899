"""The labels of every source, and the classes that these become.

``vehicle``, ``pedestrian`` and ``cyclist`` (two-wheelers with their riders) are the classes of
default stores. ``cone`` and ``barrier`` have one name for all sources. Labels that the table does
not have keep their own name in lower case, so that ``--classes vehicle,animal`` can ask for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from data_tools import py123d_labels

CLASSES: dict[str, dict[str, str]] = {
    "nuscenes": {
        "human.pedestrian.adult": "pedestrian",
        "human.pedestrian.child": "pedestrian",
        "human.pedestrian.construction_worker": "pedestrian",
        "human.pedestrian.personal_mobility": "pedestrian",
        "human.pedestrian.police_officer": "pedestrian",
        "human.pedestrian.stroller": "pedestrian",
        "human.pedestrian.wheelchair": "pedestrian",
        "movable_object.barrier": "barrier",
        "movable_object.trafficcone": "cone",
        "vehicle.bicycle": "cyclist",
        "vehicle.bus.bendy": "vehicle",
        "vehicle.bus.rigid": "vehicle",
        "vehicle.car": "vehicle",
        "vehicle.construction": "vehicle",
        "vehicle.emergency.ambulance": "vehicle",
        "vehicle.emergency.police": "vehicle",
        "vehicle.motorcycle": "cyclist",
        "vehicle.trailer": "vehicle",
        "vehicle.truck": "vehicle",
    },
    # Bicycles, motorcycles and tricycles are one category there.
    "nuplan": {"bicycle": "cyclist", "ego": "vehicle", "traffic_cone": "cone"},
    # Riders have boxes of their own beside those of what they ride: bicycles, motorcycles and
    # wheeled devices stay apart, or every cyclist would be two.
    "argoverse2-sensor": {
        "ARTICULATED_BUS": "vehicle",
        "BICYCLIST": "cyclist",
        "BOX_TRUCK": "vehicle",
        "BUS": "vehicle",
        "CONSTRUCTION_CONE": "cone",
        "EGO_VEHICLE": "vehicle",
        "LARGE_VEHICLE": "vehicle",
        "MESSAGE_BOARD_TRAILER": "vehicle",
        "MOTORCYCLIST": "cyclist",
        "OFFICIAL_SIGNALER": "pedestrian",
        "PEDESTRIAN": "pedestrian",
        "RAILED_VEHICLE": "vehicle",
        "REGULAR_VEHICLE": "vehicle",
        "SCHOOL_BUS": "vehicle",
        "STROLLER": "pedestrian",
        "TRAFFIC_LIGHT_TRAILER": "vehicle",
        "TRUCK": "vehicle",
        "TRUCK_CAB": "vehicle",
        "VEHICULAR_TRAILER": "vehicle",
        "WHEELCHAIR": "pedestrian",
        "WHEELED_RIDER": "cyclist",
    },
    "argoverse2-motion": {"bus": "vehicle", "motorcyclist": "cyclist"},
    "waymo-motion": {
        "TYPE_CYCLIST": "cyclist",
        "TYPE_OTHER": "other",
        "TYPE_PEDESTRIAN": "pedestrian",
        "TYPE_VEHICLE": "vehicle",
    },
    "waymo-perception": {
        "TYPE_CYCLIST": "cyclist",
        "TYPE_PEDESTRIAN": "pedestrian",
        "TYPE_SIGN": "sign",
        "TYPE_UNKNOWN": "unknown",
        "TYPE_VEHICLE": "vehicle",
    },
    "lyft-l5": {
        "EGO": "vehicle",
        "PERCEPTION_LABEL_BICYCLE": "cyclist",
        "PERCEPTION_LABEL_BICYCLIST": "cyclist",
        "PERCEPTION_LABEL_BUS": "vehicle",
        "PERCEPTION_LABEL_CAR": "vehicle",
        "PERCEPTION_LABEL_CYCLIST": "cyclist",
        "PERCEPTION_LABEL_EMERGENCY_VEHICLE": "vehicle",
        "PERCEPTION_LABEL_MOTORCYCLE": "cyclist",
        "PERCEPTION_LABEL_MOTORCYCLIST": "cyclist",
        "PERCEPTION_LABEL_OTHER_VEHICLE": "vehicle",
        "PERCEPTION_LABEL_PEDESTRIAN": "pedestrian",
        "PERCEPTION_LABEL_TRAM": "vehicle",
        "PERCEPTION_LABEL_TRUCK": "vehicle",
        "PERCEPTION_LABEL_UNKNOWN": "unknown",
        "PERCEPTION_LABEL_VAN": "vehicle",
    },
    "kitti-tracking": {
        "Car": "vehicle",
        "Person": "pedestrian",
        "Person_sitting": "pedestrian",
        "Tram": "vehicle",
        "Truck": "vehicle",
        "Van": "vehicle",
    },
    # Static obstacles are parkedVehicle, constructionZone, roadBoundary or unknown.
    "commonroad": {
        "bicycle": "cyclist",
        "bus": "vehicle",
        "car": "vehicle",
        "motorcycle": "cyclist",
        "parkedVehicle": "vehicle",
        "priorityVehicle": "vehicle",
        "taxi": "vehicle",
        "train": "vehicle",
        "truck": "vehicle",
    },
    "py123d": py123d_labels.CLASSES,
    # Autoware's; UNKNOWN, ANIMAL, HAZARD and others keep their names.
    "mcap": {
        "BICYCLE": "cyclist",
        "BUS": "vehicle",
        "CAR": "vehicle",
        "MOTORCYCLE": "cyclist",
        "TRAILER": "vehicle",
        "TRUCK": "vehicle",
    },
    "scenarionet": {"TRAFFIC_BARRIER": "barrier", "TRAFFIC_CONE": "cone"},
    # The usual names, for a table of one's own.
    "tracks": {
        "bicycle": "cyclist",
        "bicyclist": "cyclist",
        "bike": "cyclist",
        "bus": "vehicle",
        "car": "vehicle",
        "motorbike": "cyclist",
        "motorcycle": "cyclist",
        "motorcyclist": "cyclist",
        "person": "pedestrian",
        "trailer": "vehicle",
        "tram": "vehicle",
        "truck": "vehicle",
        "van": "vehicle",
    },
}

# Length and width where a recording gives none, metres.
TYPICAL_SIZE_M = {
    "vehicle": (4.7, 2.0),
    "car": (4.7, 1.9),
    "van": (5.5, 2.1),
    "truck": (8.5, 2.5),
    "bus": (12.0, 2.6),
    "trailer": (10.0, 2.5),
    "motorcycle": (2.2, 0.9),
    "bicycle": (1.8, 0.7),
    "riderless_bicycle": (1.8, 0.7),
    "cyclist": (1.8, 0.8),
    "motorcyclist": (2.2, 0.9),
    "pedestrian": (0.8, 0.8),
}


def class_of(
    source: str,
    native: str,
    overrides: Iterable[tuple[str, str]] = (),
    classes: Iterable[str] = (),
) -> str:
    """The class of an agent.

    Args:
        source: Name of the source; one without a table (``sumo``) uses our names.
        native: What the source calls it.
        overrides: The user's own pairs of native label (in whatever case) and class; the last
            one that fits wins over the table.
        classes: The classes wanted; a label that is one of them stays what it is.

    Returns:
        The class; the native label in lower case where nothing says anything.
    """
    name = native.lower()
    return _named(source, tuple(overrides), tuple(classes)).get(name, name)


def usual_class(native: str, overrides: Iterable[tuple[str, str]] = ()) -> str:
    """The class that an agent counts as while a table or bag of tracks is read.

    Args:
        native: What the recording calls it.
        overrides: As :func:`class_of` has them. A class of the user's own, such as ``bus``, is what
            its name usually means: it moves like a vehicle.
    """
    return class_of("tracks", class_of("tracks", native, overrides))


@lru_cache(maxsize=32)
def _named(
    source: str, overrides: tuple[tuple[str, str], ...], classes: tuple[str, ...]
) -> dict[str, str]:
    """The class of each label, in lower case, of which something is said."""
    chosen, table = _in_lower_case(overrides), _in_lower_case(CLASSES.get(source, {}).items())
    own = {wanted.lower(): wanted.lower() for wanted in classes}
    return table | own | chosen


def is_known(source: str, native: str) -> bool:
    """Whether a label, in whatever case, is in the table of its source or has a typical size."""
    name = native.lower()
    return name in TYPICAL_SIZE_M or name in _in_lower_case(CLASSES.get(source, {}).items())


def _in_lower_case(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {label.lower(): name for label, name in labels}
