"""mmcv's deformable attention for tests, from a wheel without compiled operators (mmcv-lite)."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest


def mmcv_attention() -> ModuleType:
    """``mmcv.ops.multi_scale_deform_attn``; the test is skipped where mmcv is not installed.

    mmcv.ops imports a compiled module, which the wheel lacks and its CPU path does not use.
    """
    pytest.importorskip("mmcv", reason="mmcv-lite is not installed", exc_type=ImportError)

    class AnyOperator(ModuleType):
        def __getattr__(self, name: str) -> object:
            return None

    sys.modules.setdefault("mmcv._ext", AnyOperator("mmcv._ext"))
    from mmcv.ops import multi_scale_deform_attn

    return multi_scale_deform_attn
