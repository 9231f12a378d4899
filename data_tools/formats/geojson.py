"""A user's map as GeoJSON: lines and polygons in the recording's own metres."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, get_args

import numpy as np
import shapely
from shapely.geometry import shape

from data_tools.formats.documents import read_json
from data_tools.formats.polygons import rings
from data_tools.labels.map_index import MapIndex
from data_tools.scene import MapElement, MapLayer
from forecast.errors import DataError
from forecast.storage.files import version_of

AREAS = ("drivable", "crosswalk")
LAYERS = get_args(MapLayer)


def read_map(path: str) -> MapIndex:
    """Reads a FeatureCollection whose features name their map layer in the property ``layer``.

    Layers ``drivable`` and ``crosswalk`` take (Multi)Polygons, ``lane_centre`` (in the direction of
    travel) and ``road_edge`` (Multi)LineStrings. Coordinates are x, y in metres, not degrees.

    Raises:
        DataError: It is not such a file.
    """
    return _read(path, version_of(path, "a map"))


@lru_cache(maxsize=1)
def _read(path: str, _version: str) -> MapIndex:
    """Reads a map; ``_version`` makes a changed file a new one."""
    content = read_json(path)
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        raise DataError(
            "a GeoJSON FeatureCollection", f"{path} without features", "correct or remove it"
        )
    elements: list[MapElement] = []
    for place, feature in enumerate(features, start=1):
        elements.extend(_elements(feature, f"feature {place} of {path}"))
    return MapIndex(elements)


def _plain_line(feature: Any) -> MapElement | None:
    """A line of two points or more, as most features are, many times faster than by shapely.

    None where it is anything else, or perhaps wrong.
    """
    try:
        layer, geometry = feature["properties"]["layer"], feature["geometry"]
        points = np.array(geometry["coordinates"])
    except (LookupError, OverflowError, TypeError, ValueError):
        return None
    is_line = geometry.get("type") == "LineString" and layer in LAYERS and layer not in AREAS
    is_plain = points.ndim == 2 and points.dtype.kind in "if" and np.isfinite(points).all()
    if not (is_line and is_plain and len(points) >= 2 and points.shape[1] == 2):
        return None
    return MapElement(layer, points.astype(float))


def _elements(feature: Any, where: str) -> Iterator[MapElement]:
    line = _plain_line(feature)
    if line is not None:
        yield line
        return
    try:
        layer = feature["properties"]["layer"]
        with np.errstate(invalid="ignore"):  # shapely warns of NaN; it is refused below
            geometry = shape(feature["geometry"])
    except (
        *(AttributeError, LookupError, OverflowError),
        *(RecursionError, TypeError, ValueError),
    ) as error:
        raise DataError(
            "a geometry and a property layer", f"{where} with {error!r}", "correct the map"
        ) from error
    except shapely.errors.ShapelyError as error:
        reason = str(error).strip()
        raise DataError("a geometry", f"{where} ({reason})", "correct the map") from error
    if layer not in LAYERS:
        raise DataError(
            f"a layer of {', '.join(LAYERS)}", f"{layer!r} in {where}", "correct the map"
        )
    if geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise DataError("finite coordinates", f"others in {where}", "correct the map")
    kind = shapely.Polygon if layer in AREAS else shapely.LineString
    for part in shapely.get_parts(geometry):
        if not isinstance(part, kind):
            raise DataError(
                f"a {kind.__name__} for layer {layer}",
                f"a {part.geom_type} in {where}",
                "correct the map",
            )
        if isinstance(part, shapely.Polygon):
            for ring in rings(part):
                yield MapElement(layer, ring, closed=True)
        else:
            yield MapElement(layer, shapely.get_coordinates(part))
