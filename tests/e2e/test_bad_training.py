"""`forecast train` on bad input: one line, exit code 2, no run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.refusals import CONFIG, Refused


@pytest.mark.parametrize(
    "change",
    [
        "model.nope=1",
        "nope=1",
        "loading.batch_size=many",
        "curriculum=[]",
        "optimisation",
        "model.heads=7",
        "optimisation.learning_rate=.nan",
        "augmentation.mirror=2",
    ],
)
def test_train_refuses_settings_that_do_not_exist_or_fit(
    change: str, refused: Refused, store: Path
) -> None:
    arguments = ("--config", str(CONFIG), "--data", str(store), "--output", "run")
    refused("train", *arguments, "--set", change, output="run")


@pytest.mark.parametrize(
    ("old", "new"),
    [("model.memory=false", "model.raster"), ("curriculum.0.interval=2", "curriculum.0.frame_")],
)
def test_train_tells_the_new_name_of_a_setting(
    old: str, new: str, refused: Refused, store: Path
) -> None:
    arguments = ("--config", str(CONFIG), "--data", str(store), "--output", "run")
    assert f"expected {new}" in refused("train", *arguments, "--set", old, output="run")


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
