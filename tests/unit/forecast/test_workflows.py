"""A rollout to disk: the same whoever does it and however often it is interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
import zarr

from forecast.checkpoint.checkpoint import save_checkpoint
from forecast.checkpoint.packaged import PACKAGED
from forecast.errors import CheckpointError, ConfigError, DataError
from forecast.evaluation.scoring import score_stores
from forecast.inference.request import NOT_LEARNED
from forecast.model.spec import COMPONENTS
from forecast.storage.stores import open_forecast_store, open_store
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.sequences import forecaster
from tests.support.stores import Mover, content, sequence_store

SCENES = [[Mover(0, -4, speed=index), Mover(-6, 4)][: 1 + index % 2] for index in range(5)]


@pytest.fixture
def request_(tmp_path: Path) -> RolloutRequest:
    """Five sequences, two at a time, by constant turn rate."""
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    output = str(tmp_path / "whole.zarr")
    return RolloutRequest(data=data, model="constant-turn", output=output, batch_size=2)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The number of threads decides the last bits of a learned model's forecasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


def interrupt(request: RolloutRequest, after: int) -> None:
    """Runs until so many sequences are done."""

    def stop(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout_to_store(request, stop)


def test_workers_make_the_bytes_and_scores_of_one_process(
    request_: RolloutRequest, tmp_path: Path, one_thread: None
) -> None:
    model = tmp_path / "model.safetensors"
    save_checkpoint(forecaster(), model, 0.5, {})
    one = rollout_to_store(replace(request_, model=str(model)))
    output = str(tmp_path / "two.zarr")
    told: list[tuple[int, int]] = []
    two = rollout_to_store(
        replace(request_, model=str(model), output=output, workers=2),
        lambda *done: told.append(done),
    )
    assert content(output) == content(one.output)
    assert two.scores == one.scores
    assert len(told) == 3
    assert told[-1] == (5, 5)
    assert sorted(path.name for path in tmp_path.glob("*zarr*")) == [
        "s.zarr",
        "two.zarr",
        "whole.zarr",
    ]


def test_a_dask_cluster_makes_the_bytes_of_one_process(
    request_: RolloutRequest, tmp_path: Path
) -> None:
    import distributed

    one = rollout_to_store(request_)
    output = str(tmp_path / "there.zarr")
    with distributed.LocalCluster(
        n_workers=2, processes=False, protocol="tcp://", dashboard_address=":0"
    ) as cluster:
        there = replace(request_, output=output, scheduler=cluster.scheduler_address)
        assert rollout_to_store(there).scores == one.scores
        assert content(output) == content(one.output)
        for chunk in Path(str(request_.data)).glob("instance/c/**/0"):
            if chunk.is_file():
                chunk.write_bytes(b"x")
        with pytest.raises(DataError, match="a damaged one for sequence"):
            rollout_to_store(replace(there, overwrite=True))
    assert content(output) == content(one.output)


def test_an_interrupted_run_resumes_to_the_same_bytes_and_scores(
    request_: RolloutRequest, tmp_path: Path
) -> None:
    whole = rollout_to_store(request_)
    broken = replace(request_, output=str(tmp_path / "broken.zarr"))
    interrupt(broken, after=2)
    assert not Path(broken.output).exists()
    told: list[tuple[int, int]] = []
    resumed = rollout_to_store(replace(broken, resume=True), lambda *done: told.append(done))
    assert told == [(4, 5), (5, 5)]  # the first batch was not done again
    assert content(broken.output) == content(whole.output)
    assert resumed.scores == whole.scores
    assert not list(tmp_path.glob("*.partial"))


def test_an_interrupt_before_anything_is_done_leaves_nothing(
    request_: RolloutRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("forecast.inference.job.create_store", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rollout_to_store(request_)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"horizon": 4}, "horizon"),
        ({"limit": 4}, "contents, sequences"),
        ({"model": "persistence"}, "model"),
        ({"batch_size": 1}, "batch size"),
        ({"model": "components-cv", "input_mode": "detected"}, "input, model"),
    ],
)
def test_another_request_does_not_go_on_with_what_is_there(
    request_: RolloutRequest, change: dict[str, Any], named: str
) -> None:
    interrupt(request_, after=2)
    with pytest.raises(DataError, match=rf"others \({named}\) than in .*plan.json") as caught:
        rollout_to_store(replace(request_, resume=True, **change))
    assert "\n" not in str(caught.value)


def test_other_sequences_under_the_same_name_are_refused(request_: RolloutRequest) -> None:
    interrupt(request_, after=2)
    sequence_store(Path(str(request_.data)), SCENES, first=1)
    with pytest.raises(DataError, match=r"others \(contents\) than in"):
        rollout_to_store(replace(request_, resume=True))


def move_an_agent(store: str) -> None:
    """In place: neither attributes nor files of the root tell."""
    state = zarr.open_array(store, path="track_state", mode="r+")
    state[0, 0, 0, 0] += 0.5


def write_another_map(store: str) -> None:
    """Anew, beside the same histories."""
    data = xr.open_zarr(store, chunks=None, consolidated=False).load()
    data["map"] = 1 - data["map"]
    shutil.rmtree(store)
    data.to_zarr(store, mode="w", zarr_format=3, consolidated=False)


@pytest.mark.parametrize("change", [move_an_agent, write_another_map])
@pytest.mark.parametrize("changed", ["contents", "errors"])
def test_two_versions_of_the_data_are_not_mixed(
    changed: str, change: Callable[[str], None], request_: RolloutRequest, tmp_path: Path
) -> None:
    errors = sequence_store(tmp_path / "errors.zarr", 2 * SCENES)
    request = replace(request_, model=f"resampled-errors:{errors}")
    interrupt(request, after=2)
    change({"contents": str(request.data), "errors": errors}[changed])
    with pytest.raises(DataError, match=rf"others \({changed}\) than in"):
        rollout_to_store(replace(request, resume=True))


def test_long_histories_of_detected_input_make_a_store_that_opens(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "long.zarr", [[Mover(0, 0)]], history=70)
    request = RolloutRequest(
        data, COMPONENTS, str(tmp_path / "f.zarr"), horizon=1, input_mode="detected"
    )
    rollout_to_store(request)
    assert (open_forecast_store(request.output)["existence"] > 0).any()


def test_an_unfinished_run_is_thrown_away_only_where_that_is_asked_for(
    request_: RolloutRequest, tmp_path: Path
) -> None:
    interrupt(request_, after=2)
    before = content(tmp_path)
    with pytest.raises(DataError, match=r"no unfinished run at .*; .* --overwrite to begin anew"):
        rollout_to_store(request_)
    assert content(tmp_path) == before
    told: list[tuple[int, int]] = []
    rollout_to_store(replace(request_, overwrite=True), lambda *done: told.append(done))
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("count", ["horizon", "limit", "batch_size", "workers"])
def test_a_count_below_one_is_refused_from_python_too(request_: RolloutRequest, count: str) -> None:
    with pytest.raises(ConfigError, match=f"--{count.replace('_', '-')} of at least 1; got 0"):
        rollout_to_store(replace(request_, **{count: 0}))


@pytest.mark.parametrize("name", ["constant-trun", "nope", "runs/nowhere"])
def test_a_model_that_is_not_there_is_told_the_names_there_are(
    request_: RolloutRequest, name: str
) -> None:
    names = ", ".join((PACKAGED, *NOT_LEARNED, "resampled-errors:STORE"))
    with pytest.raises(CheckpointError, match=f"one of {names}; got '{name}'; correct --model"):
        rollout_to_store(replace(request_, model=name))


def test_scores_tell_how_many_leads_were_forecast_beside_those_scored(
    request_: RolloutRequest,
) -> None:
    found = rollout_to_store(replace(request_, horizon=12)).scores["constant-turn"]
    assert (found.horizon, found.forecast_horizon) == (6, 12)


def test_the_first_sequences_alone_are_a_whole_store(request_: RolloutRequest) -> None:
    summary = rollout_to_store(replace(request_, limit=3))
    assert open_forecast_store(summary.output).sizes["sequence"] == summary.sequences == 3
    evaluated = score_stores(summary.output, str(request_.data)).classes
    assert evaluated == summary.scores["constant-turn"].classes


def test_a_place_that_cannot_be_written_is_one_line(
    request_: RolloutRequest, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="to write") as caught:
        rollout_to_store(replace(request_, output=str(tmp_path / "file" / "f.zarr")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    ("data", "change"),
    [
        ("d/s.zarr", {"output": "d/s.zarr"}),
        ("d/s.zarr", {"output": "d/s.zarr/"}),
        ("d/s.zarr", {"output": "link.zarr"}),
        ("d/s.zarr", {"output": "d"}),
        ("d/s.zarr", {"output": "d/s.zarr/f.zarr"}),
        ("d/s.zarr.partial", {"output": "d/s.zarr"}),
        ("d/s.zarr", {"gif": "d/s.zarr"}),
        ("d/s.zarr", {"gif": "d/s.zarr/f.gif"}),
        ("d/s.zarr", {"gif": "d"}),
    ],
)
def test_the_data_are_never_written_to(
    data: str, change: dict[str, str], overwrite: bool, tmp_path: Path
) -> None:
    path = sequence_store(tmp_path / data, SCENES)
    (tmp_path / "link.zarr").symlink_to(path)
    before = content(tmp_path / "d")
    outputs: dict[str, Any] = {"output": "new.zarr", **change}
    outputs = {name: f"{tmp_path}/{value}" for name, value in outputs.items()}
    with pytest.raises(ConfigError, match=r"--(output|gif) apart from what is read; got .*s\.zarr"):
        RolloutRequest(data=path, model="constant-turn", overwrite=overwrite, **outputs)
    assert content(tmp_path / "d") == before
    assert {path.name for path in tmp_path.iterdir()} == {"d", "link.zarr"}


@pytest.mark.parametrize("output", ["run", "run/model.safetensors", "run/model.json", "."])
@pytest.mark.parametrize("model", ["run", "run/model.safetensors"])
def test_the_model_is_never_replaced(
    model: str, output: str, request_: RolloutRequest, tmp_path: Path
) -> None:
    save_checkpoint(forecaster(), tmp_path / "run" / "model.safetensors", 0.5, {})
    before = content(tmp_path / "run")
    changes = {"model": str(tmp_path / model), "output": str(tmp_path / output)}
    with pytest.raises(ConfigError, match="apart from what is read"):
        rollout_to_store(replace(request_, overwrite=True, **changes))
    assert content(tmp_path / "run") == before


def test_a_run_gets_its_forecasts_beside_its_model(
    request_: RolloutRequest, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    save_checkpoint(forecaster(), run / "model.safetensors", 0.5, {})
    summary = rollout_to_store(replace(request_, model=str(run), output=str(run / "f.zarr")))
    assert open_forecast_store(summary.output).sizes["sequence"] == 5


def test_a_picture_does_not_replace_the_forecasts(request_: RolloutRequest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--gif beside --output"):
        rollout_to_store(replace(request_, gif=request_.output, overwrite=True))
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_a_rollout_with_a_picture_opens_its_input_once(
    request_: RolloutRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(request_, gif=str(tmp_path / "f.gif"))
    opened: list[str] = []

    def listening(path: str) -> xr.Dataset:
        opened.append(path)
        return open_store(path)

    monkeypatch.setattr("forecast.storage.stores.open_store", listening)
    rollout_to_store(request)
    assert (tmp_path / "f.gif").is_file()
    assert opened.count(str(request.data)) == 1
