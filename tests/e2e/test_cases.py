"""Inputs that once failed without a word: a table of what is right and what is got now.

They stay outside the repository, in ``../shared/cases``; where they are absent, all are skipped.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from forecast.angles import wrap_angle
from tests.support.desk import Desk
from tests.support.refusals import CONFIG
from tests.support.stores import Mover, sequence_store

CASES = Path(__file__).parents[3] / "shared/cases"


def agents(store: xr.Dataset) -> list[int]:
    """How many tracks of each class there are, over all sequences."""
    kinds = range(1, len(store.attrs["classes"]) + 1)
    return [int((store["track_class"].values == kind).sum()) for kind in kinds]


def longest_step(store: xr.Dataset) -> float:
    """Of the ego in any sequence, metres."""
    return float(np.hypot(*np.diff(store["ego_pose"].values[..., :2], axis=1).T).max())


def errors_at_3_s(desk: Desk) -> NDArray[np.float64]:
    """Metres between the truth's and the forecast's place of each track of the first sequence."""
    data, pose = desk.open(), desk.open("f.zarr")["pose"].values[0, 5]
    truth = data["track_state"].values[0, :, int(data.attrs["history"]) + 5, :2]
    return np.hypot(*(pose[: len(truth), :2] - truth).T)


def iou(desk: Desk, kind: str) -> float:
    """Of ``f.zarr`` against ``out.zarr``, as `evaluate` says it."""
    _, said = desk.forecast("evaluate", "f.zarr", "--data", "out.zarr", "--json")
    return float(json.loads(said)["classes"][kind]["iou"])


def defaultdict_pickle(desk: Desk) -> None:
    right = desk.prepare("scenarionet", "sd_same_with_plain_dict.pkl")[0], desk.open()
    got = desk.prepare("scenarionet", "sd_current.pkl")[0], desk.open()
    desk.check("read as the one with a plain dict", agents(got[1]), got[0] == right[0] == 0)
    same = all(np.array_equal(got[1][v], right[1][v], equal_nan=True) for v in ("track_state",))
    desk.check("the same tracks", same, same)


def size_array(desk: Desk) -> None:
    code, said = desk.prepare("scenarionet", "sd_size.pkl")
    found = agents(desk.open()) if code == 0 else said
    desk.check("agents in the store, or refused", found, code == 2 or sum(found) > 0)


def reversing_car(desk: Desk) -> None:
    for name in ("radians_forward", "radians_reversing", "degrees_reversing"):
        desk.prepare("waymo-json", f"{name}.json")
        yaw = desk.open()["track_state"].values[0, 1:5, 2, 2]
        parked = np.sort(np.degrees(yaw)).astype(float).round(1).tolist()
        right = [40.1, 51.6, 63.0, 74.5]
        desk.check(f"{name}: parked at {right}", parked, np.allclose(parked, right, atol=0.06))


def class_without_size(desk: Desk) -> None:
    desk.prepare("tracks", "coco_names.csv")
    found = agents(desk.open())
    desk.check("person and bike are there", found, min(found[1:]) > 0)
    mapped = ("--map-class", "pedestrian/bicycle=pedestrian")
    desk.prepare("tracks", "interaction_names.csv", *mapped)
    found = agents(desk.open())
    desk.check("pedestrian/bicycle is there once mapped", found, found[1] > 0)


def ego_seen_too_short(desk: Desk) -> None:
    code, said = desk.prepare("tracks", "crossing.csv")
    found = desk.open().sizes["sequence"] if code == 0 else said
    desk.check("33 sequences around `slow`", found, found == 33)


def reused_id(desk: Desk) -> None:
    desk.prepare("tracks", "reused_id.csv")
    place = desk.open()["track_state"].values[..., :2]
    reach = np.nanmax(place, axis=2, initial=-1e9) - np.nanmin(place, axis=2, initial=1e9)
    apart = float(reach[..., 1].max())  # across: the car is parked 15 m from where the walker is
    desk.check("no agent is 15 m from itself", f"{apart:.1f} m", apart < 10)


def map_elsewhere(desk: Desk) -> None:
    for name in ("wgs84", "axes_swapped", "other_utm_zone"):
        _, said = desk.prepare("tracks", f"{name}.csv")
        desk.says(f"{name}: prepare says how far the map is", said, "m from the traffic")
        desk.finds("no map under the traffic", "no layer of the map has a cell")


def implausible(desk: Desk) -> None:
    for name, word in (
        ("sides_swapped", "wider than long"),
        ("feet", "feet"),
        ("frame_numbers_25_fps", "frame numbers for seconds"),
    ):
        desk.prepare("tracks", f"{name}.csv")
        desk.finds(name, word)


def rasters_turned(desk: Desk) -> None:
    grid = ("--grid=-30,30,-30,30,0.5", "--classes", "vehicle")
    desk.prepare("rasters", "right", *grid)
    code, said = desk.forecast("doctor", "out.zarr")
    desk.check("right: nothing wrong", said.splitlines()[-1], code == 0)
    for name, word in (
        ("image_rows_forward", "order of an image"),
        ("y_flipped", "left to right"),
        ("x_flipped", "front to back"),
        ("transposed", "transposed"),
        ("poses_left_handed", "left-handed"),
    ):
        desk.prepare("rasters", name, *grid)
        desk.finds(name, word)


def cells_of_a_box(desk: Desk) -> None:
    desk.prepare("tracks", "standing.csv")
    for model in ("persistence", "constant-velocity", "constant-turn", "kalman"):
        desk.rollout("--model", model)
        found = iou(desk, "vehicle")
        desk.check(f"{model}: IoU 1.000", f"{found:.3f}", found == 1)
    truth, drawn = desk.open()["instance"][0, 3], desk.open("f.zarr")["instance"][0, 0]
    cells = [[int((one == k).sum()) for k in (1, 2)] for one in (truth, drawn)]
    desk.check("85 and 44 cells in both", cells, cells == [[85, 44]] * 2)


def oracle_is_highest(desk: Desk) -> None:
    desk.prepare("tracks", "walkers.csv")
    _, said = desk.rollout("--model", "constant-velocity")
    walkers = said[said.index("pedestrian") :].splitlines()
    score = {
        name: float(next(line for line in walkers if line.startswith(name)).split()[1])
        for name in ("constant-velocity", "oracle")
    }
    desk.check("no forecast above the oracle", score, score["oracle"] >= max(score.values()))
    desk.says("agents without a cell are counted", said, "no cell at present")
    desk.prepare("tracks", "walkers.csv", "--protocol", "exact-small")
    _, said = desk.rollout("--model", "constant-velocity")
    found = iou(desk, "pedestrian")
    desk.check("exact-small: IoU above 0.99", f"{found:.3f}", found > 0.99)
    without = "no cell at present" in said
    desk.check("exact-small: no agent without a cell", without, not without)


def another_centre(desk: Desk) -> None:
    desk.prepare("tracks", "drive.csv")
    desk.rollout("--model", "constant-turn")
    shown = desk.forecast("evaluate", "f.zarr", "--data", "out.zarr")[0]
    desk.check("scored against its own store", f"exit {shown}", shown == 0)
    desk.prepare("tracks", "drive.csv", "--centre", "agent:turn")
    code, said = desk.forecast("evaluate", "f.zarr", "--data", "out.zarr")
    desk.check("refused against another centre", said, code == 2)


def keyframe_rate(desk: Desk) -> None:
    for name in ("step_0.4", "step_0.6"):
        code, said = desk.prepare("nuscenes", f"{name}/v1.0-own")
        got, holds = said, code == 2
        if code == 0:
            x = desk.open()["track_state"].values[0, 0, :, 0]
            got = f"{(x[-1] - x[0]) / (0.5 * (len(x) - 1)):.1f} m/s"
            holds = got == "10.0 m/s"
        desk.check(f"{name}: refused, or 10.0 m/s", got, holds)


def goes_on(desk: Desk, model: str = "packaged") -> None:
    """Notes how far off those are whose headings flip or jitter: one drives on, two are parked."""
    desk.rollout("--model", model)
    off = errors_at_3_s(desk)[1:].astype(float).round(1)
    right = off[0] <= 3 and (off[1:] <= 0.5).all()
    desk.check(f"{model}: 3, 0.5, 0.5 m off at most", off.tolist(), right)


def packaged_heading_flips(desk: Desk) -> None:
    """A learned forecaster errs by more than flips cost: so those of the same table without any."""
    off = []
    table = pd.read_csv(desk.folder / "flips.csv")
    for name in ("flips.csv", "plain.csv"):
        desk.prepare("tracks", name if name == "flips.csv" else written(desk, table, name))
        desk.rollout("--model", "packaged")
        off.append(errors_at_3_s(desk)[1:].astype(float).round(2))
    costs = off[0] - off[1]
    desk.check("packaged: a flip costs 0.1 m at most", costs.tolist(), (costs <= 0.1).all())
    desk.check("parked: 0.5 m off at most", off[0][1:].tolist(), (off[0][1:] <= 0.5).all())


def written(desk: Desk, table: pd.DataFrame, name: str) -> str:
    """The table with the usual heading of each track in all of its rows."""
    usual = table.groupby("track_id")["yaw_rad"].transform("median")
    table.assign(yaw_rad=usual).to_csv(desk.folder / name, index=False)
    return name


def heading_flips(desk: Desk) -> None:
    desk.prepare("tracks", "flips.csv")
    for model in ("constant-turn", "kalman"):
        goes_on(desk, model)
    desk.finds("which heading flips", "turns by 180 degrees")


def stacked_segments(desk: Desk) -> None:
    _, said = desk.prepare("kitti-tracking", "label_02")
    step = longest_step(desk.open())
    desk.check("no ego step of 200 m", f"{step:.1f} m", step < 30)
    desk.says("prepare counts the joints", said, "no sequence across: 1")


def antimeridian(desk: Desk) -> None:
    desk.prepare("kitti-tracking", "label_02")
    step = longest_step(desk.open())
    desk.check("no ego step of 26,000 km", f"{step:.1f} m", step < 30)


def crowd(desk: Desk) -> None:
    desk.prepare("tracks", "crowd_of_300.csv")
    code, said = desk.rollout()
    desk.check("all sequences are forecast", f"exit {code}", code == 0)
    store = desk.open("f.zarr")
    most = np.isfinite(store["pose"].values[:, 0, :, 0]).sum(axis=1).max()
    desk.check("256 agents of the fullest", most, most == 256)
    desk.says("it is said", said, "are not forecast")
    lost = store["agents_left_out"].values if "agents_left_out" in store else np.zeros(1)
    desk.check("it is counted in the store", lost.tolist(), lost.max() == 45)


def same_drive(desk: Desk) -> None:
    desk.prepare("tracks", "test.csv")
    shutil.move(desk.folder / "out.zarr", desk.folder / "test.zarr")
    desk.prepare("tracks", "train.csv")
    desk.finds("the same drive, cut later", "same drive", options=("--against", "test.zarr"))


def yaw_conventions(desk: Desk) -> None:
    for name, words in (
        ("degrees_below_25.csv", ("degrees",)),
        ("clockwise_from_north.csv", ("north",)),
        ("float32_utm.parquet", ("float32",)),
    ):
        desk.says(f"{name}: prepare warns", desk.prepare("tracks", name)[1], *words)


def messages(desk: Desk) -> None:
    _, said = desk.prepare("tracks", "trailing_commas.csv")
    desk.says("rows of 11 fields, the header of 10", said, "rows of 10 fields")
    code, said = desk.prepare("tracks", "@list_bom.txt")
    desk.check("the byte order mark is dropped", said.splitlines()[0], code == 0)
    _, said = desk.prepare("waymo-motion", "lfs_pointer.tfrecord")
    desk.says("a Git LFS pointer", said, "LFS")


def headings_off(desk: Desk) -> None:
    for name in ("all_yaws_40_degrees_off", "degrees_on_a_road_at_12_degrees"):
        desk.prepare("tracks", f"{name}.csv")
        way = desk.open()["ego_pose"].values[0, -1]
        off = float(np.degrees(wrap_angle(np.arctan2(way[1], way[0]))))
        desk.finds(f"{name} ({off:.0f} degrees)", "to one side")


def resumed_pickle(desk: Desk) -> None:
    with contextlib.chdir(desk.folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make.py", "run"])
        runpy.run_path("make.py")
    sequence_store(desk.folder / "val.zarr", [[Mover(0, 0, speed=4)]] * 2)
    shutil.copy(CONFIG, desk.folder / "run/config.yaml")
    given = ("--config", str(CONFIG), "--data", "val.zarr", "--output", "run", "--resume")
    code, said = desk.forecast("train", *given)
    ran = (desk.folder / "PWNED").exists()
    desk.check("no code runs", "it ran" if ran else said, not ran)
    desk.check("refused", f"exit {code}", code == 2)


RIGHT: dict[str, Callable[[Desk], None]] = {
    "01-scenarionet-defaultdict": defaultdict_pickle,
    "02-scenarionet-size-array": size_array,
    "03-waymo-json-units-by-reversing-car": reversing_car,
    "05-tracks-class-without-typical-size": class_without_size,
    "06-tracks-unmarked-ego-seen-too-short": ego_seen_too_short,
    "07-tracks-id-reused-by-another-agent": reused_id,
    "08-map-of-another-place-or-unit": map_elsewhere,
    "10-implausible-sizes-and-speeds": implausible,
    "11-rasters-mirrored-or-turned": rasters_turned,
    "13-two-rules-for-the-cells-of-a-box": cells_of_a_box,
    "14-ceiling-below-a-forecast": oracle_is_highest,
    "15-evaluate-against-another-centre": another_centre,
    "16-nuscenes-format-other-rate": keyframe_rate,
    "17-heading-flips-and-jitter": heading_flips,
    "17-heading-flips-and-jitter/packaged": packaged_heading_flips,
    "19-segments-stacked-in-one-sequence": stacked_segments,
    "20-kitti-across-the-antimeridian": antimeridian,
    "22-more-than-256-agents": crowd,
    "23-against-misses-the-same-drive-shifted": same_drive,
    "24-yaw-conventions-and-float32-silent-in-prepare": yaw_conventions,
    "25-messages-that-mislead": messages,
    "26-every-heading-off-by-up-to-45-degrees": headings_off,
    "resume_pickle": resumed_pickle,
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine"),
]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Of all cases that were run; printed after the last."""
    rows = Table("case", "right", "got", "", title="cases", show_lines=False)
    yield rows
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        Console(width=160).print("\n", rows)


@pytest.mark.parametrize("name", RIGHT)
def test_case(name: str, tmp_path: Path, table: Table) -> None:
    folder = CASES / name.removesuffix("/packaged")
    if not folder.is_dir():
        pytest.skip(f"case {name} is not on this machine")
    shutil.copytree(folder, tmp_path / "case")
    desk = Desk(tmp_path / "case")
    try:
        RIGHT[name](desk)
    finally:
        for number, (right, got, holds) in enumerate(desk.found):
            shown = got if len(got) < 70 else f"{got[:67]}..."
            table.add_row("" if number else name[:32], right, shown, "" if holds else "WRONG")
    assert desk.found
    wrong = [f"{right}: got {got}" for right, got, holds in desk.found if not holds]
    assert not wrong, "\n".join(wrong)


def test_no_case_is_forgotten() -> None:
    assert {folder.name for folder in CASES.iterdir() if folder.is_dir()} <= set(RIGHT)
