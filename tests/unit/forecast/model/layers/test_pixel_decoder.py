"""Heads that embed every cell: products with queries, classes of cells."""

import torch

from forecast.detector.detector import Detector
from forecast.detector.spec import DetectorSpec
from forecast.model.layers.mask_heads import ABSENT_LOGIT, PixelMaskHead
from forecast.model.layers.pixel_decoder import SemanticHead


def test_masks_are_products_of_queries_and_cells_and_only_live_ones_are_drawn() -> None:
    torch.manual_seed(0)
    head = PixelMaskHead(32, (12, 6))
    queries, memory = torch.randn(2, 4, 32), torch.randn(2, 32, 3, 4)
    pyramid = [torch.randn(2, 12, 5, 7), torch.randn(2, 6, 10, 14)]
    live = torch.tensor([[True, False, True, False], [False] * 4])
    with torch.no_grad():
        masks = head(queries, memory, pyramid)
        some = head(queries, memory, pyramid, live)
        twice = head(torch.cat((queries, queries), 1), memory, pyramid)
    assert masks.shape == (2, 4, 10, 14)
    torch.testing.assert_close(twice, torch.cat((masks, masks), 1))
    torch.testing.assert_close(some[live], masks[live], atol=1e-5, rtol=1e-5)
    assert (some[~live] == ABSENT_LOGIT).all()


def test_all_levels_reach_every_class_map() -> None:
    torch.manual_seed(0)
    head = SemanticHead(16, (12, 6, 4), classes=3)
    pyramid = [
        torch.randn(1, c, h, 2 * h, requires_grad=True) for c, h in ((12, 2), (6, 4), (4, 8))
    ]
    logits = head(pyramid, (32, 64))
    assert logits.shape == (1, 4, 32, 64)
    logits.square().sum().backward()
    assert all(level.grad is not None and level.grad.any() for level in pyramid)


def test_a_detector_tells_the_class_of_every_cell_if_asked() -> None:
    spec = DetectorSpec(
        backbone="resnet18",
        classes=5,
        hidden_dim=32,
        queries=3,
        ffn=16,
        encoder_layers=1,
        decoder_layers=1,
        semantic_head=True,
    )
    with torch.no_grad():
        found = Detector(spec).eval()(torch.rand(2, 3, 64, 100))
    assert found.mask_logits is None
    assert found.semantic_logits is not None
    assert found.semantic_logits.shape == (2, 6, 64, 100)
    assert set(found.semantic_logits.argmax(1).unique().tolist()) <= set(range(6))
