"""The names of backbones, attentions and their implementations; needs no torch."""

from __future__ import annotations

from typing import Literal

from forecast.errors import ConfigError

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]


BackendName = Literal["auto", "torch", "native", "mmcv"]


AttentionName = Literal["deformable", "dense"]


def check_dilation(backbone: str) -> None:
    """Refuses to dilate a ResNet of basic blocks, which have no dilated form.

    Raises:
        ConfigError: The backbone is ResNet-18 or -34.
    """
    if backbone in ("resnet18", "resnet34"):
        raise ConfigError(
            "a ResNet of bottleneck blocks (resnet50, resnet101) where the last layer is dilated",
            f"{backbone}, whose basic blocks cannot be dilated",
            "choose another backbone or set dilation: false",
        )
