"""Files of one export are told from those of others without JSON."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from forecast.export.belonging import told_by, write_checksums
from forecast.export.layout import Layout
from forecast.export.write import _levels
from forecast.grid import BEVGrid
from tests.support.sequences import INPUTS, forecaster
from tests.support.stores import GRID


def told(
    grid: BEVGrid = GRID, slots: int = 4, points: int = 24, checkpoint: str = "a", graph: int = 0
) -> dict[str, str]:
    """What a graph carries."""
    model = forecaster(trained=False)
    layout = Layout(model.spec, INPUTS, grid, slots, points, _levels(model, grid))
    about = {
        "checkpoint_sha256": checkpoint,
        "grid": grid.to_attrs(),
        "classes": list(INPUTS.classes),
        "dt_range_s": [0.1, 1.0],
        "lane_spacing_m": 3.0,
    }
    return told_by(about, layout, layout.graphs[graph])


@pytest.mark.parametrize(
    "other",
    [
        # As many cells, so that every tensor has the same shape.
        {"grid": replace(GRID, x_min_m=GRID.x_min_m + 8, x_max_m=GRID.x_max_m + 8)},
        {"slots": 5},
        {"points": 25},
        {"checkpoint": "b"},
    ],
    ids=str,
)
def test_graphs_of_another_export_carry_another_id(other: dict[str, object]) -> None:
    assert told()["bev_forecast"] != told(**other)["bev_forecast"]  # type: ignore[arg-type]


def test_graphs_of_one_export_differ_in_their_name_alone() -> None:
    first, second = told(), told(graph=1)

    assert (first.pop("bev_forecast_graph"), second.pop("bev_forecast_graph")) == (
        "observe_4",
        "observe_raster_4",
    )
    assert first == second


def test_a_graph_tells_what_its_host_has_to_know() -> None:
    grid = GRID.to_attrs()
    sides = [grid[f"{axis}_{end}_m"] for axis in "xy" for end in ("min", "max")]
    carried = told()

    assert carried["bev_forecast_classes"] == str(len(INPUTS.classes))
    assert [float(word) for word in carried["bev_forecast_dt_range_s"].split()] == [0.1, 1.0]
    assert [float(word) for word in carried["bev_forecast_grid_m"].split()] == sides
    assert float(carried["bev_forecast_lane_spacing_m"]) == 3.0


def test_checksums_are_listed_as_sha256sum_prints_them(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text("{}")
    graph = {"files": {"onnx": {"path": "step_4.onnx", "sha256": "ab"}}}

    write_checksums(tmp_path, {"buckets": [{"graphs": {"step": graph}}]})

    checksum = hashlib.sha256(b"{}").hexdigest()
    text = (tmp_path / "checksums.txt").read_text()
    assert text == f"{checksum}  metadata.json\nab  step_4.onnx\n"
