"""Forecasts the history of an exported folder with numpy and ONNX Runtime alone.

    python forecast_history.py FOLDER [SLOTS]

Prints a line for every agent and step: lead, id, x, y, yaw, probability that it is still there.
"""

import sys
from pathlib import Path

if len(sys.argv) < 2 or not (Path(sys.argv[1]) / "host.py").is_file():
    sys.exit("error: expected a folder that `forecast export` wrote; got none; name it")
if not all(slots.isdigit() for slots in sys.argv[2:3]):
    sys.exit(f"error: expected a number of slots; got {sys.argv[2]}; correct it, or leave it out")
folder = sys.argv[1]
sys.path.insert(0, folder)  # host.py is there

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
