"""The records of a run: scenes of one name from several units."""

import numpy as np

from data_tools.part_files import Record, told_apart
from data_tools.prepare import PrepareOptions, prepare
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store
from tests.support.scenarios import crossing, write

OPTIONS = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5))


def test_two_recordings_of_one_file_name_are_two_scenes(tmp_path):
    for place, seed in (("in/a/x", 0), ("in/b/x", 1), ("in/b/x/2", 2)):
        (tmp_path / place).mkdir(parents=True)
        write(tmp_path / place / "7.json", crossing(seed))
    write(tmp_path / "in/b/8.json", crossing(3))
    prepare("waymo-json", [str(tmp_path / "in")], str(tmp_path / "out.zarr"), OPTIONS)
    scenes = open_sequence_store(str(tmp_path / "out.zarr"))[0]["scene"].values.tolist()
    assert sorted(scenes) == np.repeat(sorted(["8", "a/x/7", "b/x/2/7", "b/x/7"]), 11).tolist()


def test_scenes_of_one_name_in_one_file_are_numbered():
    units = ["/x/a.tfrecord#0", "/x/a.tfrecord#1", "/x/b.tfrecord#0", "/y/c.tfrecord#0"]
    records = [Record(unit, "s", sequences=1) for unit in units] + [Record("/z/d#0", "s")]
    assert [r.scene for r in told_apart(records[:3])] == ["s", "s (2)", "s (3)"]
    assert [r.scene for r in told_apart(records)] == ["x/s", "x/s (2)", "x/s (3)", "y/s", "s"]
