"""Every row of the reference table on deformable features, at 800 x 1204 and at other sizes.

The table is read twice: on meta tensors in the quick suite, and, marked slow, by real forward
passes that print their time and peak memory (``-s``).
"""

import pytest
import torch
from torch import Tensor

from forecast.detector.detector import Detector
from forecast.detector.outputs import Detections
from forecast.detector.spec import DetectorSpec
from tests.support.measure import measured
from tests.support.shapes import Shape, record, record_mask_head

SPECS = {
    "resnet50 dilated": DetectorSpec(
        backbone="resnet50", dilation=True, auxiliary=False, mask_head="fpn"
    ),
    # Without a level beyond layer 4 the coarsest map is 25 x 38 here too.
    "resnet18": DetectorSpec(backbone="resnet18", levels=3, auxiliary=False, mask_head="fpn"),
}
COMMON: dict[str, Shape] = {
    "hs": (1, 1, 300, 256),
    "init_reference": (1, 300, 2),
    "enc_outputs_class": None,
    "enc_outputs_coord_unact": None,
    "seg_memory": (1, 256, 25, 38),
    "seg_memory flat": (1, 950, 256),
    "seg_mask": (1, 25, 38),
    "seg_mask flat": (1, 950),
    "outputs_class": (1, 1, 300, 250),
    "outputs_coord": (1, 1, 300, 4),
    "mask_head.attention_map": (1, 300, 8, 25, 38),
    "mask_head.input": (300, 264, 25, 38),
    "mask_head.stage1": (300, 264, 25, 38),
    "mask_head.stage3": (300, 64, 25, 38),
    "mask_head.stage4": (300, 32, 50, 76),
    "mask_head.stage5": (300, 16, 50, 76),
    "mask_head.logits": (300, 1, 50, 76),
    "mask_logits": (1, 300, 50, 76),
}
TABLE: dict[str, dict[str, Shape]] = {
    "resnet50 dilated": COMMON
    | {
        "layer1": (1, 256, 200, 301),
        "layer2": (1, 512, 100, 151),
        "layer3": (1, 1024, 50, 76),
        "layer4": (1, 2048, 50, 76),
        "memory": (1, 100 * 151 + 50 * 76 + 50 * 76 + 25 * 38, 256),
        "pyramid 0": (1, 1024, 25, 38),
        "pyramid 1": (1, 512, 25, 38),
        "pyramid 2": (1, 256, 50, 76),
        "mask_head.stage2": (300, 128, 25, 38),
    },
    "resnet18": COMMON
    | {
        "layer1": (1, 64, 200, 301),
        "layer2": (1, 128, 100, 151),
        "layer3": (1, 256, 50, 76),
        "layer4": (1, 512, 25, 38),
        "memory": (1, 100 * 151 + 50 * 76 + 25 * 38, 256),
        "pyramid 0": (1, 256, 13, 19),
        "pyramid 1": (1, 128, 25, 38),
        "pyramid 2": (1, 64, 50, 76),
        "mask_head.stage2": (300, 128, 13, 19),
    },
}


def shapes_of_run(detector: Detector, frame: Tensor) -> dict[str, Shape]:
    """The rows of the table as one forward pass makes them."""
    rows: dict[str, Shape] = {}
    detector.backbone.register_forward_hook(record(rows, "layer"))
    record_mask_head(rows, detector.mask_pyramid, detector.mask_head)
    with torch.no_grad():
        out: Detections = detector(frame)
    for name in ("outputs_class", "outputs_coord", "mask_logits"):
        rows[name] = tuple(getattr(out, name).shape)
    for name in ("memory", "hs", "init_reference", "seg_memory", "seg_mask"):
        rows[name] = tuple(getattr(out.decoded, name).shape)
    for name in ("enc_outputs_class", "enc_outputs_coord_unact"):
        rows[name] = getattr(out.decoded, name)
    rows["seg_memory flat"] = tuple(out.decoded.seg_memory.flatten(2).transpose(1, 2).shape)
    rows["seg_mask flat"] = tuple(out.decoded.seg_mask.flatten(1).shape)
    if not frame.is_meta:
        assert not out.decoded.seg_mask.any(), "every cell of a BEV is data"
        assert out.outputs_coord.min() >= 0
        assert out.outputs_coord.max() <= 1
        assert out.mask_logits is not None
        assert torch.isfinite(out.mask_logits).all()
    return rows


@pytest.mark.parametrize(("name", "width"), [("resnet50 dilated", 1204), ("resnet18", 1201)])
def test_table_on_meta_tensors(name: str, width: int) -> None:
    with torch.device("meta"):
        detector = Detector(SPECS[name]).eval()
        assert shapes_of_run(detector, torch.empty(1, 3, 800, width)) == TABLE[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SPECS))
def test_table_by_real_forward_passes(name: str) -> None:
    torch.manual_seed(0)
    detector = Detector(SPECS[name]).eval()
    frame = torch.rand(1, 3, 800, 1204)
    with measured(f"{name}, 3 x 800 x 1204, forward on CPU, {torch.get_num_threads()} thread(s)"):
        rows = shapes_of_run(detector, frame)
    assert rows == TABLE[name]


@pytest.mark.parametrize("name", list(SPECS))
def test_small_real_pass_follows_the_same_rules(name: str) -> None:
    """A quarter of the size, by real numbers: maps are a quarter too, channels the same."""
    torch.manual_seed(0)
    rows = shapes_of_run(Detector(SPECS[name]).eval(), torch.rand(1, 3, 200, 301))
    levels = {"resnet50 dilated": [(25, 38), (13, 19), (13, 19), (7, 10)]}
    sizes = levels.get(name, [(25, 38), (13, 19), (7, 10)])
    assert rows["memory"] == (1, sum(h * w for h, w in sizes), 256)
    assert rows["seg_memory"] == (1, 256, 7, 10)
    assert rows["mask_logits"] == (1, 300, 13, 19)
    table = {key: shape[:2] for key, shape in TABLE[name].items() if shape and len(shape) == 4}
    assert {key: (rows[key] or ())[:2] for key in table} == table
