"""Pickles of numbers, text and plain containers; one that asks for anything else is refused.

A pickle is a program. Three things keep a hostile one from doing harm: no function of Python or
NumPy but the constructors of sets is within its reach (NumPy's own trust the sizes and offsets that
they are told, so look-alikes stand in for them); only look-alikes may be given a state; and the
interpreter is the one written in Python, whose memory grows with the file and not with a number in
it. No file of a scene is large enough for its slowness to matter (0.2 s for 4 MB).
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections import OrderedDict
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError

_NUMBERS_OR_TEXT = re.compile(r"[?biufSU]\d{0,6}")


class PickledArray:
    """A NumPy array as it was pickled; arrays of Python objects keep their list.

    Args:
        made_with: What NumPy would be told; the state says it all again.
    """

    def __init__(self, *made_with: Any) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        flat = content if isinstance(content, list) else np.frombuffer(content, kind.numpy)
        if isinstance(flat, list):
            flat = np.fromiter(flat, object, len(flat))
        self.values = flat.reshape(_shape(shape, len(flat)), order="F" if fortran else "C")


class _DType:
    """The type of an array's numbers or text."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in ("O8", "O") and not _NUMBERS_OR_TEXT.fullmatch(code):
            raise pickle.UnpicklingError(f"arrays of {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("arrays of records")
        self.order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        if self.code.startswith("O"):
            raise pickle.UnpicklingError("objects in place of bytes")
        return np.dtype(self.order + self.code)


def _shape(shape: Any, size: int) -> tuple[int, ...]:
    # A product of -1 and the like, or of sizes that overflow, is no array's.
    if not all(type(length) is int and length >= 0 for length in shape) or math.prod(shape) != size:
        raise pickle.UnpicklingError(f"an array of another size than its {size} values")
    return tuple(shape)


def _scalar(kind: _DType, content: bytes) -> Any:
    return np.frombuffer(content, kind.numpy, 1)[0].item()


def _from_buffer(content: bytes, kind: _DType, shape: Any, order: str) -> PickledArray:
    made = PickledArray()
    made.__setstate__((1, shape, kind, order == "F", content))
    return made


_ADMITTED: dict[str, Any] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": _DType,
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    **{
        f"numpy.{core}.{name}": made
        for core in ("core", "_core")  # before and since NumPy 2
        for name, made in (
            ("multiarray._reconstruct", PickledArray),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle._Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {name}")
        return _ADMITTED[name]

    def build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if not isinstance(made, PickledArray | _DType):
            raise pickle.UnpicklingError(f"it changes a {type(made).__name__}")
        made.__setstate__(state)

    def byte_array(self) -> None:
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: build,
        pickle.BYTEARRAY8[0]: byte_array,  # Python's makes room before it looks what is there
    }


def load(content: bytes, where: str) -> Any:
    """What a pickle holds: numbers, text, None, containers of them, and :class:`PickledArray`.

    Args:
        content: The pickle, of any protocol.
        where: What to call it in the error.

    Raises:
        DataError: It holds anything else, or is damaged.
    """
    try:
        return cast(Any, _Unpickler(io.BytesIO(content)).load())
    except Exception as error:  # a program of unknown origin may fail in any way
        reason = str(error)[:200] or type(error).__name__
        raise DataError(
            "a pickle of numbers, text and containers", f"{where} ({reason})", "leave it out"
        ) from error
