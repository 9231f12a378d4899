"""From files to a store: its schema, and that it is the same however it came about."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr

from data_tools import prepare as module
from data_tools import store
from data_tools.prepare import PrepareOptions, prepare
from data_tools.store import Piece, part_counts, shards
from forecast.cli.console import print_prepare_report
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.parallel import refusing_deaths
from forecast.schema import MAP_LAYERS, SEQUENCE_VARIABLES, Protocol
from forecast.storage.stores import open_sequence_store
from tests.support.scenarios import agent, crossing, road, scenario, write
from tests.support.stores import Mover, content

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)
OPTIONS = PrepareOptions(grid=GRID)


@pytest.fixture
def files(tmp_path):
    """Four scenarios and, third, a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(5):
        write(folder / f"{index}.json", crossing(index, agents=3 * index))
    (folder / "2.json").write_text("{")
    return [str(folder)]


def test_a_store_has_the_schema_its_sizes_and_its_attributes(tmp_path, files):
    told = []
    out = str(tmp_path / "out.zarr")
    report = prepare("waymo-json", files, out, OPTIONS, lambda *done: told.append(done))
    # Five files, then 44 sequences in shards of 32.
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (6, 7), (7, 7)]
    assert (report.sequences, report.scenes) == (44, 4)
    assert [Path(name).name for name, _ in report.skipped] == ["2.json"]
    assert "expected a JSON scenario" in report.skipped[0][1]
    dataset, meta = open_sequence_store(out)
    assert meta.source == "waymo-json"
    assert meta.grid == GRID
    assert (meta.history, meta.horizon, meta.dt_s) == (3, 6, 0.5)
    assert meta.map_layers == MAP_LAYERS
    assert meta.protocol == Protocol().to_attrs()
    assert dataset.attrs["notes"] == report.notes
    for name, (dims, dtype) in SEQUENCE_VARIABLES.items():
        if name not in ("bev", "direction", "track_score"):
            assert dataset[name].dims == dims
            assert dataset[name].dtype == dtype or dtype == "str"
    np.testing.assert_allclose(dataset["time"], np.arange(-2, 7) * 0.5)
    np.testing.assert_array_equal(dataset["x"], GRID.x_m)
    np.testing.assert_array_equal(dataset["y"], GRID.y_m)
    assert dataset["map_layer"].values.tolist() == list(MAP_LAYERS)
    assert dataset["semantic"].attrs["flag_meanings"] == "background vehicle pedestrian cyclist"
    assert dataset["scene"].values.tolist() == np.repeat(["0", "1", "3", "4"], 11).tolist()
    np.testing.assert_allclose(dataset["init_time"][:11], np.arange(2, 13) * 0.5)
    assert "track_score" not in dataset  # nothing in these files says how sure anyone is


def test_what_is_read_back_is_what_the_windows_were(tmp_path, files):
    from data_tools.sources import source
    from data_tools.windows import sequences, usable_tracks

    out = str(tmp_path / "out.zarr")
    prepare("waymo-json", files, out, OPTIONS)
    dataset, _ = open_sequence_store(out)
    made = source("waymo-json").read(f"{files[0]}/4.json", 0.5)
    windows = list(sequences(made, usable_tracks(made, OPTIONS.classes), OPTIONS))
    for place, window in zip(range(33, 44), windows, strict=True):
        row = dataset.isel(sequence=place)
        for name in ("semantic", "instance", "map", "ego_pose"):
            np.testing.assert_array_equal(row[name], getattr(window, name))
        tracks, points = len(window.track_state), len(window.map_point)
        samples = len(window.sample_time)
        np.testing.assert_array_equal(row["sample_time"][-samples:], window.sample_time)
        assert row["sample_time"][:-samples].isnull().all()
        np.testing.assert_array_equal(
            row["track_history"][:tracks, -samples:], window.track_history
        )
        assert row["track_history"][tracks:].isnull().all()
        assert row["track_history"][:, :-samples].isnull().all()
        np.testing.assert_array_equal(row["track_state"][:tracks], window.track_state)
        assert row["track_state"][tracks:].isnull().all()
        np.testing.assert_array_equal(row["track_class"][:tracks], window.track_class)
        assert not row["track_class"][tracks:].any()
        assert row["track_name"][:tracks].values.tolist() == window.track_name.tolist()
        assert set(window.track_name.tolist()) <= set(made.track_id)
        assert not any(row["track_name"][tracks:].values)
        np.testing.assert_array_equal(row["map_point"][:points], window.map_point)
        assert row["map_point"][points:].isnull().all()


def test_scenes_of_any_length_of_history_go_into_one_store_the_present_last(tmp_path):
    # 0.3 s of history and 0.1 s between frames: the second scene's first present has four samples.
    late = Mover(4.0, 4.0)
    files = [
        write(tmp_path / "0.json", crossing(0)),
        write(
            tmp_path / "1.json", scenario([agent(Mover(0, 0)), agent(late, valid=range(30, 91))])
        ),
    ]
    out = str(tmp_path / "out.zarr")
    options = PrepareOptions(grid=GRID, dt_s=0.1, history=4, horizon=6, stride=80)
    assert prepare("waymo-json", files, out, options).sequences == 4
    dataset, _ = open_sequence_store(out)
    assert dataset.sizes["sample"] == 21
    given = np.isfinite(dataset["sample_time"].values).sum(axis=1)
    assert given.tolist() == [4, 21, 4, 21]
    assert (dataset["sample_time"].values[:, -1] == 0).all()
    present = dataset["track_state"].values[:, :, 3]
    np.testing.assert_array_equal(dataset["track_history"].values[:, :, -1], present)


def test_the_store_is_the_same_for_any_number_of_workers(tmp_path, files):
    for workers in (1, 2):
        options = PrepareOptions(grid=GRID, workers=workers)
        prepare("waymo-json", files, str(tmp_path / f"{workers}.zarr"), options)
    assert content(tmp_path / "1.zarr") == content(tmp_path / "2.zarr")
    assert not list(tmp_path.glob("*.partial"))


def test_a_cluster_that_is_already_there_is_used_and_left_running(tmp_path, files):
    import distributed

    prepare("waymo-json", files, str(tmp_path / "here.zarr"), OPTIONS)
    with distributed.LocalCluster(
        n_workers=1, processes=False, protocol="tcp://", dashboard_address=":0"
    ) as cluster:
        options = PrepareOptions(grid=GRID, scheduler=cluster.scheduler_address)
        prepare("waymo-json", files, str(tmp_path / "there.zarr"), options)
        assert len(cluster.workers) == 1
    assert content(tmp_path / "there.zarr") == content(tmp_path / "here.zarr")


def test_workers_that_die_again_and_again_are_one_error():
    import distributed

    with pytest.raises(DataError, match="fewer --workers"), refusing_deaths():
        raise distributed.KilledWorker("read", None, 3)


def interrupt(files, out):
    """A run that ends once three units are read."""

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("waymo-json", files, out, OPTIONS, stop)


def test_an_interrupted_run_resumes_to_the_same_store(tmp_path, files, monkeypatch):
    prepare("waymo-json", files, str(tmp_path / "whole.zarr"), OPTIONS)
    out = str(tmp_path / "out.zarr")
    interrupt(files, out)
    assert not os.path.exists(out)
    told = []
    resume = PrepareOptions(grid=GRID, resume=True)
    report = prepare("waymo-json", files, out, resume, lambda *done: told.append(done))
    assert told == [(3, 5), (4, 5), (5, 5), (6, 7), (7, 7)]  # what was left out is tried again
    assert (report.sequences, len(report.skipped)) == (44, 1)
    assert content(out) == content(tmp_path / "whole.zarr")


@pytest.mark.parametrize("number", [0, 2])
def test_what_was_corrected_since_is_read_anew_by_a_run_that_goes_on(tmp_path, files, number):
    out = str(tmp_path / "out.zarr")
    interrupt(files, out)
    write(Path(files[0], f"{number}.json"), crossing(7, agents=7))
    prepare("waymo-json", files, out, replace(OPTIONS, resume=True))
    prepare("waymo-json", files, str(tmp_path / "whole.zarr"), OPTIONS)
    assert content(out) == content(tmp_path / "whole.zarr")


def test_an_unfinished_run_is_thrown_away_only_where_that_is_asked_for(tmp_path, files):
    out = str(tmp_path / "out.zarr")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("waymo-json", files, out, OPTIONS, stop)
    before = content(tmp_path)
    with pytest.raises(DataError, match=r"no unfinished run at .*out\.zarr; .* --overwrite"):
        prepare("waymo-json", files, out, OPTIONS)
    assert content(tmp_path) == before
    told = []
    anew = replace(OPTIONS, overwrite=True)
    prepare("waymo-json", files, out, anew, lambda *done: told.append(done))
    assert told[0] == (1, 5)


def test_scenes_that_are_left_out_are_a_warning_with_their_reason(tmp_path, files, capsys):
    out = str(tmp_path / "out.zarr")
    print_prepare_report(prepare("waymo-json", files, out, OPTIONS), out)
    shown = capsys.readouterr()
    assert f"{out}: 44 sequences from 4 of 5 scenes in" in shown.out
    first, second = shown.err.splitlines()
    assert first == "warning: 1 scene is left out:"
    assert f"{files[0]}/2.json: expected a JSON scenario" in second


def test_a_run_killed_while_tidying_up_is_only_tidied_up(tmp_path, files, monkeypatch):
    out = tmp_path / "out.zarr"

    def kill(stage):
        if stage.published:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.PartFiles, "discard", kill)
        with pytest.raises(KeyboardInterrupt):
            prepare("waymo-json", files, str(out), OPTIONS)
    before = content(out)
    report = prepare("waymo-json", files, str(out), PrepareOptions(grid=GRID, resume=True))
    assert report.sequences == 44
    assert content(out) == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_store_that_took_the_name_meanwhile_is_refused_and_the_work_kept(tmp_path, files):
    out = tmp_path / "out.zarr"

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("waymo-json", files, str(out), OPTIONS, stop)
    prepare("waymo-json", [f"{files[0]}/4.json"], str(tmp_path / "other.zarr"), OPTIONS)
    os.rename(tmp_path / "other.zarr", out)
    before = content(tmp_path)
    with pytest.raises(DataError, match="which exists"):
        prepare("waymo-json", files, str(out), PrepareOptions(grid=GRID, resume=True))
    assert content(tmp_path) == before


def test_only_the_same_inputs_and_options_can_be_resumed(tmp_path, files):
    out = str(tmp_path / "out.zarr")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("waymo-json", files, out, OPTIONS, stop)
    other = PrepareOptions(grid=GRID, stride=2, resume=True)
    with pytest.raises(DataError, match="options of the interrupted run"):
        prepare("waymo-json", files, out, other)
    anew = PrepareOptions(grid=GRID, stride=2, overwrite=True)
    assert prepare("waymo-json", files, out, anew).sequences == 24


def test_an_output_that_exists_is_left_alone(tmp_path, files):
    out = tmp_path / "out.zarr"
    out.mkdir()
    (out / "precious").write_text("mine")
    for resume in (False, True):
        with pytest.raises(DataError, match="choose another or --overwrite"):
            prepare("waymo-json", files, str(out), PrepareOptions(grid=GRID, resume=resume))
    assert content(out) == {"precious": b"mine"}


def test_where_no_scene_is_usable_nothing_is_left_and_each_reason_told_once(tmp_path, files):
    inputs = tmp_path / "bad"
    inputs.mkdir()
    shutil.copy(f"{files[0]}/2.json", inputs / "a.json")
    shutil.copy(f"{files[0]}/2.json", inputs / "b.json")
    write(inputs / "c.json", scenario([agent(Mover(0, 0))]) | {"objects": []})
    with pytest.raises(DataError) as caught:
        prepare("waymo-json", [str(inputs)], str(tmp_path / "out.zarr"), OPTIONS)
    assert caught.value.got == "3 that cannot"
    first, second = caught.value.remedy.split(" | ")
    assert "a.json" in first
    assert first.endswith("(1 scene more)")
    assert "c.json" in second
    assert not list(tmp_path.glob("out*"))


def test_a_full_disk_is_one_error_and_the_run_can_go_on_later(tmp_path, files, monkeypatch):
    prepare("waymo-json", files, str(tmp_path / "whole.zarr"), OPTIONS)
    out = tmp_path / "out.zarr"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_whole", full)
        with pytest.raises(DataError, match="No space left on device"):
            prepare("waymo-json", files, str(out), OPTIONS)
    assert not out.exists()
    prepare("waymo-json", files, str(out), PrepareOptions(grid=GRID, resume=True))
    assert content(out) == content(tmp_path / "whole.zarr")


def test_a_place_that_cannot_be_written_is_one_error(tmp_path, files):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="permission to write"):
        prepare("waymo-json", files, str(tmp_path / "file" / "out.zarr"), OPTIONS)


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_urls_are_read_and_written(tmp_path, files, protocol):
    root = f"memory://{tmp_path.name}" if protocol == "memory" else f"file://{tmp_path}"
    system, _ = fsspec.core.url_to_fs(root)
    for index in (0, 1):
        system.makedirs(f"{root}/urls", exist_ok=True)
        system.pipe_file(f"{root}/urls/{index}.json", Path(files[0], f"{index}.json").read_bytes())
    prepare("waymo-json", [f"{root}/urls"], f"{root}/out.zarr", OPTIONS)
    dataset = xr.open_zarr(f"{root}/out.zarr", chunks=None)
    local = tmp_path / "local.zarr"
    prepare("waymo-json", [f"{files[0]}/{index}.json" for index in (0, 1)], str(local), OPTIONS)
    expected, _ = open_sequence_store(str(local))
    xr.testing.assert_identical(dataset.load(), expected.load())
    assert not system.exists(f"{root}/out.zarr.partial")


def test_scenes_longer_than_a_part_and_a_shard_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD", 4)
    monkeypatch.setattr(module, "SHARD", 4)
    paths = [write(tmp_path / f"{i}.json", crossing(i)) for i in range(3)]
    prepare("waymo-json", paths, str(tmp_path / "small.zarr"), OPTIONS)
    monkeypatch.undo()
    prepare("waymo-json", paths, str(tmp_path / "large.zarr"), OPTIONS)
    small, large = (open_sequence_store(str(tmp_path / f"{n}.zarr"))[0] for n in ("small", "large"))
    assert zarr.open_group(tmp_path / "small.zarr")["instance"].shards[0] == 4
    assert zarr.open_group(tmp_path / "large.zarr")["instance"].chunks[0] == 1
    xr.testing.assert_identical(small.load(), large.load())


def test_shards_are_filled_by_whole_pieces_in_order():
    counts = [part_counts(n) for n in (70, 5, 32)]
    assert counts == [[32, 32, 6], [5], [32]]
    pieces, place = [], 0
    for name, each in zip("abc", counts, strict=True):
        for part, count in enumerate(each):
            pieces.append(Piece(f"{name}{part}", name, 0, count, place))
            place += count
    cut = list(shards(pieces))
    assert [sum(p.stop - p.start for p in shard) for shard in cut] == [32, 32, 32, 11]
    assert [(p.path, p.start, p.stop) for p in cut[2]] == [
        ("a2", 0, 6),
        ("b0", 0, 5),
        ("c0", 0, 21),
    ]
    assert [(p.path, p.start, p.stop, p.place) for p in cut[3]] == [("c0", 21, 32, 96)]


def test_a_scheduler_that_does_not_answer_is_one_error(tmp_path, files, monkeypatch):
    import distributed

    def silent(*_, **__):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", silent)
    options = PrepareOptions(grid=GRID, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(DataError, match=r"no answer from tcp://127\.0\.0\.1:1"):
        prepare("waymo-json", files, str(tmp_path / "out.zarr"), options)


def test_what_cannot_be_drawn_names_its_file(tmp_path):
    far = road("lane", [(0.0, 0.0), (9e6, 0.0)])
    path = write(tmp_path / "far.json", scenario([agent(Mover(0.0, 0.0, speed=5.0))], [far]))
    with pytest.raises(DataError, match=r"got one of \d+ km in .*far\.json"):
        prepare("waymo-json", [path], str(tmp_path / "out.zarr"), OPTIONS)
