"""ResNet features of one BEV frame, as a pyramid."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
import torchvision
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d

from forecast.errors import CheckpointError
from forecast.model.spec import BackboneName, check_dilation


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


def load_backbone(backbone: Backbone, path: Path) -> None:
    """Fills a backbone with weights of torchvision's ResNet, such as those learned on ImageNet.

    The stem is adapted. With other than three channels each gets the mean filter of red, green
    and blue times 3 / channels, so that a grey image excites it as before; a smaller stem stride
    reads the same filters more densely. The classifier, and layers that are not run, are ignored.

    Args:
        backbone: Changed in place.
        path: A local ``.safetensors`` file, or one of ``torch.save``, which is read without
            unpickling anything but tensors.

    Raises:
        CheckpointError: The file cannot be read, or is of another ResNet.
    """
    weights = read_weights(path)
    own = backbone.extract.state_dict()
    stem = weights.get("conv1.weight")
    if stem is not None:
        weights["conv1.weight"] = _adapt_stem(stem, own["conv1.weight"].shape[1])
    # Weights of old versions of torchvision count no batches, and frozen norms have no count.
    own = {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")}
    wrong = [k for k, v in own.items() if k not in weights or weights[k].shape != v.shape]
    if wrong:
        raise CheckpointError(
            f"weights of torchvision's ResNet of widths {backbone.widths}",
            f"{path}, where {wrong[0]} and {len(wrong) - 1} others are missing or of another shape",
            "give the weights of the same ResNet, or change the backbone",
        )
    backbone.extract.load_state_dict({key: weights[key] for key in own}, strict=False)


def _adapt_stem(weight: Float[Tensor, "n k a b"], channels: int) -> Float[Tensor, "n c a b"]:
    if weight.dim() != 4 or weight.shape[1] == channels:
        return weight
    mean = weight.mean(1, keepdim=True) * (weight.shape[1] / channels)
    return mean.expand(-1, channels, -1, -1).contiguous()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, read without unpickling anything else.

    Args:
        path: A ``.safetensors`` file, or one of ``torch.save``: a state dict, alone or as "model".

    Raises:
        CheckpointError: The file cannot be read or holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            "a file of weights (.safetensors, or saved by torch.save)",
            f"{path}: {str(error).splitlines()[0]}",
            "give a file that holds a state dict and nothing else",
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("model"), dict):
        weights = weights["model"]
    if not isinstance(weights, dict) or not all(torch.is_tensor(v) for v in weights.values()):
        raise CheckpointError(
            "a state dict, from names to tensors", str(path), "save model.state_dict() alone"
        )
    return weights
