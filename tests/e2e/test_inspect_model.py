"""`forecast inspect model` on every detector of the repository, against the reference's table."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from forecast.cli import main as cli
from tests.e2e.test_cli import run

Shape = list[int] | None
NONE: dict[str, Shape] = {"enc_outputs_class": None, "enc_outputs_coord_unact": None}
DEFORMABLE: dict[str, Shape] = NONE | {
    "hs": [1, 1, 300, 256],
    "init_reference": [1, 300, 2],
    "seg_memory": [1, 256, 25, 38],
    "seg_mask": [1, 25, 38],
    "seg_memory.flat": [1, 950, 256],
    "seg_mask.flat": [1, 950],
    "outputs_class": [1, 1, 300, 250],
    "outputs_coord": [1, 1, 300, 4],
    "attention_map": [1, 300, 8, 25, 38],
    "mask_head.input": [300, 264, 25, 38],
    "mask_head.stage3": [300, 64, 25, 38],
    "mask_head.stage4": [300, 32, 50, 76],
    "mask_head.stage5": [300, 16, 50, 76],
    "mask_logits": [1, 300, 50, 76],
}
TABLE: dict[tuple[str, str], dict[str, Shape]] = {
    ("reference_r50_dilated", "3x800x1204"): DEFORMABLE
    | {
        "backbone.layer1": [1, 256, 200, 301],
        "backbone.layer2": [1, 512, 100, 151],
        "backbone.layer3": [1, 1024, 50, 76],
        "backbone.layer4": [1, 2048, 50, 76],
        "memory": [1, 23650, 256],
        "mask_pyramid.0": [1, 1024, 25, 38],
        "mask_pyramid.1": [1, 512, 25, 38],
        "mask_pyramid.2": [1, 256, 50, 76],
        "mask_head.stage2": [300, 128, 25, 38],
    },
    ("reference_r18", "3x800x1204"): DEFORMABLE
    | {
        "backbone.layer1": [1, 64, 200, 301],
        "backbone.layer2": [1, 128, 100, 151],
        "backbone.layer3": [1, 256, 50, 76],
        "backbone.layer4": [1, 512, 25, 38],
        "mask_pyramid.0": [1, 256, 13, 19],
        "mask_pyramid.1": [1, 128, 25, 38],
        "mask_pyramid.2": [1, 64, 50, 76],
        "mask_head.stage2": [300, 128, 13, 19],
    },
    ("detr_r50", "3x800x1066"): NONE
    | {
        "backbone.layer1": [1, 256, 200, 267],
        "backbone.layer2": [1, 512, 100, 134],
        "backbone.layer3": [1, 1024, 50, 67],
        "backbone.layer4": [1, 2048, 25, 34],
        "projected": [1, 256, 25, 34],
        "position": [850, 1, 256],
        "memory": [850, 1, 256],
        "hs": [1, 1, 100, 256],
        "init_reference": None,
    },
    ("detr_r50_masks", "3x800x1200"): NONE
    | {
        "backbone.layer4": [1, 2048, 25, 38],
        "projected": [1, 256, 25, 38],
        "hs": [6, 1, 100, 256],
        "attention_map": [1, 100, 8, 25, 38],
        "mask_pyramid.0": [1, 1024, 50, 75],
        "mask_pyramid.1": [1, 512, 100, 150],
        "mask_pyramid.2": [1, 256, 200, 300],
        "mask_head.input": [100, 264, 25, 38],
        "mask_head.stage2": [100, 128, 50, 75],
        "mask_head.stage3": [100, 64, 100, 150],
        "mask_head.stage4": [100, 32, 200, 300],
        "mask_logits": [1, 100, 200, 300],
    },
    ("wide_bev", "3x800x1600"): NONE
    | {"seg_memory": [1, 128, 25, 50], "mask_logits": [1, 100, 200, 400]},
}


def inspected(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli.app, ["inspect", "model", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(("name", "size"), TABLE, ids=[name for name, _ in TABLE])
def test_the_shapes_are_those_of_the_table(name: str, size: str) -> None:
    found = inspected(f"configs/{name}.yaml", "--input", size)
    shapes = {stage["name"]: stage["shape"] for stage in found["stages"]}
    expected = TABLE[name, size]
    assert {row: shapes[row] for row in expected} == expected
    assert found["total"]["parameters"] == sum(stage["parameters"] for stage in found["stages"])


def test_widths_near_the_reference_give_the_same_table() -> None:
    own, other = (
        [(stage["name"], stage["shape"]) for stage in inspected(name, "--input", size)["stages"]]
        for name, size in (
            ("configs/reference_r50_dilated.yaml", "3x800x1204"),
            ("configs/reference_r50_dilated.yaml", "3x800x1201"),
        )
    )
    assert own == other


def test_forecasters_are_inspected_too() -> None:
    found = inspected("configs/small.yaml", "--vary", "hidden_dim=64,128")
    assert found["kind"] == "forecaster"
    assert [variant["changes"] for variant in found["variants"]] == [
        {"hidden_dim": 64},
        {"hidden_dim": 128},
    ]


def test_a_shell_gets_a_table() -> None:
    done = run("inspect", "model", "configs/wide_bev.yaml", "--input", "3x800x1600")
    assert done.returncode == 0, done.stderr
    assert "1 x 100 x 200 x 400" in done.stdout
    assert "total" in done.stdout


def test_help_answers_at_once() -> None:
    """Half a second on an idle machine; the bound leaves room for a busy one."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert "--vary" in run("inspect", "model", "--help").stdout
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        ("configs/nowhere.yaml",),
        ("configs/wide_bev.yaml", "--input", "800"),
        ("configs/wide_bev.yaml", "--vary", "hidden_dim=100"),
        ("configs/wide_bev.yaml", "--vary", "dilation=true"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = run("inspect", "model", *arguments)
    assert done.returncode == cli.BAD_INPUT
    assert done.stderr.startswith("error: expected ")
    assert done.stderr.count("\n") == 1


def test_a_detector_is_not_trained() -> None:
    done = run("train", "--config", "configs/wide_bev.yaml", "--data", "a.zarr", "--output", "b")
    assert done.returncode == cli.BAD_INPUT
    assert "`detector`" in done.stderr
