"""From a bag to a bag: prepare, rollout --mcap, and another library that reads what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import zarr
from rosbags.highlevel import AnyReader
from typer.testing import CliRunner

from data_tools.formats import ros_messages
from data_tools.formats.ros_messages import ODOMETRY
from data_tools.geometry import poses_to_frame
from data_tools.scene import Scene
from data_tools.sources.mcap import Mcap
from data_tools.sources.sumo import Sumo
from forecast.angles import wrap_angle
from forecast.cli import main as cli
from forecast.schema import DEFAULT_CLASSES
from forecast.storage.stores import open_sequence_store
from tests.support import mcap_bags as bags
from tests.support.refusals import Refused

GRID = "--grid=-20,28,-20,20,0.5"
ROLLOUT = ("rollout", "--model", "constant-turn", "--gif", "", "--data", "store.zarr")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_bag_becomes_a_forecast_in_a_bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bags.write_bag(tmp_path / "in.mcap", bags.drive())
    said = run("prepare", "mcap", "in.mcap", "--output", "store.zarr", GRID, "--workers", "1")
    assert "3 sequences from 1 scene" in said
    assert "messages: out.mcap" in run(*ROLLOUT, "--output", "f.zarr", "--mcap", "out.mcap")
    with AnyReader([tmp_path / "out.mcap"]) as bag:
        found = [
            (log_ns, bag.deserialize(raw, on.msgtype))
            for on, log_ns, raw in bag.messages()
            if on.topic == "/forecast/objects"
        ]
    presents = 1.0 + 0.5 * np.arange(3)
    assert [log_ns for log_ns, _ in found] == [
        bags.START_S * 10**9 + round(at * 1e9) for at in presents
    ]
    for at, (_, message) in zip(presents, found, strict=True):
        assert len(message.objects) == len(bags.MOVERS)
        x, y, yaw = bags.EGO_CAR.state(np.array([at]))[0, :3]
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        for number, (thing, mover) in enumerate(zip(message.objects, bags.MOVERS, strict=True)):
            assert str(UUID(bytes=bytes(thing.object_id.uuid))) == bags.name_of(number)
            (path,) = thing.kinematics.predicted_paths
            places = np.array([(pose.position.x, pose.position.y) for pose in path.path])
            # Turns are constant, and so the baseline of that name is right.
            truth = mover.state(at + 0.5 * np.arange(7))[:, :2]
            np.testing.assert_allclose(places @ turn.T + (x, y), truth, atol=0.05)
            np.testing.assert_allclose(places[0] @ turn.T + (x, y), truth[0], atol=0.001)


def simulated() -> Scene:
    """Simulated traffic at 10 Hz, as a tracker sees it that reaches 45 m."""
    scene = Sumo(window_s=6.0).read("3", 0.1)
    near = np.linalg.norm((scene.state[..., :3] - scene.ego_pose)[..., :2], axis=-1) < 45.0
    state = np.where(near[..., None], scene.state, np.nan)[near.any(axis=1)]
    kinds = tuple(np.array(scene.track_class)[near.any(axis=1)].tolist())
    return replace(scene, state=state, track_class=kinds, observed=None)


def assert_same_boxes(found: np.ndarray, truth: np.ndarray) -> None:
    """To a centimetre, a tenth of a degree, and in who is there when."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    off = np.nan_to_num(found - truth)
    assert np.abs(off[..., [0, 1, 3, 4]]).max() < 0.01
    assert np.degrees(np.abs(wrap_angle(off[..., 2]))).max() < 0.1


def whose(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which agent ``(N, T, 5)`` each stored track ``(M, T, 5)`` is, by where it is all the time."""
    apart = np.linalg.norm(found[:, None, :, :2] - truth[None, :, :, :2], axis=-1)
    apart[np.isnan(found[:, None, :, 0]) & np.isnan(truth[None, :, :, 0])] = 0.0
    return np.nan_to_num(apart, nan=np.inf).max(axis=2).argmin(axis=1)


@pytest.mark.timeout(120)
def test_a_bag_of_a_simulated_scene_becomes_that_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, ids, classes, headings and times are those of the scene, in every sequence."""
    pytest.importorskip("sumo", reason="the extra `sumo` is not installed")
    monkeypatch.chdir(tmp_path)
    scene = simulated()
    bags.write_bag(tmp_path / "in.mcap", bags.of_scene(scene))
    read = Mcap().read("in.mcap", 0.1)
    assert isinstance(read, Scene)
    np.testing.assert_allclose(read.time_s, bags.START_S + scene.time_s, atol=1e-6)
    order = [read.track_id.index(bags.name_of(n)) for n in range(len(scene.state))]
    assert len(read.track_id) == len(order)
    assert_same_boxes(read.state[order], scene.state)

    run("prepare", "mcap", "in.mcap", "--output", "store.zarr", "--phases", "5", "--workers", "1")
    store, meta = open_sequence_store("store.zarr")
    assert store.sizes["sequence"] == len(scene.time_s) - 40  # of 4 s each, one every 0.1 s
    for number, one in ((n, store.isel(sequence=n)) for n in range(store.sizes["sequence"])):
        present = number + 10
        assert float(one["init_time"]) == pytest.approx(bags.START_S + 0.1 * present, abs=1e-6)
        here = poses_to_frame(scene.state, scene.ego_pose[present])
        frames = here[:, present + 5 * np.arange(-2, 7)]
        stored = one["track_state"].values[one["track_class"].values > 0]
        who = whose(stored, frames)
        inside = meta.grid.contains(frames[..., 0], frames[..., 1]).any(axis=1)
        assert sorted(who) == np.flatnonzero(inside).tolist()  # each once
        assert_same_boxes(stored, frames[who])
        labels = [DEFAULT_CLASSES.index(scene.track_class[n]) + 1 for n in who]
        assert one["track_class"].values[: len(who)].tolist() == labels
        names = one["track_name"].values[: len(who)].tolist()
        assert names == [bags.name_of(n) for n in who]
        times = one["sample_time"].values
        samples = present + np.rint(10 * times[np.isfinite(times)]).astype(int)
        history = one["track_history"].values[: len(who), np.isfinite(times)]
        assert_same_boxes(history, here[who][:, samples])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mcap", "out.bag"), "an --mcap that ends in .mcap; got out.bag"),
        (("--mcap", "there.mcap"), "got there.mcap, which exists"),
        (("--mcap", "f.zarr/a.mcap"), "an --mcap beside --output"),
        (("--mcap", "store.zarr/a.mcap"), "--mcap apart from what is read"),
        (("--mcap", "a.mcap", "--input", "detected"), "tracks for --mcap"),
    ],
)
def test_a_bag_that_cannot_be_written_is_refused_before_the_work(
    refused: Refused, store: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "there.mcap").write_text("mine")
    model = "components-cv" if "detected" in options else "constant-turn"
    assert said in refused(
        *ROLLOUT, "--model", model, *options, "--output", "f.zarr", output="f.zarr"
    )
    assert (tmp_path / "there.mcap").read_text() == "mine"


def test_times_that_no_stamp_tells_are_refused_before_the_work(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    opened = zarr.open_group(store)
    opened["init_time"][:] = -3.0
    said = refused(*ROLLOUT, "--mcap", "a.mcap", "--output", "f.zarr", output="f.zarr")
    assert "times of 0 to" in said


def test_without_the_packages_only_bags_are_refused(
    refused: Refused, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags.write_bag(tmp_path / "in.mcap", bags.drive(seconds=1.0))
    monkeypatch.setattr(ros_messages, "find_spec", lambda name: None)
    install = "pip install 'bev-forecast[ros]'"
    assert install in refused("prepare", "mcap", "in.mcap", "--output", "o.zarr", output="o.zarr")
    assert install in refused(*ROLLOUT, "--mcap", "a.mcap", "--output", "f.zarr", output="f.zarr")


def test_a_bag_without_odometry_leaves_nothing_behind(refused: Refused, tmp_path: Path) -> None:
    entries = [entry for entry in bags.drive(seconds=1.0) if entry[1] != ODOMETRY]
    bags.write_bag(tmp_path / "in.mcap", entries)
    said = refused("prepare", "mcap", "in.mcap", "--output", "o.zarr", output="o.zarr")
    assert "a topic of Odometry; got autoware_perception_msgs/msg/TrackedObjects in in.mcap" in said
