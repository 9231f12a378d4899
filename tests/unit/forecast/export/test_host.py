"""What a host does by itself: slots, lanes, and files that are not those that were exported."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast.export import host
from forecast.export.example import write_history
from forecast.export.host import ExportError, HostForecaster
from forecast.export.parity import observe_arguments
from forecast.grid import BEVGrid
from forecast.observations import observations
from tests.support.sequences import sequences
from tests.support.stores import Mover

BOX = (0.0, 0.0, 0.0, 4.0, 2.0)
GRID = BEVGrid(-50.0, 50.0, -30.0, 30.0, 0.5)
ABOUT = {
    "lane_spacing_m": 3.0,
    "classes": ["vehicle", "tram"],
    "grid": GRID.to_attrs(),
    "dt_range_s": [0.1, 1.0],
}


def bookkeeper(slots: int = 3) -> HostForecaster:
    """A host whose graph notes what it is told and says nothing else."""
    state = {
        "id": {"shape": (1, slots), "dtype": "int64"},
        "past": {"shape": (1, slots, 4, 3), "dtype": "float32"},
        "seen": {"shape": (1, slots, 4), "dtype": "bool"},
        "time": {"shape": (1, 4), "dtype": "float32"},
        "observed": {"shape": (1,), "dtype": "bool"},
        "lane_point": {"shape": (1, 5, 3), "dtype": "float32"},
        "map": {"shape": (1, 2, *GRID.shape), "dtype": "float32"},
        "map_frame": {"shape": (1, 3), "dtype": "float32"},
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
    return HostForecaster(bucket, ABOUT, run)


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
    with pytest.raises(ExportError, match=r"time_s of finite numbers.*got nan"):
        see(one, float("nan"), (7, 0.0))
    with pytest.raises(ExportError, match="an observation before the first step"):
        next(bookkeeper().forecast(1, 0.5))


AGENTS = {"ids": [1, 2], "labels": [1, 2], "boxes": [BOX, BOX]}
WRONG: list[dict[str, Any]] = [
    *({"time_s": value} for value in (np.nan, np.inf, 1e300, 10**400, None, "1", [1.0], 0.49)),
    *({"ego_pose": value} for value in ([np.nan] * 3, [np.inf, 0, 0], [0, 0], None, [5e6, 0, 0])),
    *({"moved": value} for value in ([np.nan, 0, 0], [0, 1e300, 0], [0, 0], "abc")),
    *({"ids": value} for value in ([1], [1, 2, 3], [1, 1], ["a", "b"], [1, 1.5], [1, np.nan])),
    *({"ids": value} for value in ([0, 1], [-1, 1], [1, 2**63], [1.0, 2.0**63], 1, None)),
    *({"ids": [1, 2], "labels": value} for value in ([1], [0, 1], [1, 3], [1, 1.9], ["a", "b"])),
    *({"boxes": value} for value in (np.zeros((5, 2)), np.zeros(10), [BOX], [BOX, BOX[:4]])),
    *({"boxes": [BOX, (*BOX[:3], *size)]} for size in ((0, 2), (4, -2), (201, 2), (4, np.nan))),
    *({"boxes": [BOX, (place, *BOX[1:])]} for place in (np.nan, -np.inf, 2e6, 1e300)),
    *({"raster_ids": value} for value in (["a"], [[1]], [0.5])),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_refused_input_leaves_the_state_as_it_was(wrong: dict[str, Any]) -> None:
    one = bookkeeper()
    see(one, 0.5, (7, 0.0))
    before = {name: value.copy() for name, value in one.state.items()}

    with pytest.raises(ExportError) as refusal:
        one.observe(**{"time_s": 0.6, "ego_pose": np.zeros(3), **AGENTS, **wrong})

    assert "\n" not in str(refusal.value)
    for name, value in before.items():
        np.testing.assert_array_equal(one.state[name], value)
    see(one, 0.5, (7, 0.0))  # goes on


@pytest.mark.parametrize("largest", [2**63 - 1, np.uint64(2**63 - 1), 2.0**52])
def test_the_largest_ids_are_kept(largest: Any) -> None:
    one = bookkeeper()

    one.observe(0.0, np.zeros(3), [largest], [1], [BOX])

    assert one.state["id"][0, 0] == int(largest)


def test_late_moments_are_measured_from_the_latest() -> None:
    one = bookkeeper()
    see(one, 0.5, (7, 0.0))

    for _ in range(3):
        with pytest.raises(ExportError, match=r"got one of 0.49 s after one of 0.5 s"):
            see(one, 0.49, (7, 0.0))


LAYERS = np.zeros((2, *GRID.shape))


@pytest.mark.parametrize(
    "layers",
    [LAYERS + 255, LAYERS - 1, LAYERS * np.nan, LAYERS[:, :-1], LAYERS[0], [[1], [1, 2]], "map"],
    ids=["255", "-1", "nan", "rows", "flat", "ragged", "text"],
)
def test_wrong_layers_are_refused_and_nothing_is_forgotten(layers: Any) -> None:
    one = bookkeeper()
    see(one, 0.5, (7, 0.0))

    for take in (one.start, one.set_map):
        with pytest.raises(ExportError, match="layers"):
            take(layers)

    assert one.state["id"][0, 0] == 7


@pytest.mark.parametrize(
    "points",
    [np.zeros((3, 9)), np.zeros((9, 2)), np.zeros(9), [[np.nan, 0, 0]], [[0, 2e6, 0]], "abc"],
    ids=["turned", "without yaw", "flat", "nan", "far", "text"],
)
def test_wrong_lane_points_are_refused(points: Any) -> None:
    with pytest.raises(ExportError, match="points"):
        bookkeeper().start(points=points)


@pytest.mark.parametrize(
    ("horizon", "dt_s"),
    [(wrong, 0.5) for wrong in (0, -1, 2.5, np.nan, "2", None, [1])]
    + [(1, wrong) for wrong in (0, -0.5, 0.05, 1.1, np.nan, np.inf, 1e300, "x", None)],
)
def test_steps_that_cannot_be_forecast_are_refused(horizon: Any, dt_s: Any) -> None:
    one = bookkeeper()
    see(one, 0.5, (7, 0.0))

    with pytest.raises(ExportError, match=r"horizon|dt_s"):
        one.forecast(horizon, dt_s)


def test_agents_off_the_grid_are_counted() -> None:
    one = bookkeeper()
    see(one, 0.0, (7, 465_000.0), (9, -50.5))
    assert one.left_out == 2

    see(one, 0.1, (7, 49.9), (9, -50.0))
    assert one.left_out == 0

    one.observe(0.2, np.zeros(3), [7], [1], [(51.0, *BOX[1:])], raster_ids=[7])
    assert one.left_out == 0


def streets(seed: int = 0) -> np.ndarray:
    """Layers in which nearly every cell tells from where it came."""
    return np.random.default_rng(seed).integers(0, 2, (2, *GRID.shape)).astype(np.float32)


def test_another_map_is_taken_on_the_way() -> None:
    one = bookkeeper()
    one.start(streets())
    see(one, 0.0, (7, 0.0))
    one.state["map_frame"] = np.float32([[0.3, 0.0, 0.1]])

    one.set_map(streets(1), [(1.0, 2.0, 0.5)])

    np.testing.assert_array_equal(one.state["map"][0], streets(1))
    np.testing.assert_array_equal(one.state["map_frame"], np.zeros((1, 3)))
    np.testing.assert_array_equal(one.state["lane_point"][0, 0], np.float32((1.0, 2.0, 0.5)))
    assert np.isnan(one.state["lane_point"][0, 1:]).all()
    assert one.state["id"][0, 0] == 7


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
    "text",
    ["", "[]", "{}", '{"schema": "bev-forecast-export/9", "sha256": ""}', "[" * 100_000],
    ids=["empty", "list", "nothing", "schema", "nested"],
)
def test_what_is_no_metadata_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / host.METADATA).write_text(text)

    with pytest.raises(ExportError) as refusal:
        host.load(tmp_path)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("slots", [4, "3", []])
def test_a_bucket_that_was_not_exported_is_refused(tmp_path: Path, slots: Any) -> None:
    exported(tmp_path)

    with pytest.raises(ExportError, match=rf"slots of \[3\]; got {re.escape(str(slots))}"):
        host.load(tmp_path, slots=slots)


@pytest.mark.parametrize("read", [host.load, host.read_metadata, host.read_history])
def test_no_folder_is_refused(read: Any) -> None:
    with pytest.raises(ExportError):
        read(None)


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


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"map \d+", "map inf"),
        (r"map \d+", "map 1e400"),
        (r"\n[01]{9}", "\n999999999"),
        *((r"dt_s \S+", f"dt_s {dt_s}") for dt_s in ("0", "-0.5", "nan", "inf", "1e300")),
        (r"moments \d+", "moments inf"),
    ],
)
def test_a_history_of_other_numbers_is_refused(tmp_path: Path, right: str, wrong: str) -> None:
    write_history(tmp_path / host.HISTORY, sequences([[Mover(1.0, 2.0)]]).crop(0, 3), 3.0)
    text = (tmp_path / host.HISTORY).read_text()
    changed, count = re.subn(right, wrong, text, count=1)
    assert count
    (tmp_path / host.HISTORY).write_text(changed)

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
