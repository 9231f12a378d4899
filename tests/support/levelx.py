"""Recordings in the layout of highD and of inD, written by the published descriptions.

No recording of these data sets is at hand: columns and their meaning are those of the formats'
descriptions (highDFormat, inDFormat 1.1) and of the tools that come with them, ika-rwth-aachen's
drone-dataset-tools and RobertKrajewski's highD-dataset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_tools.formats.lanelet2 import Projection

RATE = 25.0
FRAMES = 126  # 5 s
# Of inD's location 1.
UTM = Projection(32632, (293487.1224, 5629711.58163))
PLACE = (50.78207, 6.07116)


def write_ind(folder: Path, number: int = 7, location: int = 1) -> str:
    """A recording of a car, a lorry, a walker and a cyclist; the path of its tracks."""
    rows = [
        _ind(number, 0, "car", 10.0, -30.0, 30.0, 8.0, (4.6, 1.9)),
        _ind(number, 1, "truck_bus", 60.0, -20.0, 210.0, 5.0, (11.2, 2.5)),
        _ind(number, 2, "pedestrian", 30.0, -10.0, 275.5, 1.4, (0.0, 0.0)),
        _ind(number, 3, "bicycle", 35.0, -40.0, 100.0, 4.0, (0.0, 0.0)),
    ]
    path = folder / f"{number:02d}_tracks.csv"
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat([tracks for tracks, _ in rows]).to_csv(path, index=False)
    pd.DataFrame([meta for _, meta in rows]).to_csv(
        folder / f"{number:02d}_tracksMeta.csv", index=False
    )
    meta = {"recordingId": number, "locationId": location, "frameRate": RATE, "speedLimit": 13.9}
    meta |= {"weekday": "tuesday", "startTime": 16, "duration": FRAMES / RATE, "numTracks": 4}
    meta |= {"numVehicles": 2, "numVRUs": 2, "latLocation": PLACE[0], "lonLocation": PLACE[1]}
    meta |= {"xUtmOrigin": UTM.origin_m[0], "yUtmOrigin": UTM.origin_m[1]}
    meta |= {"orthoPxToMeter": 0.00814636091724916}
    pd.DataFrame([meta]).to_csv(folder / f"{number:02d}_recordingMeta.csv", index=False)
    return str(path)


def _ind(
    number: int,
    track: int,
    kind: str,
    x: float,
    y: float,
    heading: float,
    speed: float,
    size: tuple[float, float],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    frame = np.arange(track, FRAMES)
    time = (frame - track) / RATE
    vx, vy = speed * np.cos(np.radians(heading)), speed * np.sin(np.radians(heading))
    length, width = size
    tracks = {"recordingId": number, "trackId": track, "frame": frame}
    tracks |= {"trackLifetime": frame - track, "xCenter": x + vx * time, "yCenter": y + vy * time}
    tracks |= {"heading": heading, "width": width, "length": length, "xVelocity": vx}
    tracks |= {"yVelocity": vy, "xAcceleration": 0.0, "yAcceleration": 0.0, "lonVelocity": speed}
    tracks |= {"latVelocity": 0.0, "lonAcceleration": 0.0, "latAcceleration": 0.0}
    meta = {"recordingId": number, "trackId": track, "initialFrame": track}
    meta |= {"finalFrame": FRAMES - 1, "numFrames": FRAMES - track, "width": width}
    meta |= {"length": length, "class": kind}
    return pd.DataFrame(tracks), meta


def write_highd(folder: Path, number: int = 1) -> str:
    """A recording of a lorry to the left and a car to the right, changing lanes, and one in a jam.

    Its boxes lie along the image's axes; ``x`` and ``y`` are their upper left corners.
    """
    frame = np.arange(1, FRAMES + 1)
    time = (frame - 1) / RATE
    cars = [
        (1, "Truck", 1, 380.0 - 22.0 * time, np.full(FRAMES, 9.0), (14.0, 2.5)),
        (2, "Car", 2, 20.0 + 33.0 * time, 30.0 - 0.8 * time, (4.8, 2.0)),
        (3, "Car", 1, np.full(FRAMES, 200.0), np.full(FRAMES, 13.0), (4.4, 1.8)),
    ]
    tables, metas = [], []
    for track, kind, direction, x, y, (length, width) in cars:
        vx, vy = np.gradient(x, 1 / RATE), np.gradient(y, 1 / RATE)
        rows: dict[str, Any] = {"frame": frame, "id": track, "x": x, "y": y, "width": length}
        rows |= {"height": width, "xVelocity": vx, "yVelocity": vy}
        zero = ("xAcceleration", "yAcceleration", "frontSightDistance", "backSightDistance", "dhw")
        rows |= dict.fromkeys((*zero, "thw", "ttc", "precedingXVelocity"), 0.0)
        near = ("precedingId", "followingId", "leftPrecedingId", "leftAlongsideId")
        near += ("leftFollowingId", "rightPrecedingId", "rightAlongsideId", "rightFollowingId")
        tables.append(pd.DataFrame(rows | dict.fromkeys(near, 0) | {"laneId": 2}))
        meta = {"id": track, "width": length, "height": width, "initialFrame": 1}
        meta |= {"finalFrame": FRAMES, "numFrames": FRAMES, "class": kind}
        meta |= {"drivingDirection": direction, "traveledDistance": 0.0, "minXVelocity": 0.0}
        meta |= {"maxXVelocity": 0.0, "meanXVelocity": 0.0, "minDHW": -1.0, "minTHW": -1.0}
        metas.append(meta | {"minTTC": -1.0, "numLaneChanges": 0})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:02d}_tracks.csv"
    pd.concat(tables).to_csv(path, index=False)
    pd.DataFrame(metas).to_csv(folder / f"{number:02d}_tracksMeta.csv", index=False)
    meta = {"id": number, "frameRate": 25, "locationId": 2, "speedLimit": -1.0, "month": "9.2017"}
    meta |= {"weekDay": "Tue", "startTime": "08:38", "duration": FRAMES / RATE}
    meta |= {"totalDrivenDistance": 0.0, "totalDrivenTime": 0.0, "numVehicles": 3, "numCars": 2}
    meta |= {"numTrucks": 1, "upperLaneMarkings": "8.51;12.59;16.43"}
    meta |= {"lowerLaneMarkings": "21.00;24.96;28.80;32.64"}
    pd.DataFrame([meta]).to_csv(folder / f"{number:02d}_recordingMeta.csv", index=False)
    return str(path)
