"""What a host does by itself: slots, lanes, and files that are not those that were exported."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forecast.export import host
from forecast.export.example import write_history
from forecast.export.host import ExportError, HostForecaster, thinned
from forecast.export.parity import observe_arguments
from forecast.model.scene import lanes
from forecast.observations import observations
from tests.support.sequences import sequences
from tests.support.stores import Mover

BOX = (0.0, 0.0, 0.0, 4.0, 2.0)


def bookkeeper(slots: int = 3) -> HostForecaster:
    """A host whose graph notes what it is told and says nothing else."""
    state = {
        "id": {"shape": (1, slots), "dtype": "int64"},
        "past": {"shape": (1, slots, 4, 3), "dtype": "float32"},
        "seen": {"shape": (1, slots, 4), "dtype": "bool"},
        "time": {"shape": (1, 4), "dtype": "float32"},
        "observed": {"shape": (1,), "dtype": "bool"},
        "lane_point": {"shape": (1, 5, 3), "dtype": "float32"},
    }
    graph = {"state": list(state), "inputs": ["slot_id", "box", "time_s"], "outputs": []}

    def run(name: str, feed: dict[str, Any]) -> dict[str, Any]:
        same = (feed["id"] == feed["slot_id"])[..., None]
        pose = feed["box"][:, :, None, :3]
        return {
            "next_id": feed["slot_id"],
            "next_past": np.concatenate((feed["past"][:, :, 1:], pose), 2),
            "next_seen": np.concatenate(
                (feed["seen"][:, :, 1:] & same, np.isfinite(pose[..., 0])), 2
            ),
            "next_time": np.concatenate((feed["time"][:, 1:], feed["time_s"][None]), 1),
            "next_observed": np.ones(1, bool),
        }

    bucket = {"slots": slots, "state": state, "graphs": {"observe": graph}}
    return HostForecaster(bucket, {"lane_spacing_m": 3.0, "classes": ["vehicle", "tram"]}, run)


def see(one: HostForecaster, time_s: float, *agents: tuple[int, float]) -> list[int]:
    """The slots after agents were seen at an x each."""
    boxes = [(x, *BOX[1:]) for _, x in agents]
    one.observe(time_s, np.zeros(3), [i for i, _ in agents], [1] * len(agents), boxes)
    return list(one.state["id"][0])


def test_agents_keep_their_slots() -> None:
    one = bookkeeper()

    assert see(one, 0.0, (7, 0.0), (9, 1.0)) == [7, 9, 0]
    assert see(one, 0.1, (9, 1.0)) == [7, 9, 0]
    assert see(one, 0.2, (4, 1.0), (9, 1.0)) == [7, 9, 4]


def test_agents_that_were_not_seen_for_long_make_room() -> None:
    one = bookkeeper()
    see(one, 0.0, (7, 0.0), (9, 1.0))
    for moment in range(1, 5):
        see(one, moment / 10, (9, 1.0))

    assert see(one, 0.5, (4, 1.0), (9, 1.0)) == [4, 9, 0]


def test_of_too_many_the_nearest_are_kept() -> None:
    one = bookkeeper()
    see(one, 0.0, (7, 30.0), (9, 1.0))

    assert set(see(one, 0.1, (7, 30.0), (9, 1.0), (4, -20.0), (5, 2.0), (6, 40.0))) == {9, 4, 5}
    assert one.left_out == 2


def test_lanes_are_thinned_as_the_forecaster_thins_them() -> None:
    points = torch.randn(1, 400, 3, generator=torch.Generator().manual_seed(3)) * 12
    points[0, ::7] = torch.nan
    own = lanes.thinned(points, 3.0)[0]

    found = thinned(points[0].numpy(), 3.0)

    own = own[torch.isfinite(own).all(1)].numpy()
    assert {tuple(point) for point in found} == {tuple(point) for point in own}


def test_of_too_many_lane_points_the_nearest_are_kept() -> None:
    one = bookkeeper()
    one.start(points=np.array([[9.0 * k, 0, 0] for k in range(8)]))

    assert sorted(one.state["lane_point"][0, :, 0]) == [0, 9, 18, 27, 36]


def test_what_a_host_refuses() -> None:
    one = bookkeeper()
    see(one, 0.5, (7, 0.0))

    with pytest.raises(ExportError, match=r"order of time; got one of 0.1 s after one of 0.5 s"):
        see(one, 0.1, (7, 0.0))
    with pytest.raises(ExportError, match="every id once"):
        see(one, 0.6, (7, 0.0), (7, 1.0))
    with pytest.raises(ExportError, match="a time in seconds; got nan"):
        see(one, float("nan"), (7, 0.0))
    with pytest.raises(ExportError, match="labels of 1 to 2; got 3"):
        one.observe(0.6, np.zeros(3), [7, 8], [2, 3], [BOX, BOX])
    one.observe(0.6, np.zeros(3), [7, 8], [2, 3], [BOX, (np.nan, *BOX[1:])])
    with pytest.raises(ExportError, match="an observation before the first step"):
        next(bookkeeper().forecast(1, 0.5))


def exported(folder: Path) -> dict[str, Any]:
    """A folder of one graph that is no graph."""
    (folder / "observe_3.onnx").write_bytes(b"graph")
    file = {"path": "observe_3.onnx", "sha256": hashlib.sha256(b"graph").hexdigest()}
    about: dict[str, Any] = {
        "schema": host.SCHEMA,
        "formats": ["onnx"],
        "lane_spacing_m": 3.0,
        "buckets": [{"slots": 3, "state": {}, "graphs": {"observe": {"files": {"onnx": file}}}}],
    }
    told = {**about, "sha256": host.checksum(about)}
    (folder / host.METADATA).write_text(json.dumps(told))
    return told


def test_a_graph_that_was_exchanged_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    (tmp_path / "observe_3.onnx").write_bytes(b"other")

    with pytest.raises(ExportError, match=r"the graph that was exported as observe_3.onnx; got an"):
        host.load(tmp_path)


def test_a_graph_that_is_gone_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    (tmp_path / "observe_3.onnx").unlink()

    with pytest.raises(ExportError, match="expected the graph"):
        host.load(tmp_path)


@pytest.mark.parametrize("change", [{"lane_spacing_m": 2.0}, {"more": 1}], ids=["value", "key"])
def test_metadata_that_was_edited_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / host.METADATA).write_text(json.dumps({**exported(tmp_path), **change}))

    with pytest.raises(ExportError, match="got one that was edited"):
        host.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "bev-forecast-export/9", "sha256": ""}']
)
def test_what_is_no_metadata_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / host.METADATA).write_text(text)

    with pytest.raises(ExportError) as refusal:
        host.load(tmp_path)

    assert "\n" not in str(refusal.value)


def test_a_bucket_that_was_not_exported_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)

    with pytest.raises(ExportError, match=r"slots of \[3\]; got 4"):
        host.load(tmp_path, slots=4)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = sequences([[Mover(1.0, 2.0, speed=3.0), Mover(-5.0, 1.0)]]).crop(0, 3)
    write_history(tmp_path / host.HISTORY, history, 3.0)

    read = host.read_history(tmp_path)

    np.testing.assert_array_equal(read["layers"], history.map[0])
    np.testing.assert_array_equal(read["points"].astype(np.float32), history.map_point[0])
    for moment, frame in zip(read["moments"], observations(history), strict=True):
        told = observe_arguments(frame)
        assert moment["time_s"] == told["time_s"]
        np.testing.assert_array_equal(moment["ids"], told["ids"])
        np.testing.assert_array_equal(moment["boxes"].astype(np.float32), told["boxes"])
        assert set(moment["raster_ids"]) == set(told["raster_ids"]) - {0}


def test_a_history_that_was_cut_is_refused(tmp_path: Path) -> None:
    write_history(tmp_path / host.HISTORY, sequences([[Mover(1.0, 2.0)]]).crop(0, 3), 3.0)
    text = (tmp_path / host.HISTORY).read_text()
    (tmp_path / host.HISTORY).write_text(text[:-20])

    with pytest.raises(ExportError, match="the history that was exported"):
        host.read_history(tmp_path)


def test_the_host_needs_no_torch() -> None:
    folder = str(Path(host.__file__).parent)
    code = f"import sys; sys.modules['torch'] = None; sys.path.insert(0, {folder!r}); import host"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_clocks_may_count_from_1970() -> None:
    one, since = bookkeeper(), 1.7e9
    for moment in (0.0, 0.1, 700.0, 700.1, 700.2):
        see(one, since + moment, (7, 0.0))

    np.testing.assert_allclose(one.state["time"][0], [-699.9, 0.0, 0.1, 0.2], atol=1e-4)
