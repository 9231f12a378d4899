"""Deformable attention against mmcv's own function and a plain loop."""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from forecast.errors import ConfigError
from forecast.model.attention import MultiScaleDeformableAttention, deformable_attention
from forecast.model.kernels import choose_backend, run_kernel

SHAPES = [(9, 13), (5, 7), (3, 4)]
CELLS = sum(h * w for h, w in SHAPES)


@pytest.fixture(scope="module")
def mmcv_ops() -> ModuleType:
    """mmcv-lite's deformable attention: it imports a compiled module that its wheel lacks."""
    pytest.importorskip("mmcv", reason="mmcv-lite is not installed", exc_type=ImportError)

    class AnyOperator(ModuleType):
        def __getattr__(self, name: str) -> object:
            return None

    sys.modules.setdefault("mmcv._ext", AnyOperator("mmcv._ext"))
    from mmcv.ops import multi_scale_deform_attn

    return multi_scale_deform_attn


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    value = torch.randn(2, CELLS, 4, 8, requires_grad=True)
    locations = (torch.rand(2, 11, 4, 3, 5, 2) * 1.4 - 0.2).requires_grad_()  # some lie outside
    weights = torch.rand(2, 11, 4, 15).softmax(-1).unflatten(-1, (3, 5)).requires_grad_()
    return value, locations, weights


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forward_and_gradients_equal_mmcv(mmcv_ops: ModuleType) -> None:
    ours, theirs = inputs(), inputs()
    out = deformable_attention(ours[0], SHAPES, ours[1], ours[2])
    reference = mmcv_ops.multi_scale_deformable_attn_pytorch(
        theirs[0], torch.tensor(SHAPES), theirs[1], theirs[2]
    )
    torch.testing.assert_close(out, reference, atol=1e-5, rtol=0)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    reference.backward(upstream)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_weights_of_mmcv_load_and_give_the_same_output(mmcv_ops: ModuleType) -> None:
    theirs = mmcv_ops.MultiScaleDeformableAttention(
        embed_dims=32, num_heads=4, num_levels=3, num_points=5, dropout=0.0, batch_first=True
    )
    ours = MultiScaleDeformableAttention(32, 4, 3, 5)
    ours.load_state_dict(theirs.state_dict())
    query, value = torch.randn(2, 11, 32), torch.randn(2, CELLS, 32)
    reference = torch.rand(2, 11, 3, 2)
    starts = torch.tensor([0, 9 * 13, 9 * 13 + 5 * 7])
    other = theirs(
        query,
        value=value,
        identity=torch.zeros_like(query),
        reference_points=reference,
        spatial_shapes=torch.tensor(SHAPES),
        level_start_index=starts,
    )
    torch.testing.assert_close(ours(query, reference, value, SHAPES), other, atol=1e-5, rtol=0)


def test_the_native_kernel_gives_the_same_numbers() -> None:
    pytest.importorskip("torch_ms_deform_attn", reason="the extra `native` is not installed")
    ours, theirs = inputs(), inputs()
    out = deformable_attention(ours[0], SHAPES, ours[1], ours[2])
    native = run_kernel("native", theirs[0], SHAPES, theirs[1], theirs[2])
    torch.testing.assert_close(native, out, atol=1e-5, rtol=0)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    native.backward(upstream)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=0)


def test_auto_always_finds_a_backend_and_says_why() -> None:
    backend, reason = choose_backend("auto", "cpu")
    assert backend in ("torch", "native")
    assert "installed" in reason


def test_a_backend_that_cannot_run_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="mmcv"):
        choose_backend("mmcv", "cpu")


def test_a_sample_at_a_cell_centre_is_that_cell() -> None:
    value = torch.randn(1, CELLS, 1, 6)
    row, column = 2, 3  # of the middle level
    place = torch.tensor([(column + 0.5) / 7, (row + 0.5) / 5])
    locations = place.expand(1, 1, 1, 3, 1, 2)
    weights = torch.tensor([0.0, 1.0, 0.0]).view(1, 1, 1, 3, 1)
    out = deformable_attention(value, SHAPES, locations, weights)
    torch.testing.assert_close(out[0, 0], value[0, 9 * 13 + row * 7 + column, 0])


def test_heading_turns_where_a_query_looks() -> None:
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(8, 2, 1, 1)
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_(torch.tensor([3.0, 0.0, 3.0, 0.0]))  # 3 cells ahead
    value = torch.zeros(1, 81, 8)
    value[0, 4 * 9 + 7] = torch.randn(8)  # three cells along +x of the centre
    centre = torch.full((1, 1, 1, 2), 0.5)
    query = torch.zeros(1, 1, 8)

    def look(yaw: float) -> Tensor:
        out: Tensor = attention(query, centre, value, [(9, 9)], torch.tensor([[yaw]]))
        return out - attention.output_proj.bias

    ahead, aside = look(0.0), look(torch.pi / 2)
    assert ahead.abs().max() > 0.01
    torch.testing.assert_close(aside, torch.zeros_like(aside), atol=1e-5, rtol=0)
    turned = value.view(1, 9, 9, 8).transpose(1, 2).reshape(1, 81, 8)  # now along +y
    value.copy_(turned)
    torch.testing.assert_close(look(torch.pi / 2), ahead, atol=1e-4, rtol=0)
