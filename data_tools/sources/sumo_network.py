"""Random street networks for SUMO, and the BEV map drawn from them.

``netgenerate`` lays out the junctions; roads get their class, curvature, parking lanes and
roundabouts here, as plain XML; ``netconvert`` builds lanes, right of way and signals from that.
"""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.polygons import rings
from data_tools.scene import MapElement, MapLayer
from forecast.errors import DataError

LaneKind = Literal["drive", "parking", "sidewalk", "crossing", "corner"]
Points = NDArray[np.float64]

PARKING_WIDTH_M = 2.3
SIDEWALK_WIDTH_M = 2.5


@dataclass(frozen=True)
class RoadClass:
    """What one kind of road looks like: lanes per direction, limit, share with parked cars."""

    lanes: int
    speed_kmh: float
    priority: int
    parking: float


ROAD_CLASSES = (
    RoadClass(lanes=1, speed_kmh=30.0, priority=0, parking=0.9),
    RoadClass(lanes=1, speed_kmh=40.0, priority=1, parking=0.9),
    RoadClass(lanes=1, speed_kmh=50.0, priority=2, parking=0.8),
    RoadClass(lanes=2, speed_kmh=50.0, priority=3, parking=0.6),
    RoadClass(lanes=2, speed_kmh=60.0, priority=4, parking=0.4),
    RoadClass(lanes=3, speed_kmh=70.0, priority=5, parking=0.2),
    RoadClass(lanes=3, speed_kmh=80.0, priority=6, parking=0.0),
    RoadClass(lanes=3, speed_kmh=100.0, priority=7, parking=0.0),
)
CLASS_SHARE = (0.1, 0.2, 0.2, 0.2, 0.15, 0.1, 0.05, 0.0)
# Where junctions lie further apart than this, traffic is mostly fast.
LONG_ROAD_M = 250.0
LONG_ROAD_SHARE = (0.0, 0.03, 0.06, 0.12, 0.14, 0.2, 0.2, 0.25)
# Factors of all speed limits of a network: some quarters are slow throughout.
CALM = (1.0, 1.0, 1.0, 0.75, 0.55)
# Share of networks made without signals, whose larger roads have the right of way.
FLOWING = 0.6


@dataclass(frozen=True)
class Lane:
    """One lane of the built network; ``internal`` lanes lie inside a junction."""

    edge: str
    kind: LaneKind
    points: Points
    width_m: float
    internal: bool
    limit_m_s: float

    @property
    def area(self) -> shapely.Polygon:
        """The strip that the lane covers."""
        strip = shapely.LineString(self.points).buffer(self.width_m / 2, cap_style="flat")
        return max(_polygons(strip), key=lambda part: part.area)

    @property
    def length_m(self) -> float:
        """Length of the centre line, metres."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())


@dataclass(frozen=True)
class Network:
    """A built network: its file for ``sumo``, its lanes, and the outlines of its junctions."""

    path: Path
    lanes: tuple[Lane, ...]
    junctions: tuple[Points, ...]

    def edges(self, kind: LaneKind) -> dict[str, Lane]:
        """One lane of ``kind`` for every edge outside junctions that has it."""
        return {lane.edge: lane for lane in self.lanes if lane.kind == kind and not lane.internal}


def run_tool(name: str, arguments: list[str]) -> None:
    """Runs one of the wheel's SUMO programs.

    Raises:
        DataError: The wheel is not installed, or the program fails.
    """
    try:
        import sumo
    except ImportError as error:
        raise DataError(
            "SUMO", "no package eclipse-sumo", "install the extra: pip install 'bev-forecast[sumo]'"
        ) from error
    command = [str(Path(sumo.SUMO_HOME) / "bin" / name), "-X", "never", "-W", *arguments]
    environment = {**os.environ, "SUMO_HOME": str(sumo.SUMO_HOME)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DataError(f"{name} to start", str(error), "reinstall eclipse-sumo") from error
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no message").splitlines()[0]
        raise DataError(f"{name} to succeed", reason, "report the seed; leave it out meanwhile")


def build_network(folder: Path, seed: int, rng: np.random.Generator) -> Network:
    """Makes a random network of about 400 m x 400 m, or up to 3.9 km along its fast roads.

    Args:
        folder: Where the files go.
        seed: Seed of ``netgenerate``.
        rng: Draws everything else.
    """
    prefix, built = folder / "plain", folder / "net.xml"
    run_tool("netgenerate", [*_layout(rng), "--seed", str(seed), "-p", str(prefix)])
    nodes = ET.parse(f"{prefix}.nod.xml").getroot()
    edges = ET.parse(f"{prefix}.edg.xml").getroot()
    walkable = bool(rng.random() < 0.75)
    plan = _Plan(nodes, edges, walkable, rng)
    plan.add_roundabouts(share=float(rng.choice([0.0, 0.0, 0.15, 0.3])))
    flowing = bool(rng.random() < FLOWING)
    plan.control_junctions(0.0 if flowing else float(rng.choice([0.0, 0.3, 0.6, 1.0])), flowing)
    plan.dress_roads(curved=float(rng.choice([0.0, 0.3, 0.8])))
    ET.ElementTree(nodes).write(folder / "city.nod.xml")
    ET.ElementTree(edges).write(folder / "city.edg.xml")
    options = {
        "-n": folder / "city.nod.xml",
        "-e": folder / "city.edg.xml",
        "-o": built,
        "--no-turnarounds.except-deadend": "true",
        "--default.junctions.radius": f"{rng.uniform(5.0, 10.0):.1f}",
        "--junctions.small-radius": "4.0",
        "--junctions.limit-turn-speed": "3.0",
        "--default.lanewidth": f"{rng.uniform(3.1, 3.6):.2f}",
        "--junctions.internal-link-detail": "12",
        "--junctions.corner-detail": "6",
        "--tls.cycle.time": f"{rng.integers(40, 80)}",
        "--crossings.guess": str(walkable).lower(),
        "--walkingareas": str(walkable).lower(),
    }
    run_tool("netconvert", [str(text) for pair in options.items() for text in pair])
    return read_network(built)


def _layout(rng: np.random.Generator) -> list[str]:
    kind = rng.choice(["grid", "spider", "rand", "avenue"], p=[0.2, 0.1, 0.15, 0.55])
    spacing = float(rng.uniform(90.0, 280.0))
    if kind == "avenue":
        along = f"{rng.uniform(300.0, 1300.0):.1f}"
        columns, rows = (str(count) for count in rng.integers(1, 3, 2))
        return [
            *("--grid", "--grid.x-number", columns, "--grid.y-number", rows),
            *("--grid.x-length", along, "--grid.y-length", f"{spacing:.1f}"),
            *("--grid.x-attach-length", along, "--grid.y-attach-length", f"{spacing:.1f}"),
        ]
    if kind == "grid":
        jitter = f"normc(0,{spacing * 0.12:.1f},{-spacing * 0.25:.1f},{spacing * 0.25:.1f})"
        return [
            *("--grid", "--grid.number", str(rng.integers(3, 5) if spacing < 120.0 else 3)),
            *("--grid.x-length", f"{spacing:.1f}"),
            *("--grid.y-length", f"{rng.uniform(90.0, 280.0):.1f}"),
            *("--grid.attach-length", f"{spacing:.1f}", "--perturb-x", jitter),
            *("--perturb-y", jitter),
        ]
    if kind == "spider":
        return [
            *("--spider", "--spider.arm-number", str(rng.integers(4, 7))),
            *("--spider.circle-number", "2", "--spider.space-radius", f"{spacing:.1f}"),
            *("--spider.attach-length", f"{spacing:.1f}"),
        ]
    return [
        *("--rand", "--rand.iterations", "22", "--rand.min-angle", "60"),
        *("--rand.min-distance", "80", "--rand.max-distance", "180"),
    ]


class _Plan:
    """Edits the plain XML of a network: nodes and one-way edges, before lanes exist."""

    def __init__(
        self, nodes: ET.Element, edges: ET.Element, walkable: bool, rng: np.random.Generator
    ) -> None:
        self.nodes, self.edges, self.walkable, self.rng = nodes, edges, walkable, rng

    def place(self, node: str) -> Points:
        found = next(item for item in self.nodes.iter("node") if item.get("id") == node)
        return np.array([float(found.attrib["x"]), float(found.attrib["y"])])

    def neighbours(self, node: str) -> list[str]:
        pairs = [(e.attrib["from"], e.attrib["to"]) for e in self.edges.iter("edge")]
        return sorted({b for a, b in pairs if a == node} | {a for a, b in pairs if b == node})

    def add_roundabouts(self, share: float) -> None:
        """Replaces a share of the junctions by one-way rings."""
        for node in [item.attrib["id"] for item in self.nodes.iter("node")]:
            if self.rng.random() < share:
                self._open_roundabout(node, float(self.rng.uniform(11.0, 18.0)))

    def _open_roundabout(self, node: str, radius_m: float) -> None:
        centre, arms = self.place(node), self.neighbours(node)
        offsets = {arm: self.place(arm) - centre for arm in arms}
        arms.sort(key=lambda arm: np.arctan2(*offsets[arm][::-1]))
        angles = np.array([np.arctan2(*offsets[arm][::-1]) for arm in arms])
        gaps = np.diff(angles, append=angles[:1] + 2 * np.pi)
        if len(arms) < 3 or gaps.min() < 0.7 or gaps.max() > 3.5:
            return
        self.nodes.remove(next(n for n in self.nodes.iter("node") if n.get("id") == node))
        for arm, angle in zip(arms, angles, strict=True):
            x, y = centre + radius_m * np.array([np.cos(angle), np.sin(angle)])
            name = f"{node}.{arm}"
            ET.SubElement(self.nodes, "node", id=name, x=f"{x:.2f}", y=f"{y:.2f}", type="priority")
            for edge in self.edges.iter("edge"):
                for end, other in (("from", "to"), ("to", "from")):
                    if edge.get(end) == node and edge.get(other) == arm:
                        edge.set(end, name)
        for i, arm in enumerate(arms):
            after = f"{node}.{arms[(i + 1) % len(arms)]}"
            turn = angles[i] + np.linspace(0.0, gaps[i], 8)
            arc = centre + radius_m * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
            ring = {"from": f"{node}.{arm}", "to": after, "shape": _format(arc)}
            ring |= {"id": f"ring.{node}.{arm}", "spreadType": "center", "type": "ring"}
            ET.SubElement(self.edges, "edge", ring)

    def control_junctions(self, signals: float, flowing: bool) -> None:
        """Gives a share of the crossings signals, the others a right-of-way rule.

        Where traffic is flowing, the larger road has the right of way.
        """
        rules = ["priority", "allway_stop", "right_before_left"]
        rule = "priority" if flowing else str(self.rng.choice(rules, p=[0.8, 0.1, 0.1]))
        for node in self.nodes.iter("node"):
            if len(self.neighbours(node.attrib["id"])) < 3 or "." in node.attrib["id"]:
                node.set("type", "priority")
            else:
                node.set("type", "traffic_light" if self.rng.random() < signals else rule)

    def dress_roads(self, curved: float) -> None:
        """Gives every road its class, curvature, parking lanes and sidewalks."""
        calm = float(self.rng.choice(CALM))
        classes: dict[str, RoadClass] = {}
        bulges: dict[frozenset[str], float] = {}
        for edge in self.edges.iter("edge"):
            start, end = edge.attrib["from"], edge.attrib["to"]
            if self.walkable:
                edge.set("sidewalkWidth", str(SIDEWALK_WIDTH_M))
            if edge.get("type") == "ring":
                del edge.attrib["type"]
                edge.attrib |= {"numLanes": "1", "speed": "8.0", "priority": "9"}
                continue
            road = classes.setdefault(_street(start, end), self._draw_class(start, end))
            edge.set("numLanes", str(road.lanes))
            edge.set("speed", f"{calm * road.speed_kmh / 3.6:.2f}")
            edge.set("priority", str(road.priority))
            bulge = self.rng.normal(0.0, 0.07) if self.rng.random() < curved else 0.0
            bulge = bulges.setdefault(frozenset((start, end)), float(np.clip(bulge, -0.15, 0.15)))
            self._bend(edge, bulge if start < end else -bulge)
            if self.rng.random() < road.parking:
                edge.set("numLanes", str(road.lanes + 1))
                strip = {"index": "0", "disallow": "all", "width": str(PARKING_WIDTH_M)}
                ET.SubElement(edge, "lane", strip)

    def _draw_class(self, start: str, end: str) -> RoadClass:
        long = np.linalg.norm(self.place(end) - self.place(start)) > LONG_ROAD_M
        share = LONG_ROAD_SHARE if long else CLASS_SHARE
        return ROAD_CLASSES[int(self.rng.choice(len(ROAD_CLASSES), p=share))]

    def _bend(self, edge: ET.Element, bulge: float) -> None:
        start, end = self.place(edge.attrib["from"]), self.place(edge.attrib["to"])
        along = end - start
        left = np.array([-along[1], along[0]])
        t = np.linspace(0.0, 1.0, 9)[:, None]
        edge.set("shape", _format(start + t * along + bulge * np.sin(np.pi * t) * left))


def _street(start: str, end: str) -> str:
    """Roads of one row, column, arm or ring of a generated layout belong to one street."""
    first, second = (re.fullmatch(r"([A-Z]+)(\d+)", n.split(".")[0]) for n in sorted((start, end)))
    if first and second:
        for part in (1, 2):
            if first[part] == second[part]:
                return first[part]
    return "|".join(sorted((start, end)))


def _format(points: Points) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _parse(shape: str) -> Points:
    return np.array([pair.split(",")[:2] for pair in shape.split()], dtype=np.float64)


def read_network(path: Path) -> Network:
    """Reads the lanes and junctions of a built ``.net.xml``."""
    lanes: list[Lane] = []
    junctions: list[Points] = []
    for item in ET.parse(path).getroot():
        if item.tag == "edge":
            lanes.extend(_lanes(item))
        elif item.tag == "junction" and item.get("type") != "internal" and item.get("shape"):
            junctions.append(_parse(item.attrib["shape"]))
    outlines = tuple(points for points in junctions if len(points) > 2)
    return Network(path, tuple(lanes), outlines)


def _lanes(edge: ET.Element) -> Iterator[Lane]:
    function = edge.get("function", "normal")
    for lane in edge.iter("lane"):
        points = _parse(lane.attrib["shape"])
        kind: LaneKind = "drive"
        if function == "walkingarea":
            kind = "corner"
        elif function == "crossing":
            kind = "crossing"
        elif lane.get("allow") == "pedestrian":
            kind = "sidewalk"
        elif lane.get("disallow") == "all":
            kind = "parking"
        if len(points) > 1:
            width = float(lane.get("width", "3.2"))
            limit = float(lane.attrib["speed"])
            yield Lane(edge.attrib["id"], kind, points, width, function != "normal", limit)


def map_elements(network: Network) -> tuple[MapElement, ...]:
    """The network as map layers: centre lines, drivable area, its edges, and crosswalks."""
    drive = [lane for lane in network.lanes if lane.kind in ("drive", "parking")]
    corners = [shapely.Polygon(x.points).buffer(0) for x in network.lanes if x.kind == "corner"]
    walks = [lane.area for lane in network.lanes if lane.kind == "sidewalk"]
    pavement = shapely.union_all([*corners, *walks])
    pieces = [lane.area for lane in drive]
    for outline in network.junctions:
        paved = shapely.Polygon(outline).buffer(0).difference(pavement)
        # Opening by 0.5 m drops the slivers between pavements and the junction's outline.
        pieces.extend(_polygons(paved.buffer(-0.5).buffer(0.5)))
    # Closing slivers of less than 0.6 m between strips keeps road edges at the roadside.
    whole = (
        shapely.union_all(pieces).buffer(0.3, join_style="mitre").buffer(-0.3, join_style="mitre")
    )
    centre = [lane.points for lane in drive if lane.kind == "drive"]
    edges = [np.asarray(ring.coords) for part in _polygons(whole) for ring in _rings(part)]
    zebra = [np.asarray(x.area.exterior.coords) for x in network.lanes if x.kind == "crossing"]
    area = [ring for piece in pieces for ring in rings(piece)]
    return (
        *_elements("drivable", area, closed=True),
        *_elements("lane_centre", centre),
        *_elements("road_edge", edges),
        *_elements("crosswalk", zebra, closed=True),
    )


def _elements(layer: MapLayer, shapes: list[Points], closed: bool = False) -> list[MapElement]:
    return [MapElement(layer, points, closed) for points in shapes]


def _rings(polygon: shapely.Polygon) -> list[shapely.LinearRing]:
    return [polygon.exterior, *polygon.interiors]


def _polygons(shape: shapely.Geometry) -> list[shapely.Polygon]:
    parts = shapely.get_parts(shape)
    return [part for part in parts if isinstance(part, shapely.Polygon) and part.area > 0.01]
