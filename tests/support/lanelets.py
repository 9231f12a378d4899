"""Lanelet2 maps, written in the metres of a recording."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_tools.formats.lanelet2 import Projection
from data_tools.utm import to_utm


def degrees_of(metres: ArrayLike, projection: Projection) -> NDArray[np.float64]:
    """Longitude and latitude ``(n, 2)`` of places in a recording, by Newton's method."""
    wanted = np.asarray(metres, float).reshape(-1, 2) + projection.origin_m
    zone = projection.epsg % 100
    found = np.tile([6.0 * zone - 183.0, projection.origin_m[1] / 110_574], (len(wanted), 1))
    for _ in range(6):
        at = to_utm(found, projection.epsg)
        east, north = (
            (to_utm(found + step, projection.epsg) - at) / 1e-6 for step in 1e-6 * np.eye(2)
        )
        slope = np.stack([east, north], axis=-1)
        found = found + np.linalg.solve(slope, (wanted - at)[..., None])[..., 0]
    return found


class Map:
    """A map to be written: ways in metres, relations of them.

    Args:
        projection: Of the recording.
    """

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.root = ET.Element("osm", version="0.6", generator="tests")
        self.ids = 0

    def _add(self, tag: str, tags: dict[str, str], **attributes: str) -> ET.Element:
        self.ids += 1
        element = ET.SubElement(self.root, tag, {"id": str(self.ids), **attributes})
        for key, value in tags.items():
            ET.SubElement(element, "tag", k=key, v=value)
        return element

    def way(self, points: ArrayLike, **tags: str) -> str:
        """Adds a line through points in metres; its id."""
        nodes = [
            self._add("node", {}, lon=f"{lon:.12f}", lat=f"{lat:.12f}").attrib["id"]
            for lon, lat in degrees_of(points, self.projection)
        ]
        way = self._add("way", tags)
        for node in nodes:
            ET.SubElement(way, "nd", ref=node)
        return way.attrib["id"]

    def relation(self, members: Sequence[tuple[str, str]], **tags: str) -> None:
        """Adds a relation of ways, each with its role."""
        relation = self._add("relation", tags)
        for role, way in members:
            ET.SubElement(relation, "member", type="way", ref=way, role=role)

    def lanelet(self, left: ArrayLike, right: ArrayLike, **tags: str) -> None:
        """Adds a lanelet between two lines in metres."""
        members = [("left", self.way(left)), ("right", self.way(right))]
        self.relation(members, type="lanelet", **tags)

    def write(self, path: Path) -> str:
        """Writes the map; its path."""
        path.write_bytes(ET.tostring(self.root, encoding="utf-8", xml_declaration=True))
        return str(path)
