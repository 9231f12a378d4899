"""A user's own dense frames: three layouts, one result, and every fault in one line."""

import json

import numpy as np
import pytest
import xarray as xr

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import source
from forecast.data.reader import SequenceReader
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.schema import MAP_LAYERS
from forecast.storage.stores import open_sequence_store
from tests.support.rasters import drive, seen, write_folder, write_netcdf, write_zarr
from tests.support.stores import Mover

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)
WIDE = BEVGrid(-60.0, 80.0, -50.0, 50.0, 0.5)
OPTIONS = PrepareOptions(grid=GRID)
TRAFFIC = (
    Mover(6.0, 3.0, 0.1, 6.0),
    Mover(2.0, -4.0, 1.6, 0.0),
    Mover(14.0, -1.0, 2.9, 4.0, 0.1),
    Mover(4.0, 6.0, length=2.0, width=1.0, label=3),
)
STILL = Mover(100.0, 50.0, 2.0)
AHEAD = tuple(  # the same traffic, seen from there
    Mover(
        100.0 + m.x * np.cos(2.0) - m.y * np.sin(2.0),
        50.0 + m.x * np.sin(2.0) + m.y * np.cos(2.0),
        m.yaw + 2.0,
        m.speed,
        m.turn_rate,
        m.length,
        m.width,
        m.label,
    )
    for m in TRAFFIC
)


def prepared(tmp_path, *inputs, options=OPTIONS):
    out = str(tmp_path / "out.zarr")
    report = prepare("rasters", [str(path) for path in inputs], out, options)
    return open_sequence_store(out)[0].load(), report


def exact(scene, options=OPTIONS):
    """The sequences of the boxes themselves."""
    from data_tools.windows import sequences, usable_tracks

    return list(sequences(scene, usable_tracks(scene, options.classes), options))


def test_an_ego_that_stands_gives_the_rasters_as_they_were(tmp_path):
    scene = drive(AHEAD, STILL)
    stored, report = prepared(tmp_path, write_zarr(tmp_path / "drive.zarr", seen(scene, GRID)))
    windows = exact(scene)
    assert report.sequences == len(windows) == 5
    for row, window in enumerate(windows):
        np.testing.assert_array_equal(stored["semantic"][row], window.semantic)
        # Ids count those that are seen; the boxes' tracks also those that never cover a cell.
        np.testing.assert_array_equal(stored["instance"][row] > 0, window.instance > 0)
        np.testing.assert_array_equal(stored["map"][row], window.map)
        np.testing.assert_allclose(stored["bev"][row, :, 0, 0], GRID.x_m[None] + np.zeros((9, 1)))
    assert stored["instance"].max() == 4
    assert "track_state" not in stored
    assert "track_class" not in stored
    assert stored["channel"].values.tolist() == ["ahead"]
    assert stored.attrs["protocol"]["name"] == "warped"
    assert stored["scene"].values.tolist() == ["drive"] * 5


def test_frames_of_a_moving_ego_meet_in_the_present_frame(tmp_path):
    scene = drive(TRAFFIC, Mover(0.0, 0.0, 0.2, 5.0, 0.15))
    fine = seen(scene, BEVGrid(-80.0, 80.0, -70.0, 70.0, 0.2)).drop_vars("bev")
    options = PrepareOptions(grid=BEVGrid(-40.0, 45.0, -40.0, 40.0, 0.5), stride=2)
    stored, _ = prepared(tmp_path, write_zarr(tmp_path / "drive.zarr", fine), options=options)
    for row, window in enumerate(exact(scene, options)):
        np.testing.assert_allclose(stored["ego_pose"][row], window.ego_pose, atol=1e-12)
        np.testing.assert_array_equal(stored["instance"][row] > 0, stored["semantic"][row] > 0)
        road, semantic = stored["map"][row, 0].values, stored["semantic"][row].values
        assert overlap(road, window.map[0]) > 0.98
        assert overlap(semantic, window.semantic) > 0.9
        for agent in np.unique(window.instance)[1:]:
            ids = stored["instance"][row].values[window.instance == agent]
            assert np.bincount(ids[ids > 0]).max() > 0.75 * len(ids)  # one id in all frames


def overlap(have, want):
    """Share of the cells of either that both give the same label."""
    return ((have == want) & (want > 0)).sum() / ((have > 0) | (want > 0)).sum()


def test_the_three_layouts_hold_the_same(tmp_path):
    data = seen(drive(TRAFFIC, Mover(0.0, 0.0, speed=5.0)), WIDE)
    inputs = {
        "zarr": write_zarr(tmp_path / "z.zarr", data),
        "zarr-2": write_zarr(tmp_path / "old.zarr", data, version=2),
        "folder": write_folder(tmp_path / "folder", data, WIDE),
        "netcdf": write_netcdf(tmp_path / "three.nc", data),
    }
    scenes = {kind: source("rasters").read(path, 0.5) for kind, path in inputs.items()}
    for kind, scene in scenes.items():
        for name in ("semantic", "instance", "map", "bev", "ego_pose", "time_s"):
            np.testing.assert_array_equal(getattr(scene, name), getattr(scenes["zarr"], name))
        assert scene.grid == WIDE, kind
        assert (scene.native, scene.channels) == (scenes["zarr"].native, ("ahead",))


@pytest.mark.parametrize(("number", "fits"), [(255, True), (256, False)])
def test_more_classes_than_a_byte_numbers_are_refused(tmp_path, number, fits):
    data = seen(drive(TRAFFIC, STILL), GRID)
    data["semantic"] = data["semantic"].astype(np.uint16)
    data["semantic"][:, 0, 0] = number
    data.attrs["classes"] = [f"class{k}" for k in range(1, number + 1)]
    path = write_zarr(tmp_path / "z.zarr", data)
    if fits:
        assert (source("rasters").read(path, 0.5).semantic[:, 0, 0] == number).all()
        return
    with pytest.raises(DataError, match="255 classes at most; got 256 in"):
        source("rasters").read(path, 0.5)


def test_netcdf_4_is_read_where_its_package_is(tmp_path):
    pytest.importorskip("h5netcdf")
    data = seen(drive(TRAFFIC, STILL), GRID)
    scene = source("rasters").read(write_netcdf(tmp_path / "4.nc", data, "h5netcdf"), 0.5)
    np.testing.assert_array_equal(scene.semantic, data["semantic"])


def test_netcdf_4_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("data_tools.sources.rasters_files.find_spec", lambda name: None)
    (tmp_path / "four.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match=r"pip install .*netcdf"):
        source("rasters").read(str(tmp_path / "four.nc"), 0.5)


def test_recordings_are_found_in_folders_and_as_urls(tmp_path):
    data = seen(drive(AHEAD, STILL), GRID)
    write_zarr(tmp_path / "in" / "b.zarr", data)
    write_folder(tmp_path / "in" / "deep" / "c", data, GRID)
    write_netcdf(tmp_path / "in" / "a.nc", data)
    found = source("rasters").find([f"{tmp_path}/in"])
    assert found == [f"{tmp_path}/in/{name}" for name in ("a.nc", "b.zarr", "deep/c")]
    urls = source("rasters").find([f"file://{tmp_path}/in"])
    assert urls == [f"file://{path}" for path in found]
    for url in urls:
        assert source("rasters").read(url, 0.5).semantic.any()
    assert source("rasters").find([f"{tmp_path}/in/b.zarr", f"{tmp_path}/in/deep/*"]) == found[1:]


def test_frames_are_thinned_out_and_gaps_stay_gaps(tmp_path):
    data = seen(drive(TRAFFIC, Mover(0.0, 0.0, speed=5.0), frames=121, dt_s=0.1), GRID)
    data = data.assign_coords(time=data["time"] + 7.0).drop_isel(time=[55, 57])
    scene = source("rasters").read(write_zarr(tmp_path / "d.zarr", data), 0.5)
    np.testing.assert_allclose(scene.time_s, 7.0 + 0.5 * np.arange(25))
    assert np.flatnonzero(scene.row < 0).tolist() == [11]
    assert scene.notes == {"frames missing": 1}
    assert len(scene.semantic) == 24
    np.testing.assert_allclose(scene.ego_pose[[10, 12], 0], [25.0, 30.0])
    stored, _ = prepared(tmp_path, tmp_path / "d.zarr")
    # Of nine frames each: three before the gap and five after it.
    expected = [8.0, 8.5, 9.0, 14.0, 14.5, 15.0, 15.5, 16.0]
    np.testing.assert_allclose(stored["init_time"], expected)


def test_dates_are_times_too(tmp_path):
    data = seen(drive(TRAFFIC, STILL), GRID)
    began = np.datetime64("2026-01-02T03:04:05", "ns")
    steps = (data["time"].values * 1e9).astype("timedelta64[ns]")
    data = data.assign_coords(time=began + steps)
    scene = source("rasters").read(write_zarr(tmp_path / "d.zarr", data), 0.5)
    np.testing.assert_allclose(scene.time_s, 1767323045.0 + 0.5 * np.arange(13), atol=1e-6)


def test_labels_become_classes_and_ids_count_those_kept(tmp_path):
    data = seen(drive(AHEAD, STILL), GRID)
    data.attrs["classes"] = "car, person, bike"
    data["instance"] = data["instance"].astype(np.int64) * 10**12
    options = PrepareOptions(grid=GRID, classes=("cyclist",), map_classes=(("bike", "cyclist"),))
    stored, report = prepared(tmp_path, write_zarr(tmp_path / "d.zarr", data), options=options)
    assert np.unique(stored["semantic"]).tolist() == [0, 1]
    np.testing.assert_array_equal(stored["instance"], stored["semantic"])
    assert report.notes["frames with bike, kept as cyclist"] == 13
    assert report.notes["frames with car, left out"] == 13
    assert "frames with person, left out" not in report.notes


def test_classes_that_are_declared_but_never_drawn_are_nobody(tmp_path):
    data = seen(drive(AHEAD, STILL), GRID)
    data["semantic"] = (data["semantic"] > 0).astype(np.uint8)
    data.attrs["classes"] = "tram, vehicle, cyclist"
    path = write_zarr(tmp_path / "d.zarr", data)
    with pytest.raises(DataError, match=r"agents of class vehicle; got none, but of tram"):
        prepared(tmp_path, path, options=PrepareOptions(grid=GRID, classes=("vehicle",)))
    empty = data.assign(semantic=0 * data["semantic"], instance=0 * data["instance"])
    stored, _ = prepared(tmp_path, write_zarr(tmp_path / "e.zarr", empty))
    assert not stored["semantic"].any()


def test_what_is_not_given_is_empty_or_absent(tmp_path):
    data = seen(drive(TRAFFIC, STILL), GRID)[["semantic", "ego_pose"]]
    stored, _ = prepared(tmp_path, write_zarr(tmp_path / "d.zarr", data))
    assert not stored["instance"].any()
    assert "map" not in stored
    assert "bev" not in stored
    assert stored.attrs["map_layers"] == []


def test_frames_that_end_before_the_grid_are_told(tmp_path):
    data = seen(drive(TRAFFIC, STILL), BEVGrid(-12.0, 19.0, -8.0, 8.0, 0.5))
    stored, report = prepared(tmp_path, write_zarr(tmp_path / "d.zarr", data))
    assert report.notes["scenes whose frames end before the grid does"] == 1
    assert not stored["bev"][..., GRID.x_m > 19.0].any()


def test_the_reader_hands_the_channels_to_the_model(tmp_path):
    path = write_zarr(tmp_path / "d.zarr", seen(drive(AHEAD, STILL), GRID))
    prepare("rasters", [path], str(tmp_path / "out.zarr"), OPTIONS)
    reader = SequenceReader(str(tmp_path / "out.zarr"))
    assert reader.bev_channels == 1
    bev = reader[0].bev
    assert bev is not None
    assert bev.shape == (1, 9, 1, *GRID.shape)


def test_recordings_of_different_channels_make_no_store(tmp_path):
    data = seen(drive(TRAFFIC, STILL), GRID)
    write_zarr(tmp_path / "in" / "a.zarr", data)
    write_zarr(tmp_path / "in" / "b.zarr", data.drop_vars(("bev", "channel")))
    with pytest.raises(DataError, match=r"ahead in .*a\.zarr; none in .*b\.zarr"):
        prepared(tmp_path, tmp_path / "in")
    assert not (tmp_path / "out.zarr").exists()


def changed(name, value, at=(3,)):
    def change(data):
        values = data[name].values.copy()
        values[at] = value
        return data.assign({name: (data[name].dims, values)})

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.drop_vars("ego_pose"), r"a variable 'ego_pose'; got none in .*bad\.zarr"),
        (lambda d: d.drop_vars("semantic"), "a variable 'semantic'"),
        (lambda d: d.drop_vars("time"), "a variable 'time'"),
        (lambda d: d.drop_vars("x"), "a coordinate x"),
        (lambda d: d.transpose("x", ...), r"semantic\(time, y, x\); got \(x 64, time 13, y 32\)"),
        (lambda d: d.isel(y=slice(None, None, -1)), "y that ascends"),
        (lambda d: d.assign_coords(x=d["x"] * 2), "square cells; got 1 m by 0.5 m"),
        (lambda d: d.isel(pose=slice(2)), "x, y, yaw in ego_pose; got 2"),
        (changed("ego_pose", np.nan), r"finite numbers in ego_pose; got nan in frame 3 of"),
        (changed("ego_pose", 90.0), "radians .*got 90.0 in frame 3 of"),
        (changed("bev", np.inf), "finite numbers in bev; got inf in frame 3 of"),
        (changed("semantic", 7), "0 to 3 in semantic; got 7 in frame 3 of"),
        (lambda d: d.assign(semantic=d["semantic"].astype(float)), "whole numbers in semantic"),
        (
            lambda d: d.assign(instance=d["instance"].astype(int) - 1),
            "in instance; got -1 in frame 0",
        ),
        (changed("map", 2), "0 to 1 in map; got 2 in frame 3 of"),
        (changed("time", 0.7), r"ascend; got 0\.7 s after 1 s in frame 3 of"),
        (changed("time", np.nan), "ascend; got nan s after 1 s in frame 3 of"),
        (changed("time", 1.7), r"0\.5 s apart"),
        (lambda d: d.isel(time=slice(1)), "two frames"),
        (lambda d: d.isel(time=slice(6)), "9 frames in a row"),
        (lambda d: d.assign_coords(time=d["time"] * 0.8), r"divides 0\.5 s"),
        (lambda d: d.assign_attrs(classes=[]), "different names in classes"),
        (lambda d: d.assign_attrs(classes=1.5), "different names in classes"),
        (lambda d: d.assign_attrs(classes=["car", "Car"]), "different names in classes"),
        (
            lambda d: d.assign_coords(map_layer=np.array(["drivable", *"bcd"], object)),
            "map layers of drivable.*got 'b'",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_frame(tmp_path, change, reason):
    bad = change(seen(drive(TRAFFIC, STILL), GRID))
    path = write_zarr(tmp_path / "bad.zarr", bad)
    with pytest.raises(DataError, match=reason) as caught:
        prepared(tmp_path, path)
    assert "bad.zarr" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rasters.json", b"{", "a JSON file"),
        ("rasters.json", b"[]", "grid and classes"),
        ("rasters.json", b'{"grid": 3}', "a grid of x_min_m"),
        ("rasters.json", b'{"grid": {"x_min_m": 0}}', "a grid of x_min_m"),
        ("semantic.npy", b"nothing", "semantic.npy"),
        ("time.npy", b"\x93NUMPY\x01\x00\x08\x00{'descr(", "time.npy"),
        ("ego_pose.npy", None, "a variable 'ego_pose'"),
        ("time.npy", None, "a variable 'time'"),
    ],
)
def test_a_folder_at_fault_is_one_line(tmp_path, name, content, reason):
    folder = tmp_path / "bad"
    write_folder(folder, seen(drive(TRAFFIC, STILL), GRID), GRID)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        source("rasters").read(str(folder), 0.5)
    assert "bad" in str(caught.value)


def test_times_of_half_precision_are_read(tmp_path):
    folder = tmp_path / "half"
    write_folder(folder, seen(drive(TRAFFIC, STILL), GRID), GRID)
    np.save(folder / "time.npy", np.load(folder / "time.npy").astype(np.float16))
    np.testing.assert_array_equal(source("rasters").read(str(folder), 0.5).time_s[:2], [0.0, 0.5])


def test_a_store_whose_metadata_are_beyond_their_type_is_one_line(tmp_path):
    path = write_zarr(tmp_path / "bad.zarr", seen(drive(TRAFFIC, STILL), GRID))
    about = tmp_path / "bad.zarr/instance/zarr.json"
    content = json.loads(about.read_text()) | {"fill_value": 9_000_000}
    about.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"bad\.zarr \(.*out of bounds"):
        source("rasters").read(path, 0.5)


def test_arrays_that_do_not_fit_each_other_are_one_line(tmp_path):
    folder = tmp_path / "bad"
    write_folder(folder, seen(drive(TRAFFIC, STILL), GRID), GRID)
    np.save(folder / "instance.npy", np.zeros((4, 5, 6), int))
    with pytest.raises(DataError, match=r"bad .*conflicting sizes"):
        source("rasters").read(str(folder), 0.5)
    np.save(folder / "instance.npy", np.zeros((4, 5), int))
    with pytest.raises(DataError, match=r"instance\(time, y, x\)"):
        source("rasters").read(str(folder), 0.5)


def test_a_file_of_another_kind_or_cut_off_is_one_line(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"none of it")
    with pytest.raises(DataError, match=r"NetCDF.*a\.nc"):
        source("rasters").read(str(tmp_path / "a.nc"), 0.5)
    (tmp_path / "b.nc").write_bytes(b"CDF\x01\x00")
    with pytest.raises(DataError, match=r"b\.nc"):
        source("rasters").read(str(tmp_path / "b.nc"), 0.5)
    with pytest.raises(DataError, match="none"):
        source("rasters").read(str(tmp_path / "none.zarr"), 0.5)


@pytest.mark.parametrize("ending", [".png", ".npy"])
def test_a_folder_of_other_files_says_what_is_there_and_what_a_recording_is(tmp_path, ending):
    for number in range(3):
        (tmp_path / f"{number}{ending}").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("of the driver")
    content = f"rasters.json and .*; got 4 files, of {ending}, .txt, at .*docs/data_format.md"
    with pytest.raises(DataError, match=content):
        source("rasters").find([str(tmp_path)])


def test_a_picture_is_told_what_a_recording_is(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (unit,) = source("rasters").find([str(tmp_path / "a.png")])
    with pytest.raises(DataError, match=r"a folder with rasters\.json .*a\.png, a file that is no"):
        source("rasters").read(unit, 0.5)


def test_more_than_memory_holds_is_refused(tmp_path, monkeypatch):
    path = write_zarr(tmp_path / "d.zarr", seen(drive(TRAFFIC, STILL), GRID))
    monkeypatch.setattr("data_tools.sources.rasters_frames.MAX_BYTES", 1000)
    with pytest.raises(DataError, match="split the recording"):
        source("rasters").read(path, 0.5)


def test_layers_of_the_map_are_taken_by_name(tmp_path):
    data = seen(drive(TRAFFIC, STILL), GRID).isel(map_layer=[1])
    scene = source("rasters").read(write_zarr(tmp_path / "d.zarr", data), 0.5)
    assert scene.map.shape[1] == len(MAP_LAYERS)
    np.testing.assert_array_equal(scene.map[:, 1], data["map"][:, 0])
    assert not scene.map[:, [0, 2, 3]].any()
    assert isinstance(data, xr.Dataset)


@pytest.mark.parametrize(("kind", "warned"), [(np.float32, True), (np.float64, False)])
def test_poses_of_an_ego_that_lost_precision_are_warned_of(tmp_path, kind, warned):
    far = Mover(6e5 + 0.3, 5.3e6 + 0.7, 0.4, 6.0)
    data = seen(drive((far,), far, frames=40), GRID)
    data["ego_pose"] = data["ego_pose"].astype(kind)
    _, report = prepared(tmp_path, write_zarr(tmp_path / "drive.zarr", data))
    assert any("lost precision in float32" in line for line in report.warnings) == warned
