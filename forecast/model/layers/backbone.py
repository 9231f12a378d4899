"""ResNet features of one BEV frame, as a pyramid."""

from __future__ import annotations

import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d

from forecast.model.layers.choices import BackboneName, check_dilation


class Backbone(nn.Module):
    """torchvision's ResNet with any number of input channels and a stem of stride 1, 2 or 4.

    With stem stride s the levels lie at strides s, 2 s, 4 s, 8 s: a stem of 4 is the ordinary one,
    a smaller one keeps a car more than one cell.

    Args:
        name: Depth of the network.
        channels: Input channels.
        stem_stride: Stride of the stem (first convolution and pooling together).
        layers: How many of the four residual layers to run.
        dilation: Whether the last of them keeps the resolution of the one before.
        frozen_norm: Whether batch norms are constants instead of statistics of the batch.

    Attributes:
        widths: Channels of each level, finest first; whatever reads the pyramid takes them here.
        strides: Stride of each level.

    Raises:
        ConfigError: Dilation of a network of basic blocks (ResNet-18, -34).
    """

    def __init__(
        self,
        name: BackboneName,
        channels: int,
        stem_stride: int = 4,
        layers: int = 4,
        dilation: bool = False,
        frozen_norm: bool = False,
    ) -> None:
        super().__init__()
        if dilation:
            check_dilation(name)
        network = getattr(torchvision.models, name)(
            weights=None,
            replace_stride_with_dilation=[dilation and layers == index for index in (2, 3, 4)],
            norm_layer=FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d,
        )
        base = network.fc.in_features // 8
        stride = 2 if stem_stride >= 2 else 1
        network.conv1 = nn.Conv2d(channels, 64, 7, stride, 3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        if stem_stride < 4:
            network.maxpool = nn.Identity()
        names = [f"layer{index + 1}" for index in range(layers)]
        self.extract = create_feature_extractor(network, names)
        self.widths = tuple(base * 2**index for index in range(layers))
        strides = [stem_stride * 2**index for index in range(layers)]
        if dilation:
            strides[-1] = strides[-2]
        self.strides = tuple(strides)

    def forward(self, frame: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b d hl wl"]]:
        """The pyramid, finest level first."""
        return list(self.extract(frame).values())
