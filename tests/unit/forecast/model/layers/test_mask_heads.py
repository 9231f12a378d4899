"""The mask head: the split form gives the numbers of the naive one, only live queries are drawn."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from forecast.model.layers.mask_heads import (
    ABSENT_LOGIT,
    AttentionMap,
    FpnMaskHead,
    MaskPyramid,
    SplitConv,
)
from tests.support.naive_mask_head import naive_masks, repeat

DIM, HEADS = 128, 8
# Sizes of the memory's map and of the pyramid, coarse to fine: as in the table, but smaller.
SIZES = {
    "down first, as of ResNet-18": ((6, 9), [(3, 5), (6, 9), (12, 18)]),
    "up, as of a dilated ResNet-50": ((6, 9), [(6, 9), (6, 9), (12, 18)]),
    "up at every level, as of DETR": ((4, 5), [(7, 10), (14, 19), (28, 38)]),
    "up to the frame": ((3, 2), [(6, 4), (12, 8), (24, 16), (96, 64)]),
}


def head_and_input(
    name: str, frames: int = 2, queries: int = 5, **settings: Any
) -> tuple[FpnMaskHead, tuple[Tensor, Tensor, Tensor, list[Tensor]]]:
    torch.manual_seed(0)
    size, levels = SIZES[name]
    widths = [24, 12, 8, 3][: len(levels)]
    head = FpnMaskHead(DIM, HEADS, widths, **settings)
    for parameter in head.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0.5)
    padding = torch.zeros(frames, *size, dtype=torch.bool)
    padding[-1, :, -1] = True
    pyramid = [
        torch.randn(frames, width, *level) for width, level in zip(widths, levels, strict=True)
    ]
    memory = torch.randn(frames, DIM, *size)
    return head, (torch.randn(frames, queries, DIM) * 3, memory, padding, pyramid)


@pytest.mark.parametrize("name", list(SIZES))
@pytest.mark.parametrize("batch_cells", [None, 1, 500])
def test_the_split_form_gives_the_numbers_of_the_naive_one(
    name: str, batch_cells: int | None
) -> None:
    head, given_ = head_and_input(name, batch_cells=batch_cells)
    context = torch.randn_like(given_[1])
    with torch.no_grad():
        for other in (None, context):
            expected = naive_masks(head, *given_, other)
            assert expected.std() > 0.1
            got = head(*given_, context=other)
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_the_split_form_has_the_gradients_of_the_naive_one() -> None:
    head, (queries, memory, padding, pyramid) = head_and_input("down first, as of ResNet-18")
    head = head.double()
    leaves = [x.double().requires_grad_() for x in (queries, memory, *pyramid)]
    weight = torch.randn(2, 5, 12, 18, dtype=torch.float64)

    def gradients(form: Any) -> Sequence[Tensor]:
        masks = form(leaves[0], leaves[1], padding, leaves[2:])
        return torch.autograd.grad((masks * weight).sum(), [*leaves, *head.parameters()])

    naive = gradients(lambda *parts: naive_masks(head, *parts))
    for mine, expected in zip(gradients(head), naive, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-9, rtol=1e-9)


def test_the_split_form_needs_a_thirtieth_of_the_multiplications_of_its_layer() -> None:
    queries, size = 300, (25, 38)
    with torch.device("meta"):
        layer = SplitConv(256, 8, 264)
        features, attention = torch.zeros(1, 256, *size), torch.zeros(queries, 8, *size)
        with FlopCounterMode(display=False) as split:
            layer(layer.share(features), attention)
        with FlopCounterMode(display=False) as naive:
            layer.conv(torch.cat((repeat(features, queries), attention), 1))
    assert naive.get_total_flops() / split.get_total_flops() == pytest.approx(30, abs=0.5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=10, max_size=10), st.sampled_from(list(SIZES)))
def test_live_queries_are_drawn_as_if_all_were(live: list[bool], name: str) -> None:
    head, given_ = head_and_input(name)
    alive = torch.tensor(live).view(2, 5)
    with torch.no_grad():
        every, some = head(*given_), head(*given_, live=alive)
    assert some.shape == every.shape
    torch.testing.assert_close(some[alive], every[alive], atol=1e-4, rtol=1e-4)
    assert (some[~alive] == ABSENT_LOGIT).all()


@pytest.mark.parametrize("live", [None, torch.zeros(0, 5, dtype=torch.bool)])
def test_an_empty_batch_has_no_masks(live: Tensor | None) -> None:
    head, given_ = head_and_input("up, as of a dilated ResNet-50")
    queries, memory, padding, pyramid = given_
    empty = (queries[:0], memory[:0], padding[:0], [level[:0] for level in pyramid])
    assert head(*empty, live=live).shape == (0, *head(*given_).shape[1:])


def test_a_frame_does_not_see_the_others_of_its_batch() -> None:
    head, (queries, memory, padding, pyramid) = head_and_input("up, as of a dilated ResNet-50")
    with torch.no_grad():
        both = head(queries, memory, padding, pyramid)
        for index in range(2):
            part = slice(index, index + 1)
            alone = head(queries[part], memory[part], padding[part], [x[part] for x in pyramid])
            torch.testing.assert_close(both[part], alone, atol=1e-4, rtol=1e-4)


def test_attention_is_one_softmax_over_heads_and_unpadded_cells() -> None:
    torch.manual_seed(1)
    attend = AttentionMap(16, 4).double()
    torch.nn.init.normal_(attend.query.bias)
    torch.nn.init.normal_(attend.key.bias)
    queries = torch.randn(1, 3, 16, dtype=torch.float64)
    memory = torch.randn(1, 16, 2, 3, dtype=torch.float64)
    padding = torch.tensor([[[False, False, True], [False, False, True]]])
    with torch.no_grad():
        got = attend(queries, memory, padding)
        query, key = attend.query(queries)[0], attend.key(memory[0].flatten(1).T)
    score = np.zeros((3, 4, 2, 3))
    for q, head, y, x in np.ndindex(score.shape):
        part = slice(4 * head, 4 * head + 4)
        score[q, head, y, x] = query[q, part] @ key[3 * y + x, part] / math.sqrt(4)
    share = np.exp(score) * ~padding.numpy()[0]
    share /= share.sum((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(got[0], share, atol=1e-12)


def test_a_frame_of_padding_alone_stays_finite() -> None:
    attend = AttentionMap(16, 4)
    padding = torch.ones(1, 2, 3, dtype=torch.bool)
    assert torch.isfinite(attend(torch.randn(1, 3, 16), torch.randn(1, 16, 2, 3), padding)).all()


def test_meta_tensors_show_all_queries_at_once() -> None:
    seen = []
    with torch.device("meta"):
        head = FpnMaskHead(DIM, HEADS, (24, 12, 8), batch_cells=1)
        head.stage1.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
        padding = torch.zeros(1, 3, 4, dtype=torch.bool)
        pyramid = [torch.zeros(1, width, 3, 4) for width in (24, 12, 8)]
        head(torch.zeros(1, 7, DIM), torch.zeros(1, DIM, 3, 4), padding, pyramid)
    assert seen == [(7, DIM + HEADS, 3, 4)]


@pytest.mark.parametrize(
    ("stem", "stride", "widths", "sizes"),
    [
        (4, 16, (256, 128, 64), [(2, 3), (4, 5), (8, 10)]),
        (4, 4, (256, 128, 64), [(8, 10), (16, 20), (32, 40)]),
        (4, 1, (256, 128, 64, 5), [(8, 10), (16, 20), (32, 40), (128, 160)]),
        (1, 1, (256, 128, 64), [(8, 10), (16, 20), (32, 40)]),
    ],
)
def test_the_pyramid_follows_the_backbone_and_the_resolution_asked_for(
    stem: int, stride: int, widths: tuple[int, ...], sizes: list[tuple[int, int]]
) -> None:
    backbone = (64, 128, 256, 512)
    levels = [torch.zeros(1, width, -(-32 // 2**i), 40 // 2**i) for i, width in enumerate(backbone)]
    guide = MaskPyramid(backbone, 5, stem, stride)
    pyramid = guide(torch.zeros(1, 5, 32 * stem, 40 * stem), levels)
    assert guide.widths == widths
    assert [x.shape[1] for x in pyramid] == list(widths)
    assert [tuple(x.shape[2:]) for x in pyramid] == sizes
