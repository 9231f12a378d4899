"""What each part of a network costs: multiply-adds and memory, read off a run of the real thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from forecast.inspection.costs import LayerCost


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Books who does how much while a network runs, on any device or on none (meta).

    Work is booked on the row of the innermost module that has one, else on the last one that ran:
    what a network does between its modules follows from what came before.

    Args:
        rows: For each row the beginnings of names of modules or parameters that belong to it; the
            longest that fits counts.

    Attributes:
        outputs: What each module returned the first time, by its name.
    """

    def __init__(self, rows: Mapping[str, Sequence[str]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.outputs: dict[str, Any] = {}
        self._owners = {start: row for row, starts in rows.items() for start in starts}
        self._row = next(iter(rows))
        self._multiply_adds: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Counts what is done meanwhile, by ``model`` and around it."""
        with ExitStack() as stack:
            for name, module in model.named_modules():
                stack.callback(module.register_forward_pre_hook(self._enter(name)).remove)
                stack.callback(module.register_forward_hook(self._leave(name)).remove)
            # With gradients torch takes no fused shortcuts, whose work cannot be seen.
            stack.enter_context(torch.enable_grad())
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(self)
            yield

    def turn_to(self, row: str) -> None:
        """Books on ``row`` what is done from now on outside of modules that have a row."""
        self._row = row

    def stages(
        self, model: nn.Module, tensors: Mapping[str, Tensor | None]
    ) -> tuple[LayerCost, ...]:
        """The rows in the order of ``tensors``, with their costs."""
        parameters: Counter[str | None] = Counter()
        for name, parameter in model.named_parameters():
            parameters[self._owner(name)] += parameter.numel()
        return tuple(
            LayerCost(
                name,
                None if tensor is None else tuple(tensor.shape),
                parameters[name],
                self._multiply_adds[name],
                self._bytes[name],
            )
            for name, tensor in tensors.items()
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.grid_sampler_2d.default:
            out = _sampled(func, args, kwargs)
            self._multiply_adds[self._row] += 4 * out.numel()
        else:
            out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self._multiply_adds[self._row] += int(count(*args, **kwargs, out_val=out)) // 2
        if not func.is_view and not func._schema.is_mutable:
            tensors = (leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
            self._bytes[self._row] += sum(tensor.nbytes for tensor in tensors)
        return out

    def _owner(self, name: str) -> str | None:
        parts = name.split(".")
        starts = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((self._owners[start] for start in starts if start in self._owners), None)

    def _enter(self, name: str) -> Any:
        row = self._owner(name)

        def enter(*_: Any) -> None:
            self._row = row or self._row

        return enter

    def _leave(self, name: str) -> Any:
        row = self._owner(name.rpartition(".")[0])

        def leave(module: nn.Module, arguments: Any, output: Any) -> None:
            self.outputs.setdefault(name, output)
            self._row = row or self._row

        return leave


def _sampled(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    image, grid = args[:2]
    if image.is_meta:  # the same shape as torch's own, which takes 60 ms to find it
        made: Tensor = image.new_empty(*image.shape[:2], *grid.shape[1:3])
        return made
    out: Tensor = func(*args, **kwargs)
    return out
