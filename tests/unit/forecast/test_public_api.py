"""``import forecast``: what it offers, how little it loads, and arrays that become sequences."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forecast
from data_tools.labels.rasterise import rasterise_boxes

ROOT = Path(forecast.__file__).parent
GRID = forecast.BEVGrid(-20, 20, -20, 20, 0.5)
EGO = np.zeros((3, 3))


def boxes(frames: int = 3) -> np.ndarray[Any, Any]:
    """A car that drives ahead at 6 m/s and a pedestrian that stands."""
    state = np.zeros((2, frames, 5))
    state[0] = [0, 2, 0, 4.6, 1.9]
    state[0, :, 0] = 3.0 * np.arange(1 - frames, 1)
    state[1] = [5, -5, 0, 1.0, 1.0]
    return state


def sequence(**changes: Any) -> forecast.BEVSequence:
    given = {"ego_pose": EGO, "track_state": boxes(), "track_class": [1, 2], "dt_s": 0.5, **changes}
    return forecast.BEVSequence.from_numpy(GRID, **given)


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_loads_nothing_slow() -> None:
    loaded = in_a_new_process(
        "import sys, forecast; dir(forecast); forecast.ForecastError; print(*sys.modules)"
    ).split()
    slow = {"torch", "xarray", "zarr", "numpy", "pandas", "pytorch_lightning", "rich", "typer"}
    assert not slow & set(loaded)
    assert "forecast.errors" in loaded


def test_importing_takes_no_time() -> None:
    code = (
        "import time; began = time.perf_counter(); import forecast;"
        " print(time.perf_counter() - began)"
    )
    assert min(float(in_a_new_process(code)) for _ in range(3)) < 0.1


def test_everything_listed_is_there_and_nothing_else() -> None:
    assert set(forecast.__all__) <= set(dir(forecast))
    for name in forecast.__all__:
        assert getattr(forecast, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        forecast.predict  # noqa: B018


def test_types_are_told_of_all_that_is_exported() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    typed = {
        alias.name: node.module
        for guard in tree.body
        if isinstance(guard, ast.If)
        for node in guard.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"forecast.{origin}" for name, origin in forecast._ORIGIN.items()}
    assert set(typed) == set(forecast.__all__)


def test_no_module_takes_the_place_of_what_is_exported() -> None:
    modules = {path.stem for path in ROOT.iterdir()}
    assert not modules & set(forecast.__all__)
    out = in_a_new_process(
        "import forecast.loop, forecast.workflows, forecast.evaluation.evaluate, forecast;"
        " print(*(getattr(forecast, name).__class__.__name__ for name in"
        " ('rollout', 'evaluate', 'prepare', 'train')))"
    )
    assert out.split() == ["function"] * 4


def test_boxes_alone_are_drawn_as_prepare_draws_them() -> None:
    found = sequence()
    for frame in range(3):
        drawn = rasterise_boxes(
            boxes()[:, frame], np.zeros(2, np.int64), np.array([1, 2], np.uint16), 1, GRID
        )
        assert np.array_equal(found.instance[0, frame], drawn[0])
    assert torch.equal(found.semantic, found.instance.to(torch.uint8))  # classes 1 and 2
    assert found.track_state is not None
    assert found.track_state.dtype == torch.float32
    assert found.ego_pose.shape == (1, 3, 3)


def test_an_absent_track_is_not_drawn() -> None:
    state = boxes()
    state[1, :2] = np.nan
    instance = sequence(track_state=state).instance[0]
    assert [(instance[frame] == 2).any().item() for frame in range(3)] == [False, False, True]


def test_a_batch_axis_may_be_given() -> None:
    two = sequence(
        ego_pose=np.zeros((2, 3, 3)),
        track_state=np.stack([boxes(), boxes()[::-1]]),
        track_class=[[1, 2], [2, 1]],
    )
    assert two.batch == 2
    assert torch.equal(two.semantic[0], two.semantic[1])
    assert not torch.equal(two.instance[0], two.instance[1])


def test_classes_alone_have_no_ids() -> None:
    semantic = np.ones((3, 80, 80), np.int64)
    found = forecast.BEVSequence.from_numpy(GRID, 0.5, ego_pose=EGO, semantic=semantic)
    assert not found.instance.any()
    assert found.semantic.all()
    assert found.track_state is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ego_pose": np.zeros((3, 2))}, r"expected ego_pose of shape \(sequence, time, 3\)"),
        ({"semantic": np.zeros((3, 80, 40))}, r"\(1, 3, 80, 80\).*; got \(3, 80, 40\)"),
        ({"semantic": np.zeros((2, 80, 80))}, r"\(1, 3, 80, 80\).*; got \(2, 80, 80\)"),
        ({"track_state": boxes(4)}, r"track_state of shape \(1, track, 3, 5\).*got \(2, 4, 5\)"),
        ({"track_class": [1, 2, 3]}, r"track_class of shape \(1, 2\).*got \(3,\)"),
        ({"track_class": None}, "track_state and track_class together"),
        ({"track_class": np.ma.array([1, 2], mask=[0, 1])}, "an array without mask as track_class"),
        ({"track_state": torch.tensor(boxes(), requires_grad=True)}, "requires grad"),
        ({"track_class": ["vehicle", "cyclist"]}, "array of numbers as track_class; got one of <U"),
        ({"ego_pose": [[0, 0, 0], [0, 0]]}, "expected an array of numbers as ego_pose"),
        ({"dt_s": 0.0}, r"seconds between frames above 0 as dt_s; got 0\.0"),
        (
            {
                "track_state": None,
                "track_class": None,
                "semantic": np.zeros((3, 80, 80), int),
                "track_history": boxes(),
                "sample_time": [-1.0, -0.5, 0.0],
            },
            "track_state and track_class beside track_history; got none",
        ),
        ({"track_class": [1, -1]}, "whole numbers from 0 to 255 in track_class; got -1 to 1"),
        ({"semantic": np.full((3, 80, 80), 0.5)}, "whole numbers from 0 to 255 in semantic"),
        ({"ego_pose": np.full((3, 3), np.nan)}, "finite ego poses"),
        ({"track_state": boxes() * [1, 1, 1, 0, 1]}, "boxes of a size above 0"),
        ({"track_state": None, "track_class": None}, "expected semantic, instance, or track_state"),
        (
            {"track_state": None, "track_class": None, "instance": np.ones((3, 80, 80), int)},
            "expected semantic, or track_class of every id",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(forecast.DataError, match=told):
        sequence(**changes)


@pytest.mark.parametrize(
    ("name", "unsaid"), [("kalman", set()), ("constant-turn", {"uncertainty"})]
)
def test_a_step_as_numpy_has_every_tensor(name: str, unsaid: set[str]) -> None:
    model = forecast.load_model(name, device="cpu")
    step = next(forecast.rollout(model, sequence(), 1))
    arrays = step.to_numpy()
    assert set(arrays) == {item.name for item in fields(step)} - {"lead"} - unsaid
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, getattr(step, name))
    assert arrays["pose"][0, 0, 0] == pytest.approx(3.0, abs=1e-4)  # 6 m/s for half a second


def test_a_model_says_what_it_reads_and_refuses_the_rest() -> None:
    model = forecast.load_model(device="cpu")
    assert len(model.classes) == 3
    with pytest.raises(forecast.DataError, match="expected 4 map layers; got 2"):
        next(forecast.rollout(model, sequence(map=np.zeros((2, 80, 80))), 1))


def test_histories_of_any_length_and_rate_are_read() -> None:
    model = forecast.load_model(device="cpu")
    for history in (sequence().crop(0, 1), sequence().crop(0, 2), replace(sequence(), dt_s=0.1)):
        step = next(forecast.rollout(model, history, 1)).to_numpy()
        assert np.isfinite(step["pose"][step["ids"] > 0]).all()


def test_map_layers_go_by_name() -> None:
    """Layers in another order are sorted, and those that are not given are empty."""
    drivable = np.zeros((80, 80))
    drivable[40:] = 1
    named = forecast.load_model(device="cpu", map_layers=("drivable",))
    whole = forecast.load_model(device="cpu")
    layers = np.zeros((4, 80, 80))
    layers[whole.map_layers.index("drivable")] = drivable
    own = next(forecast.rollout(named, sequence(map=drivable[None]), 1))
    same = next(forecast.rollout(whole, sequence(map=layers), 1))
    without = next(forecast.rollout(whole, sequence(map=0 * layers), 1))
    assert torch.equal(own.pose, same.pose)
    assert not torch.equal(own.pose, without.pose)


def test_provenance_of_a_baseline_is_its_name() -> None:
    model = forecast.load_model("persistence", classes=("car",))
    assert model.classes == ("car",)
    assert model.provenance.to_attrs() == {"model": "persistence"}


def test_provenance_of_a_checkpoint_names_its_weights() -> None:
    attrs = forecast.load_model(None, mirror=True).provenance.to_attrs()
    assert list(attrs) == ["model", "mirrored", "fast", "checkpoint_sha256", "queries", "config"]
    assert attrs["model"] == "packaged"
    assert attrs["mirrored"] is True


def test_no_gradients_are_kept() -> None:
    step = next(forecast.rollout(forecast.load_model(device="cpu"), sequence(), 1))
    assert not step.pose.requires_grad


def test_a_config_is_not_changed_by_set() -> None:
    from forecast.config.config import Config

    with pytest.raises(forecast.ConfigError, match="`set` with a YAML file"):
        forecast.train(Config(), "none.zarr", "out", set=["seed=1"])
