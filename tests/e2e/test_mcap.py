"""From a bag to a bag: prepare, rollout --mcap, and another library that reads what came of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from rosbags.highlevel import AnyReader
from typer.testing import CliRunner

from data_tools.formats import ros_messages
from data_tools.formats.ros_messages import ODOMETRY
from forecast.cli import main as cli
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
        for thing, mover in zip(message.objects, bags.MOVERS, strict=True):
            (path,) = thing.kinematics.predicted_paths
            places = np.array([(pose.position.x, pose.position.y) for pose in path.path])
            # Turns are constant, and so the baseline of that name is right.
            truth = mover.state(at + 0.5 * np.arange(7))[:, :2]
            np.testing.assert_allclose(places @ turn.T + (x, y), truth, atol=0.05)


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
