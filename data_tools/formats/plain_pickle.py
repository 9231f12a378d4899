"""Pickles of numbers, text and plain containers; one that asks for anything else is refused.

A pickle is a program. Three rules keep a hostile one from doing harm: it can call no function of
Python or NumPy but the constructors of sets (NumPy's trust the sizes and offsets in a pickle, so
stand-ins of our own replace them; a defaultdict becomes a dict, so that nothing is made on being
asked for); only these stand-ins may be given a state; and the interpreter
is the one written in Python, whose memory grows with the file and not with a number in it. It is
slow, but fast enough for the file of a scene (0.2 s for 4 MB).
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
        made_with: Arguments of NumPy's constructor, unused: the state repeats them.
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
    # Refuses negative sizes, and products that overflow.
    if not all(type(length) is int and length >= 0 for length in shape) or math.prod(shape) != size:
        raise pickle.UnpicklingError(f"an array of another size than its {size} values")
    return tuple(shape)


def _scalar(kind: _DType, content: bytes) -> Any:
    return np.frombuffer(content, kind.numpy, 1)[0].item()


def _from_buffer(content: bytes, kind: _DType, shape: Any, order: str) -> PickledArray:
    made = PickledArray()
    made.__setstate__((1, shape, kind, order == "F", content))
    return made


class _Int:
    """Stands for the type ``int``, which a pickle may name but not call."""


def _counts(*factory: Any) -> dict[Any, Any]:
    """A ``defaultdict(int)``, as MetaDrive counts with, as a plain dict."""
    if factory not in ((), (None,), (_INT,)):
        raise pickle.UnpicklingError("a defaultdict of something else than int")
    return {}


_INT = _Int()
_ADMITTED: dict[str, Any] = {
    "builtins.int": _INT,
    "collections.defaultdict": _counts,
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
        pickle.BYTEARRAY8[0]: byte_array,  # Python's allocates the declared size before it reads
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
    except Exception as error:  # a hostile program may fail in any way
        reason = str(error)[:200] or type(error).__name__
        raise DataError(
            "a pickle of numbers, text and containers", f"{where} ({reason})", "leave it out"
        ) from error
