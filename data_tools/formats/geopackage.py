"""GeoPackage: layers of an SQLite file, each geometry a header of its own before its WKB.

Only the standard's plain form is read (OGC 12-128r18, 2.1.3): no extended geometries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.databases import Database
from forecast.errors import DataError

MAX_BYTES = 2**28  # of one layer's geometries
# What a reader needs of the file, besides its layers.
TABLES = {
    "gpkg_geometry_columns": ("table_name", "column_name", "srs_id"),
    "gpkg_spatial_ref_sys": ("srs_id", "organization", "organization_coordsys_id"),
}
# Bytes of the envelope, by the number in the flags.
_ENVELOPES = (0, 32, 48, 48, 64)
_EMPTY, _EXTENDED = 0b10000, 0b100000


def read_layer(
    database: Database, layer: str, columns: Sequence[str] = ()
) -> tuple[int, NDArray[Any], list[tuple[Any, ...]]]:
    """A layer of features, in the order of the file.

    Args:
        database: The open file, with :data:`TABLES` and the layer.
        layer: Name of the layer's table.
        columns: Names of further columns of it, known to exist.

    Returns:
        The EPSG number of its coordinates, its geometries ``(n,)`` without those that are missing
        or empty, and the further columns of the same features.

    Raises:
        DataError: It is no layer of features, or a geometry is damaged; its row is named.
    """
    where = f"layer {layer} of {database.path}"
    column, epsg = _geometry_column(database, layer, where)
    (size,) = database.rows(f'SELECT total(length({column})) FROM "{layer}"')[0]
    if not size <= MAX_BYTES:
        raise DataError(f"{MAX_BYTES} bytes of geometry at most", where, "leave the map out")
    names = ", ".join([column, *(f'"{name}"' for name in columns)])
    rows = database.rows(f'SELECT {names} FROM "{layer}"')
    parts = [wkb_of(row[0], f"row {n} of {where}") for n, row in enumerate(rows, start=1)]
    kept = [n for n, part in enumerate(parts) if part is not None]
    try:
        with np.errstate(invalid="ignore"):  # shapely warns of NaN, which the caller looks for
            shapes = shapely.from_wkb([parts[n] for n in kept])
    except (shapely.errors.ShapelyError, ValueError, OverflowError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError("geometries as WKB", f"{where} ({reason})", "restore the map") from error
    return epsg, np.asarray(shapes, object), [rows[n][1:] for n in kept]


def wkb_of(blob: Any, where: str) -> bytes | None:
    """The WKB in a GeoPackage geometry; None where it is missing or empty.

    Raises:
        DataError: It is no such geometry.
    """
    if blob is None:
        return None
    if not isinstance(blob, bytes) or len(blob) < 8 or blob[:3] != b"GP\0" or blob[3] & _EXTENDED:
        raise DataError("a GeoPackage geometry", f"none in {where}", "restore the map")
    flags = blob[3]
    envelope = flags >> 1 & 0b111
    if envelope >= len(_ENVELOPES):
        raise DataError("an envelope of 0 to 4", f"{envelope} in {where}", "restore the map")
    return None if flags & _EMPTY else blob[8 + _ENVELOPES[envelope] :]


def _geometry_column(database: Database, layer: str, where: str) -> tuple[str, int]:
    """The quoted name of a layer's column of geometries, and its EPSG number."""
    found = database.rows(
        "SELECT g.column_name, s.organization, s.organization_coordsys_id"
        " FROM gpkg_geometry_columns g JOIN gpkg_spatial_ref_sys s ON s.srs_id = g.srs_id"
        " WHERE g.table_name = ?",
        (layer,),
    )
    known = {name for _, name, *_ in database.rows(f'PRAGMA table_info("{layer}")')}
    if len(found) != 1 or found[0][0] not in known or '"' in found[0][0]:
        raise DataError("a GeoPackage layer with one geometry", where, "restore the map")
    column, organization, number = found[0]
    if str(organization).upper() != "EPSG" or type(number) is not int:
        got = f"{organization!r:.40} {number!r:.40} in {where}"
        raise DataError("coordinates by an EPSG number", got, "restore the map")
    return f'"{column}"', number
