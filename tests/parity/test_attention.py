"""Deformable attention against mmcv's own function and a plain loop."""

import importlib
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from torch import Tensor

from forecast.errors import ConfigError
from forecast.model.layers import deformable_kernels as kernels
from forecast.model.layers.choices import BackendName
from forecast.model.layers.deformable_attention import MultiScaleDeformableAttention
from forecast.model.layers.deformable_kernels import (
    COMPILED,
    choose_backend,
    deformable_attention,
    problem,
)
from tests.support.mmcv import mmcv_attention

SHAPES = [(9, 13), (5, 7), (3, 4)]
CELLS = sum(h * w for h, w in SHAPES)


pytestmark = [
    # mmcv, not ours: Python's and torch's deprecations that it runs into at import and use.
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
]
COMPARED: tuple[BackendName, BackendName] = ("native", "torch")
BACKENDS = [
    "torch",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(
            find_spec("torch_ms_deform_attn") is None, reason="the extra `native` is not installed"
        ),
    ),
]


@pytest.fixture(scope="module")
def mmcv_ops() -> ModuleType:
    return mmcv_attention()


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    value = torch.randn(2, CELLS, 4, 8)
    locations = torch.rand(2, 11, 4, 3, 5, 2) * 1.4 - 0.2  # some lie outside
    weights = torch.rand(2, 11, 4, 15).softmax(-1).unflatten(-1, (3, 5))
    made = tuple(part.to(dtype).requires_grad_() for part in (value, locations, weights))
    return made[0], made[1], made[2]


def assert_same_with_gradients(
    ours: tuple[Tensor, ...], out: Tensor, theirs: tuple[Tensor, ...], reference: Tensor
) -> None:
    """Outputs, and gradients of value, locations and weights."""
    torch.testing.assert_close(out, reference, atol=1e-5, rtol=0)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    reference.backward(upstream)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_and_gradients_equal_mmcv(
    mmcv_ops: ModuleType, backend: BackendName, dtype: torch.dtype
) -> None:
    ours, theirs = inputs(dtype), inputs(dtype)
    out = deformable_attention(ours[0], SHAPES, ours[1], ours[2], backend)
    reference = mmcv_ops.multi_scale_deformable_attn_pytorch(
        theirs[0], torch.tensor(SHAPES), theirs[1], theirs[2]
    )
    assert_same_with_gradients(ours, out, theirs, reference)


def test_the_native_kernel_gives_the_numbers_of_torch_at_the_reference_size() -> None:
    """In float64: in single precision a point on a cell's edge may fall to either side."""
    pytest.importorskip("torch_ms_deform_attn", reason="the extra `native` is not installed")
    shapes = [(100, 151), (50, 76), (50, 76), (25, 38)]
    results = []
    for backend in COMPARED:
        torch.manual_seed(1)
        value = torch.randn(1, 23650, 8, 8, dtype=torch.float64, requires_grad=True)
        locations = torch.rand(1, 300, 8, 4, 4, 2, dtype=torch.float64, requires_grad=True)
        weights = torch.rand(1, 300, 8, 4, 4, dtype=torch.float64, requires_grad=True)
        out = deformable_attention(value, shapes, locations, weights, backend)
        out.square().sum().backward()
        results.append([out, value.grad, locations.grad, weights.grad])
    for native, reference in zip(*results, strict=True):
        torch.testing.assert_close(native, reference, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("backend", COMPILED)
def test_compiled_kernels_give_the_numbers_of_torch_on_cuda(backend: BackendName) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if (reason := problem(backend, "cuda")) is not None:
        pytest.skip(reason)
    results = []
    for name in (backend, "torch"):
        parts = [part.detach().cuda().requires_grad_() for part in inputs()]
        out = deformable_attention(parts[0], SHAPES, parts[1], parts[2], name)
        out.square().sum().backward()
        results.append([out, *(part.grad for part in parts)])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_sampled_in_single(backend: BackendName, dtype: torch.dtype) -> None:
    value, locations, weights = inputs(dtype)
    out = deformable_attention(value, SHAPES, locations.float(), weights, backend)
    exact = deformable_attention(value.float(), SHAPES, locations.float(), weights.float(), "torch")
    assert out.dtype == dtype
    torch.testing.assert_close(out, exact.to(dtype))
    out.sum().backward()
    assert value.grad is not None
    assert value.grad.dtype == dtype


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_runs_under_autocast(backend: BackendName) -> None:
    attention = MultiScaleDeformableAttention(32, 4, 3, 5, backend)
    query, value = torch.randn(2, 11, 32), torch.randn(2, CELLS, 32)
    reference = torch.rand(2, 11, 3, 2)
    exact = attention(query, reference, value, SHAPES)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(query, reference, value, SHAPES)
    out.float().sum().backward()
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "queries"), [(2, 0), (0, 3)])
def test_nothing_asked_is_nothing_answered(backend: BackendName, batch: int, queries: int) -> None:
    attention = MultiScaleDeformableAttention(32, 4, 3, 5, backend)
    query, value = torch.randn(batch, queries, 32), torch.randn(batch, CELLS, 32)
    out = attention(query, torch.rand(batch, queries, 3, 2), value, SHAPES)
    assert out.shape == (batch, queries, 32)


@pytest.mark.parametrize("coordinates", [2, 4], ids=["points", "boxes"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_weights_of_mmcv_load_and_give_the_same_output(
    mmcv_ops: ModuleType, backend: BackendName, coordinates: int
) -> None:
    torch.manual_seed(0)
    theirs = mmcv_ops.MultiScaleDeformableAttention(
        embed_dims=32, num_heads=4, num_levels=3, num_points=5, dropout=0.0, batch_first=True
    )
    torch.nn.init.normal_(theirs.sampling_offsets.weight, std=0.1)
    torch.nn.init.normal_(theirs.attention_weights.weight)
    ours = MultiScaleDeformableAttention(32, 4, 3, 5, backend)
    ours.load_state_dict(theirs.state_dict())
    query, value = torch.randn(2, 11, 32), torch.randn(2, CELLS, 32)
    reference = torch.rand(2, 11, 3, coordinates)
    padding = torch.rand(2, CELLS) > 0.8
    other = theirs(
        query,
        value=value,
        identity=torch.zeros_like(query),
        key_padding_mask=padding,
        reference_points=reference,
        spatial_shapes=torch.tensor(SHAPES),
        level_start_index=torch.tensor([0, 9 * 13, 9 * 13 + 5 * 7]),
    )
    out = ours(query, reference, value, SHAPES, padding=padding)
    torch.testing.assert_close(out, other, atol=1e-5, rtol=0)


def test_the_initial_weights_are_those_of_mmcv(mmcv_ops: ModuleType) -> None:
    theirs = mmcv_ops.MultiScaleDeformableAttention(32, 4, 3, 5).state_dict()
    ours = MultiScaleDeformableAttention(32, 4, 3, 5).state_dict()
    assert ours.keys() == theirs.keys()
    for name in ("sampling_offsets", "attention_weights"):
        for part in ("weight", "bias"):
            key = f"{name}.{part}"
            torch.testing.assert_close(ours[key], theirs[key], atol=1e-6, rtol=0)


def test_auto_takes_the_compiled_kernel_where_there_is_one() -> None:
    installed = find_spec("torch_ms_deform_attn") is not None
    assert choose_backend("auto", "cpu")[0] == ("native" if installed else "torch")


def test_auto_falls_back_to_torch_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_native_problem", lambda device: "no native kernel")
    backend, reason = choose_backend.__wrapped__("auto", "cpu")
    assert backend == "torch"
    assert "no native kernel" in reason
    assert "mmcv's kernel needs CUDA" in reason


def test_a_kernel_built_for_another_torch_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> ModuleType:
        raise ImportError(f"{name}: undefined symbol")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", broken)
    backend, reason = choose_backend.__wrapped__("auto", "cpu")
    assert backend == "torch"
    assert "built for another torch" in reason


@pytest.mark.parametrize(("backend", "device"), [("mmcv", "cpu"), ("native", "xpu")])
def test_a_backend_that_cannot_run_here_is_refused(backend: BackendName, device: str) -> None:
    with pytest.raises(ConfigError, match=f"{backend}.*{device}"):
        choose_backend(backend, device)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sample_at_a_cell_centre_is_that_cell(backend: BackendName) -> None:
    value = torch.randn(1, CELLS, 1, 6)
    row, column = 2, 3  # of the middle level
    place = torch.tensor([(column + 0.5) / 7, (row + 0.5) / 5])
    locations = place.expand(1, 1, 1, 3, 1, 2)
    weights = torch.tensor([0.0, 1.0, 0.0]).view(1, 1, 1, 3, 1)
    out = deformable_attention(value, SHAPES, locations, weights, backend)
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
