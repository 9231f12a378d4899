"""Which agents, classes and layers a store has, and what is said of those that it lacks."""

import pytest

from data_tools.prepare import PrepareOptions, prepare
from forecast.cli.console import print_prepare_report
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store
from tests.support.scenarios import agent, scenario, write
from tests.support.stores import Mover

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)
OPTIONS = PrepareOptions(grid=GRID)


def test_a_source_without_a_map_makes_a_store_without_one(tmp_path):
    path = write(tmp_path / "a.json", scenario([agent(Mover(0, 0, speed=2.0))]))
    prepare("waymo-json", [path], str(tmp_path / "out.zarr"), OPTIONS)
    dataset, meta = open_sequence_store(str(tmp_path / "out.zarr"))
    assert meta.map_layers == ()
    assert "map" not in dataset
    assert "map_point" not in dataset


def test_a_store_without_any_agent_is_valid_where_that_is_asked_for(tmp_path):
    path = write(tmp_path / "a.json", scenario([agent(Mover(0, 0))]))
    options = PrepareOptions(grid=GRID, map_classes=(("vehicle", "none"),))
    report = prepare("waymo-json", [path], str(tmp_path / "out.zarr"), options)
    assert report.notes["agents vehicle, left out"] == 1
    dataset, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    assert not dataset["instance"].any()
    assert dataset["track_state"].isnull().all()
    assert not dataset["track_class"].any()


def test_a_store_whose_classes_no_agent_has_is_refused_and_nothing_left(tmp_path):
    path = write(tmp_path / "a.json", scenario([agent(Mover(0, 0))]))
    options = PrepareOptions(grid=GRID, classes=("vehicl", "tram"))
    line = "agents of class vehicl or tram; got none, but of vehicle; correct --classes"
    with pytest.raises(DataError, match=line):
        prepare("waymo-json", [path], str(tmp_path / "out.zarr"), options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_class_that_no_agent_has_is_a_warning_with_those_there_are(tmp_path, capsys):
    agents = [agent(Mover(0, 0)), agent(Mover(4, 4), "pedestrian")]
    path = write(tmp_path / "a.json", scenario(agents))
    options = PrepareOptions(grid=GRID, classes=("vehicle", "pedestrain"))
    print_prepare_report(prepare("waymo-json", [path], str(tmp_path / "out.zarr"), options), "out")
    line = "warning: there is no agent of class pedestrain; left out are pedestrian\n"
    assert capsys.readouterr().err == line


def test_a_default_class_that_no_agent_has_is_no_warning(tmp_path, capsys):
    path = write(tmp_path / "a.json", scenario([agent(Mover(0, 0)), agent(Mover(4, 4), "other")]))
    report = prepare("waymo-json", [path], str(tmp_path / "out.zarr"), OPTIONS)
    print_prepare_report(report, "out")
    shown = capsys.readouterr()
    assert not shown.err
    assert "sequences from 1 scene in" in shown.out


def test_a_label_is_counted_as_the_class_that_the_user_says(tmp_path):
    objects = [agent(Mover(0, 0)), agent(Mover(5, 0), kind="pedestrian")]
    path = write(tmp_path / "a.json", scenario(objects))
    options = PrepareOptions(
        grid=GRID, classes=("vehicle", "person"), map_classes=(("Pedestrian", "person"),)
    )
    prepare("waymo-json", [path], str(tmp_path / "out.zarr"), options)
    dataset, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    assert dataset["track_class"].values[0].tolist() == [1, 2]
    assert dataset.attrs["notes"]["agents pedestrian, kept as person"] == 1
