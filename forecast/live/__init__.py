"""Forecasts inside a running stack: one frame in, the next seconds out, in world coordinates.

:class:`Forecaster` is the entrance; docs/live.md shows it at work.
"""

from forecast.live.forecaster import Forecaster
from forecast.live.inputs import Raster, Tracks
from forecast.live.outputs import Counts, LiveForecast
from forecast.live.world_map import MapRaster, WorldMap

__all__ = ["Counts", "Forecaster", "LiveForecast", "MapRaster", "Raster", "Tracks", "WorldMap"]
