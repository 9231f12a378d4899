"""Specifications of detectors are checked before anything is built, in plain words."""

from typing import Any

import pytest

from forecast.detector.spec import DetectorSpec
from forecast.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backbone": "resnet19"}, "'resnet18', 'resnet34', 'resnet50' or 'resnet101'"),
        ({"backbone": "resnet34", "dilation": True}, "basic blocks cannot be dilated"),
        ({"attention": "sparse"}, "'deformable' or 'dense'"),
        ({"position": "none"}, "'sine' or 'learned'"),
        ({"mask_head": "conv"}, "'none', 'fpn' or 'dot'"),
        ({"backend": "cuda"}, "detector.backend"),
        ({"hidden_dim": 252}, "heads divides it"),
        ({"hidden_dim": 18, "heads": 9}, "multiple of 4"),
        ({"hidden_dim": 48}, "32 divides it"),
        ({"hidden_dim": 192, "mask_head": "fpn"}, "128 divides it"),
        ({"hidden_dim": 48, "attention": "dense", "mask_head": "dot"}, "32 divides it"),
        ({"heads": 4, "mask_head": "fpn"}, "8 divides it"),
        ({"stem_stride": 3}, "1, 2 or 4"),
        ({"mask_stride": 8, "mask_head": "dot"}, "4 x stem_stride"),
        ({"mask_stride": 16, "mask_head": "fpn", "stem_stride": 1}, "4 x stem_stride"),
        ({"dropout": 1.0}, "less than 1"),
        *(
            ({name: 0}, "greater than or equal to 1")
            for name in ("channels", "classes", "heads", "queries", "ffn", "levels", "points")
        ),
        *(
            ({name: 0}, "greater than or equal to 1")
            for name in ("encoder_layers", "decoder_layers")
        ),
    ],
)
def test_bad_settings_are_refused_with_their_name(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DetectorSpec(**settings)
    assert words in str(caught.value)
    assert next(iter(settings)) in str(caught.value) or "dilation" in str(caught.value)


def test_only_the_original_detr_has_a_logit_of_no_object() -> None:
    assert DetectorSpec(classes=7).logits == 7
    assert DetectorSpec(classes=7, attention="dense").logits == 8
