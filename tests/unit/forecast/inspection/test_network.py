"""Looking into models: what is counted, what is compared, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from forecast.cli.console import print_model_summary
from forecast.detector.detector import Detector
from forecast.detector.spec import DetectorSpec
from forecast.errors import ConfigError
from forecast.inspection.costs import LayerCost, total
from forecast.inspection.detector_layers import detector_stages
from forecast.inspection.flop_counter import FlopCounter
from forecast.inspection.forecaster_layers import forecaster_stages
from forecast.inspection.network import ModelSummary, describe_model
from forecast.model.forecaster import Forecaster
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS

SMALL = "detector: {backbone: resnet18, queries: 10, encoder_layers: 1, decoder_layers: 2}\n"
TINY = DetectorSpec(backbone="resnet18", queries=10, encoder_layers=1, decoder_layers=2)
INPUTS = Inputs(DEFAULT_CLASSES, MAP_LAYERS)


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "detector.yaml"
    file.write_text(SMALL)
    return str(file)


def by_name(stages: tuple[LayerCost, ...]) -> dict[str, LayerCost]:
    return {stage.name: stage for stage in stages}


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_work_is_counted_by_hand(device: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(160, 2))
    model.to(device)
    counter = FlopCounter({"conv": ["0"], "linear": ["3"]})
    with counter.watch(model):
        out = model(torch.zeros(2, 3, 4, 5, device=device))
    conv, linear = counter.stages(model, {"conv": counter.outputs["0"], "linear": out})
    maps = 2 * 8 * 4 * 5
    assert (conv.parameters, linear.parameters) == (3 * 8 * 9 + 8, 160 * 2 + 2)
    assert (conv.multiply_adds, linear.multiply_adds) == (maps * 3 * 9, 2 * 160 * 2)
    # What no module of its own row does (the ReLU) follows from the row before.
    assert conv.activation_bytes == pytest.approx(4 * (maps + maps), abs=4 * 2 * 3 * 4 * 5)
    assert linear.activation_bytes == 4 * 2 * 2


def test_hooks_are_gone_afterwards() -> None:
    model = nn.Linear(2, 2)
    counter = FlopCounter({"all": [""]})
    with counter.watch(model):
        pass
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_bilinear_samples_are_counted_alike_with_and_without_numbers() -> None:
    found = []
    for device in ("meta", "cpu"):
        model = nn.Identity()
        counter = FlopCounter({"all": [""]})
        image, grid = torch.zeros(1, 3, 5, 6, device=device), torch.zeros(1, 7, 2, 2, device=device)
        with counter.watch(model):
            out = nn.functional.grid_sample(model(image), grid, align_corners=False)
        found.append(counter.stages(model, {"all": out}))
    assert found[0] == found[1]
    assert found[0][0].multiply_adds == 4 * 3 * 7 * 2


@pytest.mark.parametrize(
    "spec",
    [
        TINY,
        replace(TINY, mask_head="fpn", levels=3),
        replace(TINY, mask_head="fpn", mask_stride=4),
        replace(TINY, mask_head="fpn", mask_stride=1),
        replace(TINY, mask_head="dot", mask_stride=4),
        replace(TINY, mask_head="dot", semantic_head=True),
        replace(TINY, attention="dense", position="learned"),
        replace(TINY, attention="dense", mask_head="fpn", mask_stride=4),
        replace(TINY, position="learned", box_refine=False),
    ],
    ids=lambda spec: f"{spec.attention}-{spec.position}-{spec.mask_head}-{spec.mask_stride}",
)
def test_every_parameter_of_a_detector_belongs_to_a_stage(spec: DetectorSpec) -> None:
    with torch.device("meta"):
        model = Detector(spec)
    stages = detector_stages(spec, 100, 130)
    assert total(stages).parameters == sum(p.numel() for p in model.parameters())
    named = by_name(stages)
    assert len(named) == len(stages)
    assert ("mask_logits" in named) == (spec.mask_head != "none")
    for name in ("backbone.layer1", "backbone.layer4", "memory", "hs", "outputs_class"):
        assert named[name].multiply_adds > 0, name
        assert named[name].activation_bytes > 0, name


@pytest.mark.parametrize(
    "spec",
    [
        ForecasterSpec(),
        ForecasterSpec(attention="dense", mask_head="fpn", query_interaction=False),
        ForecasterSpec(raster="none", slots=8),
    ],
    ids=["raster", "dense fpn", "no raster"],
)
def test_every_parameter_of_a_forecaster_belongs_to_a_stage(spec: ForecasterSpec) -> None:
    stages = forecaster_stages(spec, INPUTS, 64, 96)
    model = Forecaster(spec, INPUTS)
    assert total(stages).parameters == sum(p.numel() for p in model.parameters())
    named = by_name(stages)
    assert named["instance"].shape == (1, 64, 96)
    assert named["queries"].shape == (1, min(16, spec.slots), spec.hidden_dim)
    assert ("features" in named) == spec.has_raster_encoder


def test_multiply_adds_are_half_of_what_torch_counts_as_flops() -> None:
    spec = replace(TINY, attention="dense", mask_head="fpn", mask_stride=4)  # samples nothing
    with torch.device("meta"):
        model, frame = Detector(spec).eval(), torch.zeros(1, 3, 64, 96)
        with FlopCounterMode(display=False) as counter:
            model(frame)
    counted = total(detector_stages(spec, 64, 96)).multiply_adds
    assert counted == counter.get_total_flops() // 2


def test_a_meta_run_and_a_real_one_have_the_same_shapes(config: str) -> None:
    found = by_name(describe_model(config, "96x130", []).own.stages)
    detections = Detector(TINY).eval()(torch.zeros(1, 3, 96, 130))
    assert found["memory"].shape == detections.decoded.memory.shape
    assert found["outputs_coord"].shape == detections.outputs_coord.shape


def test_variants_stand_side_by_side(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = describe_model(config, "96x130", ["hidden_dim=128,256", "detector.queries=10,20"])
    assert [variant.changes for variant in found.variants] == [
        {"hidden_dim": dim, "queries": queries} for dim in (128, 256) for queries in (10, 20)
    ]
    shapes = [by_name(variant.stages)["hs"].shape for variant in found.variants]
    assert shapes == [(2, 1, q, d) for d in (128, 256) for q in (10, 20)]
    print_model_summary(found)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("hs *") and "2 x 1 x 20 x 256" in line for line in lines)
    assert any(line.startswith("backbone.layer1  ") for line in lines)
    assert any(line.startswith("total parameters *") for line in lines)


def test_the_size_of_a_frame_and_its_channels_may_vary_too(config: str) -> None:
    found = describe_model(config, None, ["input=96x130,5x96x200", "channels=5"])
    assert [variant.input for variant in found.variants] == [(5, 96, 130), (5, 96, 200)]
    assert found.own.input == (3, 800, 1204)


def test_a_checkpoint_is_looked_into() -> None:
    found = describe_model("forecast/packaged/model.safetensors", "64x96", [])
    assert found.kind == "forecaster"
    assert "16 tracked agents" in found.remark


def test_more_channels_than_known_are_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "forecaster.yaml"
    file.write_text("model: {raster: none}\n")
    channels = INPUTS.channels + 2
    found: ModelSummary = describe_model(str(file), f"{channels}x64x96", [])
    plain = describe_model(str(file), "64x96", [])
    assert found.own.total.parameters > plain.own.total.parameters


@pytest.mark.parametrize(
    ("size", "vary", "reason"),
    [
        ("3x96", ["queries"], "key=a,b"),
        ("3x96x", [], "3x800x1204"),
        ("0x96x130", [], "3x800x1204"),
        ("7x96x130", [], "3 channels"),
        ("96x130", ["=1,2"], "key=a,b"),
        ("96x130", ["hidden=1,2"], "hidden_dim"),
        ("96x130", ["hidden_dim=100"], "detector.hidden_dim.*heads divides it"),
        ("96x130", ["hidden_dim=wide"], "hidden_dim"),
        ("96x130", ["dilation=true"], "basic blocks"),
        ("96x130", ["queries=1,2,3,4,5", "points=1,2,3"], "at most 12"),
        ("96x130", ["backbone=vgg"], "backbone"),
    ],
)
def test_what_cannot_be_is_said(config: str, size: str, vary: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        describe_model(config, size, vary)


def test_a_grid_without_room_for_agents_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "forecaster.yaml"
    file.write_text("model: {raster: none}\n")
    for size, reason in (("8x8", "16 agents"), ("2x64x64", "map layers")):
        with pytest.raises(ConfigError, match=reason):
            describe_model(str(file), size, [])
