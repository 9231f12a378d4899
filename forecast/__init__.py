"""Forecasts of the future bird's-eye view of traffic.

What is listed in ``__all__`` is loaded when it is first used, so that ``import forecast`` itself
takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forecast.api import open_forecast, open_sequences, prepare, train
    from forecast.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        ForecastError,
        TrainingError,
    )
    from forecast.evaluation.evaluate import evaluate
    from forecast.grid import BEVGrid
    from forecast.inference.models import load_model
    from forecast.loop import realizations, rollout
    from forecast.types import BEVSequence, Realization, StepForecast

__version__ = "0.1.0"
__all__ = [
    "BEVGrid",
    "BEVSequence",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ForecastError",
    "Realization",
    "StepForecast",
    "TrainingError",
    "evaluate",
    "load_model",
    "open_forecast",
    "open_sequences",
    "prepare",
    "realizations",
    "rollout",
    "train",
]

# No module of this folder may have one of these names: importing it would put it in their place.
_ORIGIN = {
    "BEVGrid": "grid",
    "BEVSequence": "types",
    "Realization": "types",
    "StepForecast": "types",
    "evaluate": "evaluation.evaluate",
    "load_model": "inference.models",
    "open_forecast": "api",
    "open_sequences": "api",
    "prepare": "api",
    "realizations": "loop",
    "rollout": "loop",
    "train": "api",
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "errors"),
}


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ORIGIN[name]}"), name)
    globals()[name] = value  # the next time it is found at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
