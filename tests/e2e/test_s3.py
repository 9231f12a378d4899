"""Recordings, stores and forecasts in a bucket: against a server that speaks S3, on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import xarray as xr
from typer.testing import CliRunner

from data_tools.prepare import PrepareOptions, prepare
from forecast.cli import main as cli
from forecast.errors import DataError
from forecast.grid import BEVGrid
from tests.support.scenarios import crossing, write

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto", reason="moto, which serves S3 on loopback, is not installed")

GRID = "--grid=-12,20,-8,8,0.5"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The filesystem of an empty S3 with the bucket ``traffic``, set up as users set it up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with (
        log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "anyone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            _wait_for(int(port), server)
            system = fsspec.filesystem("s3", use_listings_cache=False)
            system.mkdir("traffic")
            yield system
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def recordings(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("recordings")
    for index in range(2):
        write(folder / f"{index}.json", crossing(index, agents=4))
        bucket.put_file(str(folder / f"{index}.json"), f"traffic/in/{index}.json")
    return str(folder)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_bucket_takes_the_place_of_a_disk_from_recordings_to_scores(
    bucket: Any, recordings: str, tmp_path: Path
) -> None:
    data, out, model = "s3://traffic/data.zarr", "s3://traffic/forecast.zarr", str(tmp_path / "run")
    run("prepare", "waymo-json", "s3://traffic/in", "--output", data, GRID, "--stride", "8")
    settings = ("loading.batch_size=2", "curriculum=[{epochs: 1, horizon: 1}]")
    chosen = [word for setting in settings for word in ("--set", setting)]
    config = str(Path(__file__).parents[2] / "configs" / "small.yaml")
    run("train", "--config", config, "--data", data, "--val", data, "--output", model, *chosen)
    gif = "s3://traffic/forecast.gif"
    for again in ((), ("--overwrite",)):
        run("rollout", "--data", data, "--model", model, "--output", out, "--gif", gif, *again)
    scores = json.loads(run("evaluate", out, "--data", data, "--json"))
    assert scores["classes"]["vehicle"]["iou"] > 0.2
    assert "from 2 scenes" in run("inspect", "store", data)
    # Nothing else is left: no parts, no unfinished store, no old one.
    names = {path.removeprefix("traffic/") for path in bucket.ls("traffic")}
    assert names == {"data.zarr", "forecast.gif", "forecast.zarr", "in"}


def test_an_interrupted_run_goes_on_in_the_bucket_to_the_same_store(
    bucket: Any, recordings: str, tmp_path: Path
) -> None:
    url = "s3://traffic/resumed.zarr"
    options = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5), stride=8, resume=True)

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("waymo-json", ["s3://traffic/in"], url, options, stop)
    assert not bucket.exists(url)
    prepare("waymo-json", ["s3://traffic/in"], url, options)
    prepare("waymo-json", [recordings], str(tmp_path / "local.zarr"), options)
    there = {path.removeprefix("traffic/resumed.zarr/"): path for path in bucket.find(url)}
    here = [path for path in (tmp_path / "local.zarr").rglob("*") if path.is_file()]
    assert len(there) == len(here)
    for path in here:
        assert bucket.cat_file(there[os.path.relpath(path, tmp_path / "local.zarr")]) == (
            path.read_bytes()
        )
    assert not bucket.exists(f"{url}.partial")
    xr.open_zarr(url, chunks=None).load().close()


@pytest.mark.parametrize(
    "command",
    [
        ("prepare", "waymo-json", "s3://traffic/in", GRID, "--workers=1", "--output"),
        ("rollout", "--model=constant-turn", "--limit=1", "--gif=", "--output"),
        ("rollout", "--model=constant-turn", "--limit=1", "--output=o.zarr", "--gif"),
    ],
    ids=["prepare", "rollout", "gif"],
)
def test_a_mistyped_bucket_is_refused_and_never_made(
    command: tuple[str, ...],
    bucket: Any,
    recordings: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(bucket.find("traffic"))
    done = CliRunner().invoke(cli.app, [*command, "s3://trafic/o.gif"])
    assert isinstance(done.exception, DataError)
    assert "trafic, which is not" in str(done.exception)
    assert bucket.ls("") == ["traffic"]
    assert set(bucket.find("traffic")) == before


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["new", "overwrite"])
def test_what_else_lies_under_a_prefix_is_never_replaced(
    overwrite: tuple[str, ...], bucket: Any
) -> None:
    bucket.pipe_file("traffic/results/notes/1.txt", b"of a week")
    out = "s3://traffic/results"
    command = ["rollout", "--model=constant-turn", "--limit=1", "--gif=", "--output", out]
    done = CliRunner().invoke(cli.app, [*command, *overwrite])
    assert isinstance(done.exception, DataError)
    assert "s3://traffic/results, which" in str(done.exception)
    assert bucket.find("traffic/results") == ["traffic/results/notes/1.txt"]
