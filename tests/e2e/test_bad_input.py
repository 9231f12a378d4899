"""Bad input through the command line: one line, exit code 2, nothing under the output's name."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zarr

from forecast import cli
from forecast.grid import BEVGrid
from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS
from tests.support import Mover, content, forecast_store, sequence_store

Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Runs the program in ``tmp_path`` and returns its one line on stderr."""

    def run(*arguments: str, output: str | None = None) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("FORECAST_DEBUG", raising=False)
        monkeypatch.setattr(sys, "argv", ["forecast", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        shown = capsys.readouterr().err
        assert exit_.value.code == cli.BAD_INPUT, shown
        assert shown.count("\n") == 1, shown
        assert shown.startswith("error: expected "), shown
        assert "; got" in shown, shown
        if output is not None:
            assert not (tmp_path / output).exists()
        return shown

    return run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A small valid sequence store of two scenes."""
    path = tmp_path / "store.zarr"
    sequence_store(path, [[Mover(0, 0, speed=4)], [Mover(5, 3, speed=4), Mover(-5, -3)]])
    yield path
    shutil.rmtree(path, ignore_errors=True)


def scenario(steps: int = 91, **changes: Any) -> dict[str, Any]:
    """One car at 8 m/s in the JSON of Waymo scenarios; ``changes`` replace its fields."""
    car = {
        "position": [{"x": 0.8 * step, "y": 0.0} for step in range(steps)],
        "heading": [0.0] * steps,
        "valid": [True] * steps,
        "length": 4.5,
        "width": 2.0,
        "type": "vehicle",
    } | changes
    return {"objects": [car], "roads": [], "metadata": {"sdc_track_index": 0}}


# --- prepare


def test_prepare_refuses_a_missing_input(refused: Refused) -> None:
    line = refused("prepare", "waymo-json", "none.json", "--output", "o.zarr", output="o.zarr")
    assert "none.json" in line


def test_prepare_refuses_an_unknown_source(refused: Refused) -> None:
    assert "waymo-json" in refused("prepare", "kitti", "x", "--output", "o.zarr", output="o.zarr")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"objects": [], "roads": []}', "\x1f\x8b broken"],
    ids=["empty", "corrupt", "list", "no-objects", "no-traffic", "not-gzip"],
)
def test_prepare_refuses_json_that_is_no_scenario(
    content: str, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text(content, encoding="latin-1")
    line = refused(
        "prepare", "waymo-json", "bad.json", "--output", "o.zarr", "--workers", "1", output="o.zarr"
    )
    assert "bad.json" in line


@pytest.mark.parametrize("bad", ["nan", "short"])
def test_prepare_refuses_a_recording_without_a_usable_ego(
    bad: str, refused: Refused, tmp_path: Path
) -> None:
    steps = 20 if bad == "short" else 91
    nowhere = [{"x": float("nan"), "y": 0.0}] * steps
    content = scenario(steps) if bad == "short" else scenario(position=nowhere)
    (tmp_path / "a.json").write_text(json.dumps(content))
    refused(
        "prepare", "waymo-json", "a.json", "--output", "o.zarr", "--workers", "1", output="o.zarr"
    )


def test_prepare_counts_boxes_of_no_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = scenario()
    content["objects"].append(content["objects"][0] | {"length": 0.0})
    (tmp_path / "a.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    command = "forecast prepare waymo-json a.json --output o.zarr --workers 1"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert "boxes without a finite pose or size: 19" in capsys.readouterr().out


@pytest.mark.parametrize("grid", ["tiny", "1,2,3", "5,-5,0,1,0.5", "-5,5,-5,5,0", "-5,5,-5,5,0.3"])
def test_prepare_refuses_impossible_grids(grid: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(scenario()))
    refused(
        "prepare", "waymo-json", "a.json", "--output", "o.zarr", f"--grid={grid}", output="o.zarr"
    )


def test_prepare_refuses_what_is_no_centre(refused: Refused) -> None:
    line = refused(
        "prepare", "sumo", "1", "--output", "o.zarr", "--centre", "there", output="o.zarr"
    )
    assert "agent:ID" in line


def test_prepare_refuses_an_output_that_exists(
    refused: Refused, tmp_path: Path, store: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(scenario()))
    before = sorted(store.rglob("*"))
    refused("prepare", "waymo-json", "a.json", "--output", str(store), "--workers", "1")
    assert sorted(store.rglob("*")) == before


@pytest.mark.parametrize("place", ["a.json/o.zarr", "/proc/o.zarr"])
def test_prepare_refuses_an_output_that_cannot_be_written(
    place: str, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(scenario()))
    refused("prepare", "waymo-json", "a.json", "--output", place, "--workers", "1", output=place)


def test_prepare_without_space_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(scenario()))
    command = "prepare waymo-json a.json --output o.zarr --workers 1"
    done = run_with_files_of_at_most(2000, command, tmp_path)
    assert_refused(done)
    assert not (tmp_path / "o.zarr").exists()


# --- stores


def test_a_missing_store_is_refused(refused: Refused) -> None:
    assert "none.zarr" in refused("inspect", "store", "none.zarr")


def test_a_file_that_is_no_store_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file.zarr").write_text("not zarr")
    assert "file.zarr" in refused("inspect", "store", "file.zarr")


def test_another_schema_version_is_refused(refused: Refused, store: Path) -> None:
    metadata = store / "zarr.json"
    metadata.write_text(metadata.read_text().replace("bev-sequence/1", "bev-sequence/9"))
    line = refused("inspect", "store", str(store))
    assert "bev-sequence/1" in line
    assert "bev-sequence/9" in line


def test_truncated_metadata_is_refused(refused: Refused, store: Path) -> None:
    metadata = store / "zarr.json"
    metadata.write_text(metadata.read_text()[:100])
    assert "store.zarr" in refused("inspect", "store", str(store))


def test_a_store_that_lost_a_variable_is_refused(refused: Refused, store: Path) -> None:
    shutil.rmtree(store / "ego_pose")
    assert "ego_pose" in refused("inspect", "store", str(store))


@pytest.mark.parametrize("variable", ["scene", "track_class"])
def test_a_truncated_chunk_is_refused(variable: str, refused: Refused, store: Path) -> None:
    truncate(store / variable)
    assert "damaged" in refused("inspect", "store", str(store))


# --- train


CONFIG = Path(__file__).parents[2] / "configs" / "small.yaml"


@pytest.mark.parametrize(
    "change",
    [
        "model.nope=1",
        "nope=1",
        "loading.batch_size=many",
        "curriculum=[]",
        "optimisation",
        "model.heads=7",
    ],
)
def test_train_refuses_settings_that_do_not_exist_or_fit(
    change: str, refused: Refused, store: Path
) -> None:
    arguments = ("--config", str(CONFIG), "--data", str(store), "--output", "run")
    refused("train", *arguments, "--set", change, output="run")


@pytest.mark.parametrize("content", [None, "", "[1, 2]", "model: {"])
def test_train_refuses_a_config_that_is_none(
    content: str | None, refused: Refused, store: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "c.yaml").write_text(content)
    arguments = ("--config", "c.yaml", "--data", str(store), "--output", "run")
    assert "c.yaml" in refused("train", *arguments, output="run")


def train(refused: Refused, data: Path | str, *more: str) -> str:
    """A refusal of training on some data."""
    arguments = ("--config", str(CONFIG), "--data", str(data), "--output", "run")
    return refused("train", *arguments, *more, output="run")


def test_train_refuses_a_missing_store(refused: Refused) -> None:
    assert "none.zarr" in train(refused, "none.zarr")


def test_train_refuses_a_missing_validation_store(refused: Refused, store: Path) -> None:
    assert "none.zarr" in train(refused, store, "--val", "none.zarr")


def test_train_refuses_a_store_without_tracks(refused: Refused, store: Path) -> None:
    shutil.rmtree(store / "track_state")
    assert "track_state" in train(refused, store)


def test_train_refuses_a_horizon_beyond_the_truth(refused: Refused, store: Path) -> None:
    change = "curriculum=[{epochs: 1, horizon: 12}]"
    assert "horizon" in train(refused, store, "--set", change)


@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_train_refuses_an_output_that_is_no_local_folder(
    more: tuple[str, ...], refused: Refused, store: Path, tmp_path: Path
) -> None:
    arguments = ("--config", str(CONFIG), "--data", str(store), "--output", "s3://bucket/run")
    assert "a local disk" in refused("train", *arguments, *more)
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]


def test_train_refuses_a_file_as_its_folder(refused: Refused, store: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    arguments = ("--config", str(CONFIG), "--data", str(store), "--output", "run")
    assert "choose another name" in refused("train", *arguments)
    assert (tmp_path / "run").read_text() == "mine"


def test_train_refuses_a_folder_that_holds_a_run(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"of an earlier run")
    arguments = ("--config", str(CONFIG), "--data", str(store), "--output", "run")
    assert "--resume" in refused("train", *arguments)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == b"of an earlier run"


# --- rollout


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
    metadata.write_text(metadata.read_text().replace("bev-sequence/1", "bev-sequence/9"))
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


def save_untrained(
    path: Path, classes: tuple[str, ...], layers: tuple[str, ...], **spec: Any
) -> str:
    """A checkpoint of a small forecaster that has learned nothing."""
    from forecast.checkpoint import save_checkpoint
    from forecast.model.forecaster import Forecaster
    from forecast.model.spec import ForecasterSpec, Inputs

    small = ForecasterSpec(dim=32, hidden=32, ffn=32, **{"memory": False, **spec})
    save_checkpoint(Forecaster(small, Inputs(classes, layers)), path, 0.5, {})
    return str(path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A forecaster of pedestrians only, which is not what the store here is about."""
    path = tmp_path / "other.safetensors"
    save_untrained(path, ("pedestrian",), ())
    return path


def test_rollout_refuses_more_agents_than_slots(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    model = save_untrained(tmp_path / "one.safetensors", DEFAULT_CLASSES, MAP_LAYERS, slots=1)
    assert "model.slots" in roll_out(refused, store, model)


def test_rollout_refuses_a_grid_smaller_than_the_encoder_can_read(
    refused: Refused, tmp_path: Path
) -> None:
    data = sequence_store(tmp_path / "tiny.zarr", [[Mover(0, 0)]], grid=BEVGrid(-4, 4, -3, 3, 0.5))
    model = save_untrained(tmp_path / "m.safetensors", DEFAULT_CLASSES, MAP_LAYERS, memory=True)
    assert "16 cells" in roll_out(refused, data, model)


def test_train_refuses_more_agents_than_slots(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    arguments = ("--config", str(CONFIG), "--data", str(store), "--output", "run")
    assert "model.slots" in refused("train", *arguments, "--set", "model.slots=1")
    assert not (tmp_path / "run" / "model.safetensors").exists()


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


# --- evaluate


def test_evaluate_refuses_a_sequence_store_as_a_forecast(refused: Refused, store: Path) -> None:
    assert "bev-forecast/1" in refused("evaluate", str(store), "--data", str(store))


def test_evaluate_refuses_a_missing_forecast(refused: Refused, store: Path) -> None:
    assert "none.zarr" in refused("evaluate", "none.zarr", "--data", str(store))


@pytest.mark.parametrize(
    "arguments",
    [("--by", "lead", "--drift"), ("--against", "b.zarr"), ("--by", "lead", "--against", "b.zarr")],
)
def test_evaluate_refuses_questions_that_exclude_each_other(
    arguments: tuple[str, ...], refused: Refused
) -> None:
    assert "--drift" in refused("evaluate", "a.zarr", "--data", "d.zarr", *arguments)


def test_evaluate_refuses_to_compare_forecasts_of_others(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    others = sequence_store(tmp_path / "others.zarr", [[Mover(0, 0)]], first=7)
    ours, theirs = (
        forecast_store(tmp_path / f"{n}.zarr", s) for n, s in ((1, str(store)), (2, others))
    )
    line = refused("evaluate", ours, "--data", str(store), "--drift", "--against", theirs)
    assert f"others in {theirs}" in line


# --- helpers


def truncate(variable: Path) -> None:
    """Cuts every chunk of an array of a store in half, as a broken copy does."""
    for chunk in (path for path in (variable / "c").rglob("*") if path.is_file()):
        chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


def run_with_files_of_at_most(
    size: int, command: str, directory: Path
) -> subprocess.CompletedProcess[str]:
    """The program where no file can grow beyond ``size`` bytes, as on a disk that is full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        [sys.executable, "-m", "forecast.cli", *command.split()],
        cwd=directory,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    """Exit code 2 and one line."""
    assert done.returncode == cli.BAD_INPUT, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: expected "), done.stderr
