"""ResNet weights from a file: read as tensors only, adapted to the stem, or refused."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from forecast.checkpoint.published_weights import load_backbone
from forecast.errors import CheckpointError
from forecast.model.layers.backbone import Backbone


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Weights as torchvision publishes them, with random statistics."""
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    return {k: v.uniform_(0.5, 1.5) if "running" in k else v for k, v in state.items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("frozen", [False, True])
def test_loaded_weights_give_torchvisions_numbers(
    weights: dict[str, Tensor], tmp_path: Path, suffix: str, frozen: bool
) -> None:
    path = tmp_path / f"resnet18{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    backbone = Backbone("resnet18", 3, layers=4, frozen_norm=frozen)
    load_backbone(backbone, path)
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(weights)
    network.eval()
    frame = torch.rand(1, 3, 64, 96)
    x = network.maxpool(network.relu(network.bn1(network.conv1(frame))))
    for level, layer in zip(backbone.eval()(frame), ("layer1", "layer2"), strict=False):
        x = getattr(network, layer)(x)
        torch.testing.assert_close(level, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_a_grey_frame_of_any_channels_excites_the_stem_as_before(
    weights: dict[str, Tensor], tmp_path: Path, channels: int
) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(weights, path)
    adapted, ordinary = Backbone("resnet18", channels), Backbone("resnet18", 3)
    for backbone in (adapted, ordinary):
        load_backbone(backbone, path)
    grey = torch.rand(1, 1, 64, 64)
    of_adapted = adapted.eval()(grey.expand(-1, channels, -1, -1))
    of_ordinary = ordinary.eval()(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(of_adapted[0], of_ordinary[0], atol=1e-4, rtol=1e-4)


def test_a_smaller_stem_stride_and_fewer_layers_read_the_same_weights(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(weights, path)
    backbone = Backbone("resnet18", 3, stem_stride=1, layers=2)
    load_backbone(backbone, path)
    stem = backbone.extract.state_dict()["conv1.weight"]
    torch.testing.assert_close(stem, weights["conv1.weight"])


def test_other_networks_and_broken_files_are_refused_and_change_nothing(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    backbone = Backbone("resnet50", 3)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    good, broken, nested = (tmp_path / f"{name}.pth" for name in ("good", "broken", "nested"))
    torch.save(weights, good)
    broken.write_bytes(good.read_bytes()[:1000])
    torch.save({"epoch": 3, "model": weights}, nested)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"\x10\0\0")
    text = tmp_path / "notes.pth"
    text.write_text("not weights")
    for path in (good, broken, nested, torn, text, tmp_path / "absent.pth"):
        with pytest.raises(CheckpointError):
            load_backbone(backbone, path)
    after = backbone.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "content", [b"", b"hello world\n", b"a,b\n1,2\n", b"<html>", b"\x80\x04", b"PK\x03\x04"]
)
def test_a_file_of_anything_else_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="a file of weights"):
        load_backbone(Backbone("resnet18", 3), path)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    torch.save({0: torch.zeros(1)}, tmp_path / "numbered.pth")
    with pytest.raises(CheckpointError, match="from names to tensors"):
        load_backbone(Backbone("resnet18", 3), tmp_path / "numbered.pth")


def test_a_file_is_never_unpickled_into_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",)

    path = tmp_path / "trap.pth"
    torch.save({"conv1.weight": Trap()}, path)
    with pytest.raises(CheckpointError):
        load_backbone(Backbone("resnet18", 3), path)
    assert not (tmp_path / "sprung").exists()
