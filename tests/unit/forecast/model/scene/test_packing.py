"""Packed rows: only the live slots, in order, and back again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from forecast.loop import observed, rollout
from forecast.model.scene.packing import Packing
from tests.support.sequences import TRAFFIC, forecaster, sequences


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=4))
def test_rows_are_the_live_slots_in_order_and_return_to_their_places(
    slots: list[list[bool]],
) -> None:
    live = torch.tensor(slots)
    packing = Packing.of(live)
    values = torch.arange(live.numel() * 2.0).view(*live.shape, 2) + 1
    rows = packing.pack(values)
    assert torch.equal(rows, values[live])
    assert torch.equal(packing.pad(rows), values * live[..., None])
    assert torch.equal(packing.sequence, live.nonzero()[:, 0])


def test_gradients_go_to_the_slots_that_were_packed() -> None:
    packing = Packing.of(torch.tensor([[True, False], [False, True]]))
    values = torch.randn(2, 2, 3, requires_grad=True)
    packing.pad(packing.pack(values) * 2).sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, 2.0 * packing.live[..., None].expand(2, 2, 3))


class Waits(TorchDispatchMode):
    """Counts the operations for whose result a GPU has to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = function.overloadpacket.__name__
        by_mask = name in {"index", "index_put", "index_put_"} and any(map(_is_mask, args[1]))
        self.count += by_mask or name in {"_local_scalar_dense", "nonzero", "masked_select"}
        return function(*args, **(kwargs or {}))


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


@pytest.mark.parametrize("raster", ["detection", "always"])
def test_steps_of_the_queries_never_wait_for_the_device(raster: str) -> None:
    model = forecaster(raster=raster)
    state = observed(model, sequences(TRAFFIC).crop(0, 3))
    state, _ = model.advance(state, 0.5)
    with Waits() as waits:
        model.advance(state, 0.5)
    assert waits.count == 0
    assert len(list(rollout(model, sequences(TRAFFIC).crop(0, 3), 2))) == 2
