"""The labels of py123d's logs, by the class that their numbers belong to, and what they become.

Every data set has its own list there; a label is told from those of others by the list's name. As
of version 0.7.0. Where riders have boxes of their own, what they ride stays apart, as in
:mod:`data_tools.classes`.
"""

from __future__ import annotations

ENDING = "BoxDetectionLabel"  # of the names of lists
# Each list: its name, then its labels in the order of their numbers, ``LABEL=class`` for ours.
_LISTS = """
Default EGO=vehicle VEHICLE=vehicle TRAIN=vehicle TWO_WHEELER=cyclist PERSON=pedestrian ANIMAL
 TRAFFIC_SIGN TRAFFIC_CONE=cone TRAFFIC_LIGHT BARRIER=barrier GENERIC_OBJECT OTHER
AV2Sensor ANIMAL ARTICULATED_BUS=vehicle BICYCLE BICYCLIST=cyclist BOLLARD BOX_TRUCK=vehicle
 BUS=vehicle CONSTRUCTION_BARREL CONSTRUCTION_CONE=cone DOG LARGE_VEHICLE=vehicle
 MESSAGE_BOARD_TRAILER=vehicle MOBILE_PEDESTRIAN_CROSSING_SIGN MOTORCYCLE MOTORCYCLIST=cyclist
 OFFICIAL_SIGNALER=pedestrian PEDESTRIAN=pedestrian RAILED_VEHICLE=vehicle REGULAR_VEHICLE=vehicle
 SCHOOL_BUS=vehicle SIGN STOP_SIGN STROLLER=pedestrian TRAFFIC_LIGHT_TRAILER=vehicle TRUCK=vehicle
 TRUCK_CAB=vehicle VEHICULAR_TRAILER=vehicle WHEELCHAIR=pedestrian WHEELED_DEVICE
 WHEELED_RIDER=cyclist
KITTI360 BICYCLE BOX BUS=vehicle CAR=vehicle CARAVAN=vehicle LAMP MOTORCYCLE PERSON=pedestrian POLE
 RIDER=cyclist SMALLPOLE STOP TRAFFIC_LIGHT TRAFFIC_SIGN TRAILER=vehicle TRAIN=vehicle TRASH_BIN
 TRUCK=vehicle VENDING_MACHINE
NuPlan VEHICLE=vehicle BICYCLE=cyclist PEDESTRIAN=pedestrian TRAFFIC_CONE=cone BARRIER=barrier
 CZONE_SIGN GENERIC_OBJECT
Nureasoning VEHICLE_CAR=vehicle VEHICLE_PERSONAL_MOBILITY_BYCICLE=cyclist HUMAN=pedestrian
 OTHER_TRAFFICCONE=cone OTHER_TEMPORARY_TRAFFICSIGN OTHER_OTHER VEHICLE_DOOR VEHICLE_TRUCK=vehicle
 VEHICLE_BUS=vehicle VEHICLE_MOTORCYCLE=cyclist VEHICLE_BICYCLE=cyclist HUMAN_PEDESTRIAN=pedestrian
 CONSTRUCTION_TRAFFIC_CONE=cone
NuScenes VEHICLE_CAR=vehicle VEHICLE_TRUCK=vehicle VEHICLE_BUS_BENDY=vehicle
 VEHICLE_BUS_RIGID=vehicle VEHICLE_CONSTRUCTION=vehicle VEHICLE_EMERGENCY_AMBULANCE=vehicle
 VEHICLE_EMERGENCY_POLICE=vehicle VEHICLE_TRAILER=vehicle VEHICLE_BICYCLE=cyclist
 VEHICLE_MOTORCYCLE=cyclist HUMAN_PEDESTRIAN_ADULT=pedestrian HUMAN_PEDESTRIAN_CHILD=pedestrian
 HUMAN_PEDESTRIAN_CONSTRUCTION_WORKER=pedestrian HUMAN_PEDESTRIAN_PERSONAL_MOBILITY=pedestrian
 HUMAN_PEDESTRIAN_POLICE_OFFICER=pedestrian HUMAN_PEDESTRIAN_STROLLER=pedestrian
 HUMAN_PEDESTRIAN_WHEELCHAIR=pedestrian MOVABLE_OBJECT_TRAFFICCONE=cone
 MOVABLE_OBJECT_BARRIER=barrier MOVABLE_OBJECT_PUSHABLE_PULLABLE MOVABLE_OBJECT_DEBRIS
 STATIC_OBJECT_BICYCLE_RACK ANIMAL
Pandaset ANIMALS_BIRD ANIMALS_OTHER BICYCLE=cyclist BUS=vehicle CAR=vehicle CONES=cone
 CONSTRUCTION_SIGNS EMERGENCY_VEHICLE=vehicle MEDIUM_SIZED_TRUCK=vehicle MOTORCYCLE=cyclist
 MOTORIZED_SCOOTER=cyclist OTHER_VEHICLE_CONSTRUCTION_VEHICLE=vehicle OTHER_VEHICLE_PEDICAB=vehicle
 OTHER_VEHICLE_UNCOMMON=vehicle PEDESTRIAN=pedestrian PEDESTRIAN_WITH_OBJECT=pedestrian
 PERSONAL_MOBILITY_DEVICE PICKUP_TRUCK=vehicle PYLONS=cone ROAD_BARRIERS=barrier
 ROLLING_CONTAINERS SEMI_TRUCK=vehicle SIGNS TEMPORARY_CONSTRUCTION_BARRIERS=barrier
 TOWED_OBJECT=vehicle TRAIN=vehicle TRAM_SUBWAY=vehicle
WODPerception TYPE_UNKNOWN TYPE_VEHICLE=vehicle TYPE_PEDESTRIAN=pedestrian TYPE_SIGN
 TYPE_CYCLIST=cyclist
WODMotion TYPE_UNSET TYPE_VEHICLE=vehicle TYPE_PEDESTRIAN=pedestrian TYPE_CYCLIST=cyclist TYPE_OTHER
PhysicalAIAV AUTOMOBILE=vehicle PERSON=pedestrian BUS=vehicle HEAVY_TRUCK=vehicle
 OTHER_VEHICLE=vehicle PROTRUDING_OBJECT RIDER=cyclist STROLLER=pedestrian TRAILER=vehicle ANIMAL
 TRAIN_OR_TRAM_CAR=vehicle TROLLEY_BUS=vehicle
Griffin PEDESTRIAN=pedestrian CAR=vehicle TRUCK=vehicle BUS=vehicle MOTORCYCLE=cyclist
 BICYCLE=cyclist
"""


def _parsed() -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    labels: dict[str, tuple[str, ...]] = {}
    classes: dict[str, str] = {}
    for line in _LISTS.replace("\n ", " ").strip().splitlines():
        name, *words = line.split()
        pairs = [word.partition("=") for word in words]
        labels[name] = tuple(f"{name}.{label}" for label, _, _ in pairs)
        classes |= {f"{name}.{label}": ours for label, _, ours in pairs if ours}
    return labels, classes


LABELS, CLASSES = _parsed()


def native_labels(list_name: str) -> tuple[str, ...]:
    """Labels by number, such as ``NuPlan.VEHICLE``; none of a list that is not known.

    Args:
        list_name: As logs have it, with the path of its module: ``...NuPlanBoxDetectionLabel``.
    """
    return LABELS.get(short_name(list_name), ())


def short_name(list_name: str) -> str:
    """The name of a list without its module and ending."""
    return list_name.rpartition(".")[2].removesuffix(ENDING)
