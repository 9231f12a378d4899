"""Tiny recordings as the publishers of each preset lay them out, for tests.

Columns and their order are those of the descriptions that the presets name; of all but INTERACTION
no recording is at hand.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_tools.formats.lanelet2 import Projection, centred
from tests.support import levelx
from tests.support.lanelets import Map
from tests.support.tables import drives

FRAMES = 40
FOOT_M = 0.3048
NGSIM = (
    "Vehicle_ID,Frame_ID,Total_Frames,Global_Time,Local_X,Local_Y,Global_X,Global_Y,v_Length,"
    "v_Width,v_Class,v_Vel,v_Acc,Lane_ID,Preceding,Following,Space_Headway,Time_Headway"
)
SUMO_ROUTES = """<routes>
<vType id="lorry" vClass="truck" length="9" width="2.6"/><vType id="velo" vClass="bicycle"/>
</routes>"""
Row = Sequence[object]


def _lines(path: Path, rows: Sequence[Row], header: str = "", between: str = ",") -> None:
    text = [between.join(map(str, row)) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *text] if header else text))


def _apolloscape(folder: Path) -> None:
    rows = [
        (
            frame + 3,
            40 + kind,
            kind,
            *drives(5, 60)[kind - 1, 5 * frame, :2],
            -3.5,
            4.1,
            1.7,
            2,
            0.3,
        )
        for frame in range(12)
        for kind in range(1, 6)
    ]
    _lines(folder / "result_9048_1_frame.txt", rows, between=" ")


def _argoverse1(folder: Path) -> None:
    start = 315968663.4598101
    rows = [
        (start + 0.1 * frame, f"0000-{agent}", kind, *drives(3, 50)[agent, frame, :2], "PIT")
        for frame in range(50)
        for agent, kind in enumerate(("AV", "AGENT", "OTHERS"))
    ]
    _lines(folder / "12345.csv", rows, "TIMESTAMP,TRACK_ID,OBJECT_TYPE,X,Y,CITY_NAME")


def _interaction(folder: Path) -> None:
    place = folder / "recorded_trackfiles" / "corner"
    header = "track_id,frame_id,timestamp_ms,agent_type,x,y,vx,vy"
    path = drives(2, FRAMES)
    cars = [
        (n + 1, f + 1, 100 * f + 100, "car", *path[n, f, :2], *_velocity(path[n], f), path[n, f, 2])
        for n in range(2)
        for f in range(FRAMES)
    ]
    sized = [(*row, 4.4, 1.8) for row in cars]
    _lines(place / "vehicle_tracks_000.csv", sized, f"{header},psi_rad,length,width")
    walker = [
        ("P1", f + 1, 100 * f + 100, "pedestrian/bicycle", 0.1 * f, 5.0, 1.0, 0.0)
        for f in range(FRAMES)
    ]
    _lines(place / "pedestrian_tracks_000.csv", walker, header)
    _lanelets(folder / "maps" / "corner.osm", centred(0.0, 0.0))


def _velocity(path: np.ndarray, frame: int) -> list[float]:
    """Along a drive of 10 Hz, metres a second."""
    first = min(frame, len(path) - 2)
    return (10 * (path[first + 1, :2] - path[first, :2])).tolist()


def _lanelets(path: Path, projection: Projection) -> None:
    """A road both ways, a crossing, an area with a hole and a border."""
    drawn = Map(projection)
    drawn.lanelet([(0, 4), (30, 4), (60, 6)], [(0, 0), (60, 2)], one_way="no", subtype="road")
    drawn.lanelet([(60, 0), (0, -2)], [(60, -4), (0, -4)], subtype="road")
    drawn.lanelet([(20, -4), (20, 4)], [(23, -4), (23, 4)], subtype="crosswalk")
    drawn.way([(0, -4.5), (60, -4.5)], type="road_border")
    rims = [drawn.way(np.array([(0, 0), (1, 0), (1, 1), (0, 0)]) * size) for size in (20, 5)]
    members = list(zip(("outer", "inner"), rims, strict=True))
    drawn.relation(members, type="multipolygon", subtype="parking")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.write(path)


def _levelx(folder: Path) -> None:
    levelx.write_ind(folder / "data")
    levelx.write_highd(folder / "highd")
    _lanelets(folder / "maps" / "lanelets" / "1_town" / "location1.osm", levelx.UTM)


def ngsim_rows(frames: int = 40) -> list[list[object]]:
    """A car that turns, a lorry that goes straight on and a motorcycle, in the order of time."""
    rows = []
    sizes = {5: (14.5, 6.4, 2), 6: (52.0, 8.5, 3), 7: (7.2, 2.9, 1)}
    for frame in range(frames):
        for number, (length, width, kind) in sizes.items():
            x, y, yaw = drives(3, frames, seed=4)[number - 5, frame]
            if number == 6:
                x, y, yaw = 12.0, 9.0 + frame, math.pi / 2
            front = np.array([x, y]) + length * FOOT_M / 2 * np.array(
                [math.cos(yaw), math.sin(yaw)]
            )
            speed = (
                10.0
                if number == 6
                else np.hypot(*np.diff(drives(3, 2, 4)[number - 5, :, :2].T))[0] * 10
            )
            time_ms, global_feet = 1118846979700 + 100 * frame, (6451137.6, 1873344.9)
            row = [number, 13 + frame, frames, time_ms, *(front / FOOT_M).round(6), *global_feet]
            row += [length, width, kind, round(speed / FOOT_M, 3), 0.0, 2, 0, 13, 0.0, 0.0]
            rows.append(row)
    return rows


def _ngsim(folder: Path) -> None:
    _lines(folder / "us-101.csv", [[*r, "us-101"] for r in ngsim_rows()], f"{NGSIM},Location")


def _ngsim_text(folder: Path) -> None:
    _lines(folder / "trajectories-0750am-0805am.txt", ngsim_rows(), between=" ")


def _sind(folder: Path) -> None:
    header = "track_id,frame_id,timestamp_ms,agent_type,x,y,vx,vy"
    more = "yaw_rad,heading_rad,length,width,ax,ay,v_lon,v_lat,a_lon,a_lat"
    ms, path = 1000 * 3 / 29.97, drives(2, FRAMES)
    rest = (0.0, 4.5, 1.8, *[0] * 6)
    rows = [
        (n + 1, f, f * ms, kind, *path[n, f, :2], *_velocity(path[n], f), path[n, f, 2], *rest)
        for n, kind in enumerate(("car", "tricycle"))
        for f in range(FRAMES)
    ]
    _lines(folder / "8_2_1" / "Veh_smoothed_tracks.csv", rows, f"{header},{more}")
    walker = [("P1", f, f * ms, "pedestrain", 0.1 * f, 3.0, 1.0, 0.0, 0, 0) for f in range(FRAMES)]
    _lines(folder / "8_2_1" / "Ped_smoothed_tracks.csv", walker, f"{header},ax,ay")


def _sumo_fcd(folder: Path) -> None:
    steps = []
    for frame in range(FRAMES):
        cars = [
            f'<vehicle id="{name}" x="{x + speed * 0.1 * frame:.2f}" y="-1.60" angle="90.00" '
            f'type="{kind}" speed="{speed:.2f}" pos="{x:.2f}" lane="ab_0" slope="0.00"/>'
            for name, kind, x, speed in (("l", "lorry", 9.0, 8.0), ("w", "velo", 0.0, 4.0))
        ]
        walker = (
            f'<person id="w" x="20" y="{0.1 * frame:.2f}" angle="0" speed="1" pos="0" type="p"/>'
        )
        steps.append(f'<timestep time="{0.1 * frame:.2f}">{"".join(cars)}{walker}</timestep>')
    text = f"<fcd-export>{''.join(steps)}</fcd-export>"
    (folder / "drive.rou.xml").write_text(SUMO_ROUTES)
    (folder / "drive.fcd.xml").write_text(text)
    (folder / "other.fcd.xml.gz").write_bytes(gzip.compress(text.encode()))


def _trajnet(folder: Path) -> None:
    rows = [
        (780 + 6 * frame, f"{walker + 1}.0", *drives(3, 80)[walker, 4 * frame, :2] / 8)
        for frame in range(20)
        for walker in range(3)
    ]
    _lines(folder / "biwi_eth.txt", rows, between=" ")


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "apolloscape": _apolloscape,
    "argoverse1": _argoverse1,
    "interaction": _interaction,
    "levelx": _levelx,
    "ngsim": _ngsim,
    "ngsim-txt": _ngsim_text,
    "sind": _sind,
    "sumo-fcd": _sumo_fcd,
    "trajnet": _trajnet,
}
"""What writes a tiny recording of each preset into a new folder."""
