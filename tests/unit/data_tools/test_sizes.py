"""Agents without a size have that of their label, or of the class that it becomes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_tools.prepare import PrepareOptions, PrepareReport, prepare
from data_tools.sizes import with_typical_sizes
from data_tools.sources.tracks import Tracks
from forecast.cli.console import print_prepare_report
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store

TIMES = np.arange(61) * 0.1
GRID = BEVGrid(-12.0, 60.0, -20.0, 20.0, 0.5)


def table(folder: Path, kinds: list[str], **columns: object) -> str:
    """Agents side by side, each of another class, the first of them as long as it says."""
    rows = [
        pd.DataFrame(
            {"scene": "s", "time_s": TIMES, "track_id": place, "class": kind}
            | {"x_m": 5.0 * TIMES, "y_m": 3.0 * place, "yaw_rad": 0.0, "is_ego": place == 0}
            | columns
        )
        for place, kind in enumerate(kinds)
    ]
    pd.concat(rows).to_csv(folder / "a.csv", index=False)
    return str(folder / "a.csv")


def prepared(folder: Path, path: str, **options: object) -> tuple[PrepareReport, np.ndarray]:
    out = str(folder / "out.zarr")
    report = prepare("tracks", [path], out, PrepareOptions(grid=GRID, **options))  # type: ignore[arg-type]
    state = open_sequence_store(out)[0]["track_state"].values[0, :, 2]
    return report, state[np.argsort(state[:, 1]), 3:]


def test_a_label_that_becomes_a_class_has_the_size_of_that_class(tmp_path):
    kinds = ["Car", "person", "bike", "bus", "pedestrian/bicycle", "car2"]
    mapped = (("pedestrian/bicycle", "pedestrian"), ("CAR2", "vehicle"))
    report, size = prepared(tmp_path, table(tmp_path, kinds), map_classes=mapped)
    expected = [[4.7, 1.9], [0.8, 0.8], [1.8, 0.8], [12.0, 2.6], [0.8, 0.8], [4.7, 2.0]]
    np.testing.assert_allclose(size, expected)
    assert report.notes["tracks with their class's typical size"] == 6


def test_only_what_is_not_given_is_filled_in(tmp_path):
    _, size = prepared(tmp_path, table(tmp_path, ["van", "truck"], length_m=6.5))
    np.testing.assert_allclose(size, [[6.5, 2.1], [6.5, 2.5]])


def test_observations_have_the_typical_size_until_one_is_measured(tmp_path):
    path = table(tmp_path, ["van", "person"], length_m=np.where(TIMES > 1.95, 6.5, np.nan))
    _, size = prepared(tmp_path, path)
    np.testing.assert_allclose(size, [[6.5, 2.1], [6.5, 0.8]])
    store = open_sequence_store(str(tmp_path / "out.zarr"))[0]
    history = store["track_history"].values[2]  # its present is 2.0 s
    np.testing.assert_allclose(history[0, [0, -2, -1], 3:], [[5.5, 2.1], [5.5, 2.1], [6.5, 2.1]])


def test_agents_of_a_class_without_a_size_are_named_with_what_helps(tmp_path, capsys):
    path = table(tmp_path, ["car", "zebra", "zebra", "car2"])
    report, size = prepared(tmp_path, path, classes=("vehicle", "zebra"))
    assert len(size) == 1
    print_prepare_report(report, "out")
    lines = capsys.readouterr().out.splitlines()
    reason = "  agents zebra without a size, of a class without a typical one: 2"
    assert f"{reason}; give their sizes, or a class that has one by --map-class" in lines
    assert "  agents car2, left out: 1; to keep them, add --map-class car2=CLASS" in lines


def test_a_size_that_is_missing_now_and_then_is_not_made_up(tmp_path):
    path = table(tmp_path, ["van"])
    scene = Tracks().read(f"{path}#s", 0.5)
    scene.state[0, 1:, 3:] = 6.5, 2.2
    filled = with_typical_sizes(scene, str.lower, ("vehicle",))
    assert np.isnan(filled.state[0, 0, 3:]).all()
    np.testing.assert_array_equal(filled.state[0, 1:], scene.state[0, 1:])


def test_where_no_agent_has_a_size_there_is_no_store(tmp_path):
    path = table(tmp_path, ["zebra"])
    with pytest.raises(DataError, match="none of the agents zebra"):
        prepared(tmp_path, path, classes=("zebra",))
