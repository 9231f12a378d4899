"""What stops a run, because it may pass, and what leaves a scene out for good."""

import errno
import gzip
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data_tools.options import PrepareOptions
from data_tools.passing import is_passing
from data_tools.prepare import prepare
from data_tools.sources import source
from forecast.errors import DataError, PassingError
from forecast.grid import BEVGrid
from tests.support.scenarios import crossing, write
from tests.support.stores import content

OPTIONS = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5), stride=4)


class EndpointError(Exception):
    """As a store's client raises it."""

    __module__ = "botocore.exceptions"


PASSING = [
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EIO, "Input/output error"),
    ConnectionResetError("Connection reset by peer"),
    TimeoutError(),
    MemoryError("Unable to allocate 8 GiB"),
    EndpointError("Could not connect to the endpoint URL"),
]
FOR_GOOD = [
    FileNotFoundError(errno.ENOENT, "No such file"),
    PermissionError(errno.EACCES, "Permission denied"),
    IsADirectoryError(errno.EISDIR, "Is a directory"),
    gzip.BadGzipFile("Not a gzipped file"),
    OSError("Couldn't deserialize thrift"),
    OSError(errno.EINVAL, "Invalid argument"),
    ValueError("damaged"),
]


def table(folder, number):
    time_s = np.arange(61) * 0.1
    given = {"scene": f"s{number}", "track_id": "a", "class": "car", "time_s": time_s}
    given |= {"x_m": 8 * time_s, "y_m": 0.0, "yaw_rad": 0.0, "length_m": 4.0, "width_m": 2.0}
    pd.DataFrame(given).to_csv(folder / f"{number}.csv", index=False)


def scenario(folder, number):
    write(folder / f"{number}.json", crossing(number))


WAYS = {"tracks": (table, pd, "read_csv"), "waymo-json": (scenario, json, "loads")}


def failing_once(patch, source, error, after):
    """Lets what a source reads with fail at one call of many, counted from 0."""
    _, module, name = WAYS[source]
    read, calls = getattr(module, name), []

    def reads(*args, **kwargs):
        calls.append(args)
        if len(calls) == after + 1:
            raise error
        return read(*args, **kwargs)

    patch.setattr(module, name, reads)


@pytest.mark.parametrize(("source", "after"), [("tracks", 0), ("tracks", 11), ("waymo-json", 1)])
@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_a_failure_that_passes_stops_the_run_and_no_scene_is_lost(
    tmp_path, monkeypatch, source, error, after
):
    (tmp_path / "in").mkdir()
    for number in range(3):
        WAYS[source][0](tmp_path / "in", number)
    inputs, out = [str(tmp_path / "in")], str(tmp_path / "out.zarr")
    prepare(source, inputs, str(tmp_path / "whole.zarr"), OPTIONS)
    with monkeypatch.context() as patch:
        failing_once(patch, source, error, after)
        with pytest.raises(PassingError) as caught:
            prepare(source, inputs, out, OPTIONS)
    assert "--resume goes on from what is done" in str(caught.value)
    assert str(tmp_path / "in") in caught.value.got
    report = prepare(source, inputs, out, replace(OPTIONS, resume=True))
    assert not report.skipped
    assert content(out) == content(tmp_path / "whole.zarr")


@pytest.mark.parametrize("error", FOR_GOOD, ids=lambda error: type(error).__name__)
def test_what_is_wrong_with_a_file_itself_leaves_its_scenes_out(tmp_path, monkeypatch, error):
    assert not is_passing(error)
    (tmp_path / "in").mkdir()
    scenario(tmp_path / "in", 0)
    scenario(tmp_path / "in", 1)
    failing_once(monkeypatch, "waymo-json", error, 0)
    report = prepare("waymo-json", [str(tmp_path / "in")], str(tmp_path / "out.zarr"), OPTIONS)
    assert [reason for _, reason in report.skipped]
    assert report.scenes == 1


LISTED = {
    "nuscenes": ("v1.0-mini/scene.json", "scene_names"),
    "nuplan": ("log.db", "_scenes"),
    "lyft-l5": ("train.zarr/scenes/.zarray", "_scene_count"),
}


@pytest.mark.parametrize("kind", sorted(LISTED))
@pytest.mark.parametrize(("cause", "stops"), [(PASSING[1], True), (FOR_GOOD[-1], False)])
def test_a_failure_that_passes_stops_the_search_for_scenes(
    tmp_path, monkeypatch, kind, cause, stops
):
    """The whole recording would be one scene that nobody named, and be left out."""
    file, lists = LISTED[kind]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")
    origin = source(kind)

    def fails(_):
        raise DataError("a table", "none", "restore it") from cause

    monkeypatch.setattr(f"{type(origin).__module__}.{lists}", fails)
    if not stops:
        assert len(origin.find([str(tmp_path)])) == 1
        return
    with pytest.raises(PassingError, match="Input/output error"):
        origin.find([str(tmp_path)])
