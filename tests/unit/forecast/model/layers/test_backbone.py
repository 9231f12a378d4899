"""The backbone: levels, dilation, frozen norms."""

import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d

from forecast.errors import ConfigError
from forecast.model.layers.backbone import Backbone


@pytest.mark.parametrize(
    ("name", "stem_stride"),
    [("resnet18", 1), ("resnet18", 4), ("resnet34", 2), ("resnet50", 4), ("resnet101", 4)],
)
def test_widths_and_strides_are_those_of_the_levels(name: str, stem_stride: int) -> None:
    with torch.device("meta"):
        backbone = Backbone(name, 5, stem_stride)  # type: ignore[arg-type]
        levels = backbone(torch.empty(2, 5, 96, 64))
    assert tuple(level.shape[1] for level in levels) == backbone.widths
    assert tuple(96 // level.shape[2] for level in levels) == backbone.strides
    assert tuple(64 // level.shape[3] for level in levels) == backbone.strides


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_the_last_layer_run_is_the_dilated_one(layers: int) -> None:
    with torch.device("meta"):
        backbone = Backbone("resnet50", 3, layers=layers, dilation=True)
        levels = backbone(torch.empty(1, 3, 128, 128))
    assert tuple(128 // level.shape[2] for level in levels) == backbone.strides
    assert backbone.strides[-1] == backbone.strides[-2]


def test_a_dilated_layer_adds_positions_between_those_of_the_plain_one() -> None:
    torch.manual_seed(0)
    plain, dilated = (Backbone("resnet50", 3, layers=4, dilation=way) for way in (False, True))
    dilated.load_state_dict(plain.state_dict())
    frame = torch.rand(1, 3, 128, 96)
    with torch.no_grad():
        coarse, fine = plain.eval()(frame)[-1], dilated.eval()(frame)[-1]
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_basic_blocks_refuse_dilation_in_plain_words(name: str) -> None:
    with pytest.raises(ConfigError, match="basic blocks cannot be dilated"):
        Backbone(name, 3, dilation=True)  # type: ignore[arg-type]


def test_frozen_norms_ignore_the_batch_and_do_not_learn() -> None:
    backbone = Backbone("resnet18", 3, frozen_norm=True)
    frame = torch.rand(2, 3, 64, 64)
    for trained, evaluated in zip(backbone.train()(frame), backbone.eval()(frame), strict=True):
        torch.testing.assert_close(trained, evaluated)
    assert any(isinstance(module, FrozenBatchNorm2d) for module in backbone.modules())
    assert not any("bn" in name for name, _ in backbone.named_parameters())
