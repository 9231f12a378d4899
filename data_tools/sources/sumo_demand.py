"""Random road users for a SUMO network: vehicles of many makes and drivers, walkers, parking."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.sources.sumo_network import PARKING_WIDTH_M, Lane, Network


@dataclass(frozen=True)
class Body:
    """Class and size of one road user."""

    kind: str
    length_m: float
    width_m: float


@dataclass(frozen=True)
class _Habits:
    """Where people drive in one network: how straight on, and how much along fast roads."""

    onward: float
    busy: float


@dataclass(frozen=True)
class Make:
    """One kind of vehicle: its share of the traffic, size (mean, deviation) and driving."""

    vclass: str
    kind: str
    share: float
    length_m: tuple[float, float]
    width_m: tuple[float, float]
    max_speed: float
    accel: float
    decel: float


MAKES = (
    Make("passenger", "vehicle", 0.82, (4.75, 0.35), (2.0, 0.1), 50.0, 1.7, 2.3),
    Make("delivery", "vehicle", 0.06, (6.2, 0.5), (2.3, 0.1), 40.0, 1.5, 2.5),
    Make("truck", "vehicle", 0.03, (9.0, 1.2), (2.5, 0.05), 30.0, 1.0, 2.2),
    Make("bus", "vehicle", 0.02, (12.0, 0.5), (2.6, 0.05), 25.0, 1.0, 2.0),
    Make("motorcycle", "cyclist", 0.02, (2.2, 0.1), (0.9, 0.05), 40.0, 2.5, 3.5),
    Make("bicycle", "cyclist", 0.05, (1.85, 0.1), (0.8, 0.05), 6.0, 0.9, 2.0),
)

# Log of how much likelier a trip straight on is than one to the side: least and most of a network.
ONWARD = (1.5, 4.5)
# Power of a road's speed limit by which more vehicles travel there: likewise.
BUSY = (0.0, 2.5)


def write_demand(
    network: Network, path: Path, until_s: float, rng: np.random.Generator
) -> dict[str, Body]:
    """Writes SUMO's routes file and returns the size of every road user in it.

    Vehicles start anywhere while the network fills, later at its rim only, and leave at its rim,
    so that few appear or vanish in the middle of a street.

    Args:
        network: Where they travel.
        path: The routes file to write.
        until_s: Length of the simulation, seconds.
        rng: Draws everything.
    """
    root = ET.Element("routes")
    bodies: dict[str, Body] = {}
    departures: list[tuple[float, ET.Element]] = []
    driven = network.edges("drive")
    habits = _Habits(rng.uniform(*ONWARD), rng.uniform(*BUSY))
    for number in range(_vehicle_count(driven, rng)):
        name = f"v{number}"
        bodies[name] = _add_vehicle_type(root, name, rng)
        departures.append(_trip(name, driven, habits, until_s, rng))
    walked = network.edges("sidewalk")
    metres = sum(lane.length_m for lane in walked.values())
    for number in range(int(metres * rng.uniform(0.004, 0.03))):
        name = f"p{number}"
        size = float(np.clip(rng.normal(0.85, 0.12), 0.5, 1.3))
        bodies[name] = Body("pedestrian", size, float(np.clip(rng.normal(0.8, 0.1), 0.5, 1.2)))
        speed = float(np.clip(rng.normal(1.35, 0.25), 0.6, 2.2))
        ET.SubElement(root, "vType", id=name, vClass="pedestrian", maxSpeed=f"{speed:.2f}")
        departures.append(_walk(name, list(walked), until_s, rng))
    root.extend(item for _, item in sorted(departures, key=lambda pair: pair[0]))
    ET.ElementTree(root).write(path)
    return bodies


def park_cars(
    network: Network, rng: np.random.Generator
) -> tuple[dict[str, Body], NDArray[np.float64]]:
    """Still cars in the parking lanes.

    Returns:
        Their bodies, and ``(n, 3)`` x, y, yaw of their centres.
    """
    bodies: dict[str, Body] = {}
    poses = []
    full = rng.uniform(0.2, 0.85)
    for lane in network.edges("parking").values():
        ahead = rng.uniform(2.0, 8.0)
        while ahead < lane.length_m - 7.0:
            body = _parked_body(rng)
            if rng.random() < full:
                bodies[f"s{len(bodies)}"] = body
                poses.append(_parked_pose(lane, ahead + body.length_m / 2, body, rng))
            ahead += body.length_m + rng.uniform(0.7, 2.0)
    return bodies, np.array(poses).reshape(-1, 3)


def _vehicle_count(driven: Mapping[str, Lane], rng: np.random.Generator) -> int:
    metres = sum(lane.length_m for lane in driven.values())
    return int(metres * rng.uniform(0.01, 0.035))


def _add_vehicle_type(root: ET.Element, name: str, rng: np.random.Generator) -> Body:
    make = MAKES[int(rng.choice(len(MAKES), p=[item.share for item in MAKES]))]
    mean, deviation = make.length_m
    length = float(np.clip(rng.normal(mean, deviation), mean - 2 * deviation, mean + 3 * deviation))
    width = float(rng.normal(*make.width_m))
    # Each driver keeps a lateral offset in the lane; two-wheelers ride to the right.
    aside = rng.normal(0.0, 0.2) if make.kind == "vehicle" else rng.uniform(-1.0, -0.4)
    driver = {
        "carFollowModel": str(rng.choice(["EIDM", "IDM", "Krauss"])),
        "speedFactor": f"{np.clip(rng.normal(1.0, 0.12), 0.65, 1.35):.3f}",
        "accel": f"{make.accel * rng.uniform(0.5, 1.2):.2f}",
        "decel": f"{make.decel * rng.uniform(0.5, 1.2):.2f}",
        "tau": f"{rng.uniform(0.9, 1.8):.2f}",
        "minGap": f"{rng.uniform(1.2, 3.0):.2f}",
        "sigma": f"{rng.uniform(0.0, 0.5):.2f}",
        "lcStrategic": f"{rng.uniform(0.5, 2.0):.2f}",
        "lcSpeedGain": f"{rng.uniform(0.2, 1.5):.2f}",
        "maxSpeedLat": f"{rng.uniform(0.5, 1.2):.2f}",
        "latAlignment": f"{np.clip(aside, -1.0, 1.0):.2f}",
    }
    if driver["carFollowModel"] == "Krauss":
        driver["sigmaStep"] = "1.0"
    ET.SubElement(
        root,
        "vType",
        {"id": name, "vClass": make.vclass, "maxSpeed": f"{make.max_speed:.1f}", **driver},
        length=f"{length:.2f}",
        width=f"{width:.2f}",
    )
    return Body(make.kind, round(length, 2), round(width, 2))


def _trip(
    name: str,
    driven: Mapping[str, Lane],
    habits: _Habits,
    until_s: float,
    rng: np.random.Generator,
) -> tuple[float, ET.Element]:
    edges = list(driven)
    ends = np.array([driven[edge].points[[0, -1]] for edge in edges])
    reach = np.linalg.norm(ends - ends.mean(axis=(0, 1)), axis=-1)
    inward, outward = reach[:, 0] - reach[:, 1], reach[:, 1] - reach[:, 0]
    rim = np.quantile(reach, 0.75)
    leaving = np.flatnonzero((reach[:, 1] >= rim) & (outward > 0))
    entering = np.flatnonzero((reach[:, 0] >= rim) & (inward > 0))
    filling = rng.random() < 0.65
    depart = rng.uniform(0.0, 25.0 if filling else until_s)
    busy = np.array([driven[edge].limit_m_s for edge in edges]) ** habits.busy
    there = np.arange(len(edges)) if filling else entering
    start = rng.choice(there, p=busy[there] / busy[there].sum())
    trip = {
        "id": name,
        "type": name,
        "depart": f"{depart:.1f}",
        "from": edges[start],
        "to": edges[
            rng.choice(
                leaving, p=_likely(ends[start], ends[leaving, 1], habits.onward, busy[leaving])
            )
        ],
        "departLane": "best",
        "departPos": "random" if filling else "base",
        "departSpeed": "avg",
        "arrivalPos": "max",
    }
    return depart, ET.Element("trip", trip)


def _likely(
    start: NDArray[np.float64],
    ends: NDArray[np.float64],
    onward: float,
    busy: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How likely a trip is to each end: most traffic goes straight on.

    Args:
        start: ``(2, 2)`` first and last point of the edge that it begins on.
        ends: ``(n, 2)`` where it may go.
        onward: Log of how much likelier a trip straight on is than one to the side.
        busy: ``(n,)`` share of the traffic on each.
    """
    course, way = start[1] - start[0], ends - start[1]
    far = np.linalg.norm(way, axis=-1) * np.linalg.norm(course)
    likely = busy * np.exp(onward * (way @ course) / np.maximum(far, 1e-6))
    share: NDArray[np.float64] = likely / likely.sum()
    return share


def _walk(
    name: str, walked: list[str], until_s: float, rng: np.random.Generator
) -> tuple[float, ET.Element]:
    depart = rng.uniform(0.0, 0.8 * until_s)
    person = ET.Element("person", id=name, type=name, depart=f"{depart:.1f}", departPos="random")
    start, stop = rng.choice(len(walked), size=2)
    ET.SubElement(person, "walk", {"from": walked[start], "to": walked[stop]})
    return depart, person


def _parked_body(rng: np.random.Generator) -> Body:
    length = float(np.clip(rng.normal(4.7, 0.4), 3.7, 6.5))
    return Body("vehicle", round(length, 2), round(float(rng.normal(1.95, 0.08)), 2))


def _parked_pose(
    lane: Lane, ahead_m: float, body: Body, rng: np.random.Generator
) -> tuple[float, float, float]:
    steps = np.diff(lane.points, axis=0)
    reached = np.append(0.0, np.linalg.norm(steps, axis=1).cumsum())
    x, y = (np.interp(ahead_m, reached, lane.points[:, axis]) for axis in (0, 1))
    step = steps[min(int(np.searchsorted(reached, ahead_m)) - 1, len(steps) - 1)]
    yaw = float(np.arctan2(step[1], step[0]))
    aside = rng.normal(0.0, 0.1) - 0.2 * (PARKING_WIDTH_M - body.width_m)
    yaw_parked = yaw + rng.normal(0.0, 0.025)
    return float(x - aside * np.sin(yaw)), float(y + aside * np.cos(yaw)), float(yaw_parked)
