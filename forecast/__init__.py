"""Forecasts of the future bird's-eye view of traffic."""

__version__ = "0.1.0"
