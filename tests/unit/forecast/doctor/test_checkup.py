"""`forecast doctor STORE`: a good store corrupted in one way gives that finding and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from forecast.checkpoint.packaged import packaged
from forecast.cli import doctor as cli_doctor
from forecast.cli import main as cli
from forecast.doctor import places
from forecast.doctor.checkup import (
    CHECKS,
    LANE_CHECK,
    MAP_CHECK,
    OF_IDS,
    OVERLAP_CHECK,
    Checkup,
    examine_store,
)
from forecast.doctor.clip import Clip, clip_of
from forecast.errors import DataError
from forecast.schema import SequenceMeta
from forecast.storage.stores import open_sequence_store
from tests.support.stores import GRID, Mover, classes_alone, sequence_dataset, sequence_store

WAYMO = Path(__file__).parents[4] / "../shared/data/waymo_motion_json"
TRAFFIC = (
    Mover(0.0, 0.0, speed=6.0),  # the ego
    Mover(9.0, -3.5, 0.1, speed=5.0, turn_rate=0.05),
    Mover(4.0, 4.0, np.pi, speed=4.0),
    Mover(-9.0, 9.0, 1.2),
    Mover(14.0, 9.0, 0.4),
    Mover(16.0, -9.0, 0.7),
    Mover(2.0, 8.0, 2.0, speed=1.4, length=0.8, width=0.8, label=2),
)


def good() -> xr.Dataset:
    """Two sequences of traffic around a moving ego."""
    data = sequence_dataset([TRAFFIC, TRAFFIC[:5]])
    data["ego_pose"].values[..., 0] = data["time"].values * TRAFFIC[0].speed
    return data


def clips(data: xr.Dataset) -> list[Clip]:
    meta = SequenceMeta.from_attrs(data.attrs, "made up")
    return [clip_of(data, meta, index) for index in range(data.sizes["sequence"])]


def findings(data: xr.Dataset) -> dict[str, list[tuple[int, int | None, str]]]:
    """Check -> (sequence, agent, text) of what is found."""
    found = {
        name: [
            (i, one.agent, one.text) for i, clip in enumerate(clips(data)) for one in check(clip)
        ]
        for name, check in CHECKS.items()
    }
    return {name: texts for name, texts in found.items() if texts}


def test_a_good_store_has_no_findings() -> None:
    assert findings(good()) == {}


def unknown_class(data: xr.Dataset) -> None:
    data["semantic"].values[0, :, 0, 0] = 9
    data["instance"].values[0, :, 0, 0] = 1


def track_of_unknown_class(data: xr.Dataset) -> None:
    data["track_class"].values[1, 2] = 7


def class_forgotten(data: xr.Dataset) -> None:
    data["track_class"].values[0, 3] = 0


def class_changes(data: xr.Dataset) -> None:
    cells = data["instance"].values[0, 4] == 4
    data["semantic"].values[0, 4][cells] = 3


def id_without_track(data: xr.Dataset) -> None:
    cells = data["instance"].values[1] == 4
    data["instance"].values[1][cells] = 60


def ids_without_class(data: xr.Dataset) -> None:
    data["semantic"].values[0, 2] = 0


def one_agent_twice(data: xr.Dataset) -> None:
    data["track_state"].values[0, 5] = data["track_state"].values[0, 4]
    cells = data["instance"].values[0] == 6
    data["instance"].values[0][cells] = data["semantic"].values[0][cells] = 0


def torn_box(data: xr.Dataset) -> None:
    data["track_state"].values[0, 3, 2, 2] = np.nan


def flat_box(data: xr.Dataset) -> None:
    data["track_state"].values[1, 3, :, 4] = 0.0


def masks_elsewhere(data: xr.Dataset) -> None:
    for name in ("instance", "semantic"):
        data[name].values[0, 5] = np.roll(data[name].values[0, 5], 12, axis=1)


def masks_mirrored(data: xr.Dataset) -> None:
    for name in ("instance", "semantic"):
        data[name].values[:] = data[name].values[:, :, ::-1]


def box_not_drawn(data: xr.Dataset) -> None:
    cells = data["instance"].values[0] == 4
    data["instance"].values[0][cells] = data["semantic"].values[0][cells] = 0


def teleport(data: xr.Dataset) -> None:
    data["track_state"].values[0, 1, 5:, 0] -= 20.0


def swapped_ids(data: xr.Dataset) -> None:
    state = data["track_state"].values
    state[0, [3, 4], 4:] = state[0, [4, 3], 4:]


def degrees(data: xr.Dataset) -> None:
    data["track_state"].values[..., 2] *= 180 / np.pi


def swapped_axes(data: xr.Dataset) -> None:
    data["track_state"].values[..., 2] = np.pi / 2 - data["track_state"].values[..., 2]


def ego_elsewhere(data: xr.Dataset) -> None:
    data["ego_pose"].values[0, :, :2] += 1000.0


def ego_in_degrees(data: xr.Dataset) -> None:
    data["ego_pose"].values[0, :, 2] = np.linspace(-20, 40, 9)


def ego_without_pose(data: xr.Dataset) -> None:
    data["ego_pose"].values[1, 0] = np.nan


def ego_of_another_drive(data: xr.Dataset) -> None:
    data["ego_pose"].values[1, :, 0] *= -1


CORRUPTIONS: dict[Callable[[xr.Dataset], None], tuple[str, int, int | None, str]] = {
    unknown_class: ("classes known", 0, None, "class 9"),
    track_of_unknown_class: ("classes known", 1, 3, "class 7"),
    class_forgotten: ("classes known", 0, 4, "no class"),
    class_changes: ("ids constant", 0, 4, "changes its class: vehicle, cyclist"),
    id_without_track: ("ids constant", 1, 60, "no track"),
    ids_without_class: ("ids constant", 0, None, "an id but no class"),
    one_agent_twice: ("ids unique", 0, 5, "lies on agent 6"),
    torn_box: ("boxes whole", 0, 4, "not finite in frame 2"),
    flat_box: ("boxes whole", 1, 4, "not above 0"),
    masks_elsewhere: ("masks agree with boxes", 0, 1, "frame 5 lies outside"),
    masks_mirrored: ("masks agree with boxes", 0, 4, "lies outside of its box"),
    box_not_drawn: ("masks agree with boxes", 0, 4, "nothing is drawn in frame 0"),
    teleport: ("no teleports", 0, 2, "from frame 4 to 5"),
    swapped_ids: ("no teleports", 0, 4, "from frame 3 to 4"),
    degrees: ("headings follow motion", 0, 3, "degrees instead of radians"),
    swapped_axes: ("headings follow motion", 0, 1, "x and y swapped"),
    ego_elsewhere: ("ego poses consistent", 0, None, "not at the origin"),
    ego_in_degrees: ("ego poses consistent", 0, None, "degrees instead of radians"),
    ego_without_pose: ("ego poses consistent", 1, None, "not finite"),
    ego_of_another_drive: ("ego poses consistent", 1, 1, "is the ego at present"),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
def test_a_corruption_is_found_where_it_is(corrupt: Callable[[xr.Dataset], None]) -> None:
    check, sequence, agent, words = CORRUPTIONS[corrupt]
    data = good()
    corrupt(data)
    found = findings(data).get(check, [])
    assert [one for one in found if one[:2] == (sequence, agent) and words in one[2]], found


@pytest.mark.parametrize("corrupt", [teleport, swapped_ids])
def test_masks_alone_show_teleports_too(corrupt: Callable[[xr.Dataset], None]) -> None:
    data = good()
    ids = data["instance"].values[0]
    if corrupt is teleport:
        ids[5:] = np.roll(ids[5:], 24, axis=-1)
    else:
        four, five = ids[4:] == 4, ids[4:] == 5
        ids[4:][four], ids[4:][five] = 5, 4
    data = data.drop_vars(["track_state", "track_class"])
    assert 4 in [agent for _, agent, _ in findings(data)["no teleports"]]


def test_one_id_for_agents_far_apart_is_found_in_masks_alone() -> None:
    data = good()
    for name, value in (("instance", 3), ("semantic", 1)):
        data[name].values[0, 1, :2, :2] = data[name].values[0, 1, -2:, -2:] = value
    data = data.drop_vars(["track_state", "track_class"])
    assert findings(data)["ids unique"][0][1] == 3


def street(shift_m: float = 0.0, mirrored: bool = False) -> dict[tuple[int, str], np.ndarray]:
    """Votes of ten scenes, two lanes of traffic on a road 8 m wide to the ego's right."""
    movers = [Mover(-10.0 + 4 * i, -6.5 + 6 * (i % 2), speed=5.0) for i in range(4)]
    data = sequence_dataset([movers] * 10)
    road = abs(GRID.y_m + 3.0 - shift_m) < 4
    data["map"].values[:, 0] = (road[::-1] if mirrored else road)[:, None]
    return {(i, f"scene-{i}"): places.vehicles_on_road(clip) for i, clip in enumerate(clips(data))}


def test_a_map_under_the_traffic_is_fine() -> None:
    assert list(places.map_fits_motion(street())) == []


def test_a_map_beside_the_traffic_is_found() -> None:
    (found,) = places.map_fits_motion(street(shift_m=4.0))
    assert "4 m too far to the left?" in found.text


def test_a_mirrored_map_is_found() -> None:
    (found,) = places.map_fits_motion(street(mirrored=True))
    assert "left to right" in found.text
    assert "least so in sequence" in found.text


def test_one_scene_with_a_map_of_elsewhere_is_named() -> None:
    votes = street()
    votes[3, "scene-3"] = street(shift_m=10.0)[3, "scene-3"]
    (found,) = places.map_fits_motion(votes)
    assert (found.sequence, found.scene) == (3, "scene-3")


def winding_lanes(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    turns = np.cumsum(random.normal(0, 0.2, (4, 40)), axis=1)
    steps = 1.7 * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    start = 10 * random.normal(size=(4, 1, 2))
    return np.concatenate(list(start + steps.cumsum(axis=1)))


def prints_of(scene: str, points: np.ndarray) -> places.Prints:
    (clip,) = clips(sequence_dataset([[Mover(0.0, 0.0)]]))
    prints = places.Prints()
    prints.add(scene, replace(clip, lanes=np.c_[points, np.zeros(len(points))]))
    return prints


def test_the_same_place_is_recognised_from_elsewhere_under_another_name() -> None:
    lanes = winding_lanes(0)
    turn = np.array([[np.cos(2.0), -np.sin(2.0)], [np.sin(2.0), np.cos(2.0)]])
    seen_again = (lanes @ turn.T + (30.0, -12.0))[:110]
    (found,) = places.overlap(prints_of("monday", lanes), prints_of("friday", seen_again))
    assert found.scene == "monday"
    assert "friday" in found.text
    assert list(places.overlap(prints_of("monday", lanes), prints_of("x", winding_lanes(1)))) == []


def test_the_same_drive_is_recognised_under_another_name(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "a.zarr", [TRAFFIC])
    renamed = sequence_store(tmp_path / "b.zarr", [TRAFFIC], first=5)
    (found,) = examine_store(store, renamed).findings[OVERLAP_CHECK]
    assert "same drive as scene-5" in found.text


def test_a_scene_in_both_stores_is_found_and_the_exit_code_is_1(tmp_path: Path) -> None:
    store = str(tmp_path / "good.zarr")
    good().to_zarr(store, mode="w", zarr_format=3, consolidated=False)
    assert CliRunner().invoke(cli.app, ["doctor", store]).exit_code == 0
    result = CliRunner().invoke(cli.app, ["doctor", store, "--against", store])
    assert result.exit_code == cli_doctor.FOUND_WRONG
    assert "(scene-1): is in both stores" in result.output


def test_findings_name_the_sequence_and_the_agent(tmp_path: Path) -> None:
    data = good()
    teleport(data)
    data.to_zarr(tmp_path / "s.zarr", mode="w", zarr_format=3, consolidated=False)
    result = CliRunner().invoke(cli.app, ["doctor", str(tmp_path / "s.zarr")])
    assert result.exit_code == cli_doctor.FOUND_WRONG
    assert "sequence 0 (scene-0), agent 2: jumps" in result.output


def test_what_cannot_be_read_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        examine_store(str(tmp_path / "nowhere.zarr"))
    store = sequence_store(tmp_path / "empty.zarr", [])
    with pytest.raises(DataError, match="at least one sequence"):
        examine_store(store)


def test_stores_without_tracks_say_what_was_not_examined(tmp_path: Path) -> None:
    data = good().drop_vars(["track_state", "track_class"])
    data.to_zarr(tmp_path / "s.zarr", mode="w", zarr_format=3, consolidated=False)
    checkup = examine_store(str(tmp_path / "s.zarr"))
    assert checkup.healthy
    for name in ("headings follow motion", MAP_CHECK, LANE_CHECK):
        assert checkup.skipped[name] == "the store has no track_state"
    assert "straight on at one speed" in checkup.skipped["frames in the present frame"]
    assert set(OF_IDS) & set(checkup.skipped) == {"frames in the present frame"}, "masks have ids"


def test_what_needs_ids_is_not_called_fine_where_there_are_none(tmp_path: Path) -> None:
    store = str(tmp_path / "s.zarr")
    classes_alone(good()).to_zarr(store, mode="w", zarr_format=3, consolidated=False)
    result = CliRunner().invoke(cli.app, ["doctor", store])
    assert result.exit_code == 0, "a store of classes alone is whole"
    for name in OF_IDS:
        assert f"{name}: not examined, the store has no ids" in result.output
    assert "ego poses consistent: fine" in result.output


def test_a_wrong_class_is_found_in_a_store_without_ids() -> None:
    data = classes_alone(good())
    data["semantic"].values[0, :, 0, 0] = 9
    assert set(findings(data)) == {"classes known"}


def test_one_sequence_with_ids_is_examined_among_others_without(tmp_path: Path) -> None:
    data = classes_alone(good())
    data["instance"].values[1] = good()["instance"].values[1]
    data["instance"].values[1, :, 0, 0] = 9
    store = str(tmp_path / "s.zarr")
    data.to_zarr(store, mode="w", zarr_format=3, consolidated=False)
    checkup = examine_store(store)
    assert [one.sequence for one in checkup.findings["ids constant"]] == [1]
    assert not {"ids constant", "ids unique", "no teleports"} & set(checkup.skipped)


def test_only_exact_labels_are_held_to_their_boxes(tmp_path: Path) -> None:
    data = good()
    for name in ("instance", "semantic"):
        data[name].values[:, -1] = np.roll(data[name].values[:, -1], 8, axis=-1)
    assert set(findings(data)) == {"masks agree with boxes"}
    data.attrs["protocol"] = {**data.attrs["protocol"], "name": "fiery"}
    data.to_zarr(tmp_path / "s.zarr", mode="w", zarr_format=3, consolidated=False)
    checkup = examine_store(str(tmp_path / "s.zarr"))
    assert checkup.healthy
    assert checkup.skipped["masks agree with boxes"] == "which its protocol does not promise"


def trouble(checkup: Checkup) -> list[str]:
    return [f"{name}: {one}" for name, found in checkup.findings.items() for one in found]


def test_the_packaged_sample_has_no_findings() -> None:
    checkup = examine_store(packaged("sample.zarr"))
    assert trouble(checkup) == []
    assert MAP_CHECK not in checkup.skipped


@pytest.mark.skipif(not WAYMO.is_dir(), reason="recordings that may not be redistributed")
def test_recordings_have_no_findings(tmp_path: Path) -> None:
    from data_tools.options import PrepareOptions
    from data_tools.prepare import prepare

    files = sorted(str(path) for path in WAYMO.glob("tfrecord-0001*.json.gz"))[:2]
    output = str(tmp_path / "w.zarr")
    prepare("waymo-json", files, output, replace(PrepareOptions(), stride=8, workers=1))
    assert trouble(examine_store(output)) == []
    assert open_sequence_store(output)[0].sizes["sequence"] > 1
