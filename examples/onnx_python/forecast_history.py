"""Forecasts the history of an exported folder with numpy and ONNX Runtime alone.

    python forecast_history.py FOLDER [SLOTS]

Prints a line for every agent and step: lead, id, x, y, yaw, probability that it is still there.
"""

import sys

folder = sys.argv[1]
sys.path.insert(0, folder)  # `forecast export` writes host.py there

from host import ExportError, load, read_history  # noqa: E402


def main() -> None:
    """Observes every moment, then steps into the future."""
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else None
    forecaster, history = load(folder, slots, threads=1), read_history(folder)
    forecaster.start(history["layers"], history["points"])
    for moment in history["moments"]:
        forecaster.observe(**moment)
    for lead, step in enumerate(forecaster.forecast(6, history["dt_s"]), 1):
        for slot in step["id"].nonzero()[0]:
            numbers = *step["pose"][slot], step["existence"][slot]
            print(lead, step["id"][slot], *(f"{number:.4f}" for number in numbers))


try:
    main()
except ExportError as error:
    sys.exit(f"error: {error}")
