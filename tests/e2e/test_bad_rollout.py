"""`forecast rollout` on bad input: one line, exit code 2, nothing under the output's name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import zarr

from forecast.grid import BEVGrid
from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS
from tests.support.refusals import (
    Refused,
    assert_refused,
    run_with_files_of_at_most,
    save_untrained,
    truncate,
)
from tests.support.stores import Mover, content, sequence_store

OUTPUT = ("--output", "o.zarr", "--gif", "")


def roll_out(refused: Refused, data: Path | str, model: str = "constant-turn", *more: str) -> str:
    """A refusal of rolling out some data."""
    arguments = ("--data", str(data), "--model", model, *OUTPUT)
    return refused("rollout", *arguments, *more, output="o.zarr")


def test_rollout_refuses_a_horizon_of_0(refused: Refused, store: Path) -> None:
    assert "horizon" in roll_out(refused, store, "constant-turn", "--horizon", "0")


def test_rollout_refuses_a_missing_store(refused: Refused) -> None:
    assert "none.zarr" in roll_out(refused, "none.zarr")


def test_rollout_refuses_another_schema_version(refused: Refused, store: Path) -> None:
    metadata = store / "zarr.json"
    metadata.write_text(
        metadata.read_text()
        .replace("bev-sequence/2", "bev-sequence/9")
        .replace("bev-sequence/1", "bev-sequence/9")
    )
    assert "bev-sequence/9" in roll_out(refused, store)


@pytest.mark.parametrize("variable", ["instance", "ego_pose", "track_state"])
def test_rollout_refuses_truncated_chunks(variable: str, refused: Refused, store: Path) -> None:
    truncate(store / variable)
    assert "damaged" in roll_out(refused, store)


@pytest.mark.parametrize("variable", ["semantic", "instance", "ego_pose"])
def test_rollout_refuses_a_store_whose_file_is_gone(
    variable: str, refused: Refused, store: Path
) -> None:
    shutil.rmtree(store / variable / "c")
    assert "make the store anew" in roll_out(refused, store)


def test_rollout_refuses_ego_poses_that_are_not_finite(refused: Refused, store: Path) -> None:
    poses = zarr.open_array(store, path="ego_pose", mode="r+")
    poses[1, 0, 0] = float("nan")
    assert "finite" in roll_out(refused, store)


def test_rollout_refuses_boxes_of_no_size(refused: Refused, store: Path) -> None:
    states = zarr.open_array(store, path="track_state", mode="r+")
    states[0, 0, :, 3] = 0.0
    assert "size" in roll_out(refused, store)


def test_rollout_refuses_a_model_that_is_not_there(refused: Refused, store: Path) -> None:
    assert "none.safetensors" in roll_out(refused, store, "none.safetensors")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A forecaster of pedestrians only, which is not what the store here is about."""
    path = tmp_path / "other.safetensors"
    save_untrained(path, ("pedestrian",), ())
    return path


def test_rollout_refuses_a_grid_smaller_than_the_encoder_can_read(
    refused: Refused, tmp_path: Path
) -> None:
    data = sequence_store(tmp_path / "tiny.zarr", [[Mover(0, 0)]], grid=BEVGrid(-4, 4, -3, 3, 0.5))
    model = save_untrained(tmp_path / "m.safetensors", DEFAULT_CLASSES, MAP_LAYERS, raster="always")
    assert "16 cells" in roll_out(refused, data, model)


def test_rollout_refuses_a_checkpoint_of_another_model(
    refused: Refused, store: Path, checkpoint: Path
) -> None:
    assert "pedestrian" in roll_out(refused, store, str(checkpoint))


def test_rollout_refuses_weights_that_are_not_those_described(
    refused: Refused, store: Path, checkpoint: Path
) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-8])
    assert "SHA-256" in roll_out(refused, store, str(checkpoint))


@pytest.mark.parametrize("content", ["", "{", '{"schema": "another/1"}'])
def test_rollout_refuses_a_checkpoint_without_its_description(
    content: str, refused: Refused, store: Path, checkpoint: Path
) -> None:
    checkpoint.with_suffix(".json").write_text(content)
    assert "other.json" in roll_out(refused, store, str(checkpoint))


def test_rollout_does_not_unpickle(refused: Refused, store: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    roll_out(refused, store, "model.ckpt")
    assert not (tmp_path / "pwned").exists()


def test_rollout_refuses_an_output_that_exists(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "o.zarr").mkdir()
    (tmp_path / "o.zarr" / "precious").write_text("mine")
    arguments = ("--data", str(store), "--model", "constant-turn", *OUTPUT)
    assert "a new output; got" in refused("rollout", *arguments)
    assert content(tmp_path / "o.zarr") == {"precious": b"mine"}


@pytest.mark.parametrize("option", ["--output", "--gif", "--mcap"])
def test_a_folder_of_something_else_is_not_replaced(
    option: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    """--overwrite replaces what such a command wrote, not whatever has the name."""
    if option == "--mcap":
        pytest.importorskip("mcap_ros2", reason="mcap-ros2-support is not installed")
    place = tmp_path / f"mine{'.mcap' if option == '--mcap' else ''}"
    place.mkdir()
    (place / "precious").write_text("mine")
    places = {"--output": "f.zarr", "--gif": "", option: place.name}
    arguments = ("--data", str(store), "--model", "constant-turn", "--overwrite")
    words = [word for pair in places.items() for word in pair]
    assert place.name in refused("rollout", *arguments, *words, output="none")
    assert content(place) == {"precious": b"mine"}


def test_rollout_refuses_to_replace_its_data(refused: Refused, store: Path, tmp_path: Path) -> None:
    before = content(store)
    arguments = ("--data", "store.zarr", "--model", "constant-turn", "--overwrite")
    shown = refused("rollout", *arguments, "--output", str(store), "--gif", "")
    assert "--output apart from what is read" in shown
    assert "--gif apart" in refused("rollout", *arguments, "--gif", "store.zarr/f.gif")
    assert content(store) == before
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]


def test_rollout_refuses_a_picture_that_exists_before_it_forecasts(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "o.gif").write_bytes(b"of an earlier run")
    arguments = ("--data", str(store), "--model", "constant-turn", "--output", "o.zarr")
    assert "o.gif" in refused("rollout", *arguments, "--gif", "o.gif", output="o.zarr")
    assert (tmp_path / "o.gif").read_bytes() == b"of an earlier run"


@pytest.mark.parametrize("place", ["file.txt/o.zarr", "/proc/o.zarr"])
def test_rollout_refuses_an_output_that_cannot_be_written(
    place: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "file.txt").write_text("in the way")
    arguments = ("--data", str(store), "--model", "constant-turn", "--output", place, "--gif", "")
    refused("rollout", *arguments, output=place)


@pytest.mark.parametrize("room", [200, 2000], ids=["for no plan", "for no store"])
def test_rollout_without_space_leaves_nothing(room: int, store: Path, tmp_path: Path) -> None:
    command = f"rollout --data {store} --model constant-turn --output o.zarr --gif o.gif"
    assert_refused(run_with_files_of_at_most(room, command, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [store.name]


def test_rollout_refuses_to_force_beyond_the_truth(refused: Refused, store: Path) -> None:
    line = roll_out(refused, store, "constant-turn", "--teacher-forced", "--horizon", "8")
    assert "1 to 7 steps" in line


def test_rollout_refuses_to_force_detected_input(refused: Refused, store: Path) -> None:
    line = roll_out(refused, store, "components-cv", "--teacher-forced", "--input", "detected")
    assert "--teacher-forced" in line
