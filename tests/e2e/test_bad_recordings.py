"""`forecast prepare` on bad input: one line, exit code 2, nothing under the output's name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from forecast.cli import main as cli
from tests.support.refusals import Refused, assert_refused, run_with_files_of_at_most, scenario


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
