"""Whether a store tells agents apart, or has classes alone, as a perception network draws them."""

from __future__ import annotations

import xarray as xr

from forecast.schema import SequenceMeta

BLOCK = 32  # sequences read at a time, a shard


def lacks_ids(data: xr.Dataset, meta: SequenceMeta) -> bool:
    """Whether agents are seen in some history, but none has an id in any.

    No attribute says so. A store with boxes is not read, as its tracks have ids, and one with ids
    only up to the first. Call it where damaged chunks are refused.
    """
    if data.sizes.get("track", 0):
        return False
    past = data.isel(time=slice(meta.history))
    return not _any(past["instance"]) and _any(past["semantic"])


def _any(rasters: xr.DataArray) -> bool:
    starts = range(0, rasters.sizes["sequence"], BLOCK)
    return any(rasters.isel(sequence=slice(start, start + BLOCK)).values.any() for start in starts)
