"""`forecast doctor --stress`: scores as what is observed gets worse, and who is ahead."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from forecast.checkpoint.packaged import packaged
from forecast.cli import main as cli
from forecast.cli.stress import print_stress, winner
from forecast.config.data import Corruption
from forecast.data.corruption import corrupt, observed
from forecast.data.reader import SequenceReader, collate
from forecast.doctor.stress import FAULTS, SCORES, Fault, examine_robustness, redrawn
from forecast.errors import ConfigError, DataError
from forecast.evaluation.evaluate import evaluate
from forecast.evaluation.scores import Gain
from forecast.inference.request import RolloutRequest
from forecast.model.spec import BASELINES
from forecast.workflows import rollout_to_store

NOISE = Fault("position noise", "position_m", "m", (0.0, 0.3))


def test_without_a_fault_the_scores_are_those_of_evaluate(tmp_path: Path) -> None:
    report = examine_robustness("constant-turn", limit=100, faults=[NOISE])
    request = RolloutRequest(model="constant-turn", output=str(tmp_path / "turn.zarr"))
    rollout_to_store(request)
    theirs = evaluate(request.output).classes["vehicle"]
    clean, noisy = report.points
    for score in SCORES:
        assert clean.scores[score]["constant-turn"] == pytest.approx(
            getattr(theirs, score), rel=1e-9
        )
        assert noisy.scores[score]["constant-turn"] != clean.scores[score]["constant-turn"]
    assert report.sequences == 10
    assert set(report.forecasters) == set(BASELINES)
    assert report.forecasters[0] == "constant-turn"


def test_more_noise_costs_more_and_chance_plays_no_part() -> None:
    noise = replace(NOISE, levels=(0, 0.1, 0.3))
    report = examine_robustness("constant-turn", limit=4, faults=[noise])
    falling = [point.scores["vpq_moving"]["constant-turn"] or 0.0 for point in report.points]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.5 * falling[0]
    assert report == examine_robustness("constant-turn", limit=4, faults=[noise])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.setting))
def test_every_fault_is_survived_at_its_worst(fault: Fault) -> None:
    seen: list[tuple[int, int]] = []
    worst = replace(fault, levels=fault.levels[-1:])
    report = examine_robustness(
        "constant-velocity", limit=2, faults=[worst], progress=lambda *at: seen.append(at)
    )
    assert len(report.points) == 1
    assert set(report.points[0].scores["iou"]) == set(BASELINES)
    assert seen == [(1, 2), (2, 2)]
    assert report.points[0].scores["iou"]["constant-velocity"] is not None


def test_the_rasters_of_the_history_show_what_was_observed() -> None:
    reader = SequenceReader(packaged("sample.zarr"))
    batch = collate([reader[0], reader[3]]).crop(0, 3)
    # The store's own rasters are its boxes drawn, so that exact boxes give them back.
    again = redrawn(observed(batch, 3))
    assert torch.equal(again.instance, batch.instance)
    assert torch.equal(again.semantic, batch.semantic)
    late = redrawn(corrupt(batch, Corruption.fixed(latency=1), 3, torch.Generator().manual_seed(0)))
    assert not late.instance[:, -1].any()
    assert torch.equal(late.instance[:, :-1], batch.instance[:, :-1])


def test_a_raster_shows_the_sample_that_it_joins_when_it_is_observed() -> None:
    reader = SequenceReader(packaged("sample.zarr"))
    batch = observed(collate([reader[0]]).crop(0, 3), 3)
    assert batch.sample_time is not None
    early = redrawn(replace(batch, sample_time=batch.sample_time - 0.04))
    assert torch.equal(early.instance, batch.instance)


def test_who_is_ahead_is_said_with_its_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    report = examine_robustness("constant-velocity", limit=4, faults=[NOISE])
    point = report.points[0]
    assert point.rival in set(BASELINES) - {"constant-velocity"}
    for gain, who in (
        (Gain(0.2, (0.1, 0.3)), "constant-velocity"),
        (Gain(-0.2, (-0.3, 0.1)), point.rival),
        (Gain(0.0, (0.0, 0.0)), None),
        (None, None),
    ):
        assert winner(replace(point, ahead=gain), "constant-velocity") == who
    doubtful = replace(point, ahead=Gain(-0.2, (-0.3, 0.1)))
    print_stress(replace(report, points=(replace(point, ahead=Gain(0.2, (0.1, 0.3))), doubtful)))
    said = capsys.readouterr().out
    assert "+0.200 [+0.100, +0.300]" in said
    assert said.count("* ") == 1
    assert "? " in said


def test_the_command_prints_json_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "stress.png"
    arguments = ["doctor", "--stress", "constant-turn", "--limit", "1", "--json"]
    done = CliRunner().invoke(cli.app, [*arguments, "--png", str(picture)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["sequences"] == 1
    assert [point["level"] for point in found["points"][:6]] == list(FAULTS[0].levels)
    image = np.asarray(Image.open(picture).convert("RGB"))
    assert image.shape[1] > 1000
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    again = CliRunner().invoke(cli.app, [*arguments, "--png", str(picture)])
    assert isinstance(again.exception, DataError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--stress", "constant-turn", "--leak", "constant-turn"],
        ["store.zarr", "--stress", "constant-turn"],
        ["--json"],
        ["--png", "one.png"],
        ["--stress", "constant-turn", "--png", "one.jpg"],
        ["--stress", "constant-turn", "--limit", "0"],
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli.app, ["doctor", *arguments])
    assert isinstance(done.exception, ConfigError), done.output


def test_a_store_without_tracks_is_refused(tmp_path: Path) -> None:
    import xarray as xr

    path = str(tmp_path / "bare.zarr")
    data = xr.open_zarr(packaged("sample.zarr"), consolidated=False)
    bare = data.drop_vars(["track_state", "track_class"]).load()
    for name in bare.variables:
        bare[name].encoding.clear()
    bare.to_zarr(path, zarr_format=3, consolidated=False)
    with pytest.raises(DataError, match="tracks"):
        examine_robustness("constant-turn", path)
