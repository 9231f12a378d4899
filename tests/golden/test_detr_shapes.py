"""Every row of the reference table on the original DETR, ResNet-50, at 800 x 1066 and 800 x 1200.

The table is read twice: on meta tensors in the quick suite, and, marked slow, by real forward
passes that print their time and peak memory (``-s``).
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forecast.detector.detector import Detector
from forecast.detector.spec import DetectorSpec
from tests.support.measure import measured
from tests.support.shapes import Shape, record, record_mask_head

BOXES = DetectorSpec(classes=91, attention="dense", queries=100, ffn=2048, auxiliary=False)
MASKS = replace(BOXES, auxiliary=True, mask_head="fpn", mask_stride=4)
RUNS: dict[str, tuple[DetectorSpec, int, dict[str, Shape]]] = {
    "boxes, 800 x 1066": (
        BOXES,
        1066,
        {
            "layer1": (1, 256, 200, 267),
            "layer2": (1, 512, 100, 134),
            "layer3": (1, 1024, 50, 67),
            "layer4": (1, 2048, 25, 34),
            "projected": (1, 256, 25, 34),
            "position": (1, 256, 25, 34),
            "position, sequence first": (850, 1, 256),
            "memory": (850, 1, 256),
            "hs": (1, 1, 100, 256),
            "hs of the layer": (1, 100, 256),
            "seg_memory": (1, 256, 25, 34),
            "seg_mask": (1, 25, 34),
            "init_reference": None,
            "outputs_class": (1, 1, 100, 92),  # and a last one: no object
            "outputs_coord": (1, 1, 100, 4),
        },
    ),
    "masks, 800 x 1200": (
        MASKS,
        1200,
        {
            "layer1": (1, 256, 200, 300),
            "layer2": (1, 512, 100, 150),
            "layer3": (1, 1024, 50, 75),
            "layer4": (1, 2048, 25, 38),
            "projected": (1, 256, 25, 38),
            "position": (1, 256, 25, 38),
            "position, sequence first": (950, 1, 256),
            "memory": (950, 1, 256),
            "hs": (6, 1, 100, 256),
            "hs of the layer": (1, 100, 256),
            "seg_memory": (1, 256, 25, 38),
            "seg_mask": (1, 25, 38),
            "init_reference": None,
            "outputs_class": (6, 1, 100, 92),
            "outputs_coord": (6, 1, 100, 4),
            "mask_head.attention_map": (1, 100, 8, 25, 38),
            "pyramid 0": (1, 1024, 50, 75),
            "pyramid 1": (1, 512, 100, 150),
            "pyramid 2": (1, 256, 200, 300),
            "mask_head.input": (100, 264, 25, 38),
            "mask_head.stage1": (100, 264, 25, 38),
            "mask_head.stage2": (100, 128, 50, 75),
            "mask_head.stage3": (100, 64, 100, 150),
            "mask_head.stage4": (100, 32, 200, 300),
            "mask_head.stage5": (100, 16, 200, 300),
            "mask_head.logits": (100, 1, 200, 300),
            "mask_logits": (1, 100, 200, 300),
        },
    ),
}


def shapes_of_run(detector: Detector, frame: Tensor) -> dict[str, Shape]:
    """The rows of the table as one forward pass makes them."""
    rows: dict[str, Shape] = {}
    detector.backbone.register_forward_hook(record(rows, "layer"))
    detector.input_proj.register_forward_hook(record(rows, "projected"))
    detector.position.register_forward_hook(record(rows, "position"))
    if detector.spec.mask_head == "fpn":
        record_mask_head(rows, detector.mask_pyramid, detector.mask_head)
    with torch.no_grad():
        out = detector(frame)
    batch, dim, height, width = rows["position"] or ()
    rows["position, sequence first"] = (height * width, batch, dim)
    for name in ("outputs_class", "outputs_coord"):
        rows[name] = tuple(getattr(out, name).shape)
    for name in ("memory", "hs", "seg_memory", "seg_mask"):
        rows[name] = tuple(getattr(out.decoded, name).shape)
    rows["hs of the layer"] = tuple(out.decoded.hs[-1].shape)
    rows["init_reference"] = out.decoded.init_reference
    if out.mask_logits is not None:
        rows["mask_logits"] = tuple(out.mask_logits.shape)
        assert frame.is_meta or torch.isfinite(out.mask_logits).all()
    return rows


@pytest.mark.parametrize("name", list(RUNS))
def test_table_on_meta_tensors(name: str) -> None:
    spec, width, table = RUNS[name]
    with torch.device("meta"):
        assert shapes_of_run(Detector(spec).eval(), torch.empty(1, 3, 800, width)) == table


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_table_by_real_forward_passes(name: str) -> None:
    torch.manual_seed(0)
    spec, width, table = RUNS[name]
    detector = Detector(spec).eval()
    frame = torch.rand(1, 3, 800, width)
    with measured(f"DETR, {name}, forward on CPU, {torch.get_num_threads()} thread(s)"):
        rows = shapes_of_run(detector, frame)
    assert rows == table
