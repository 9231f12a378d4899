"""What `forecast doctor` finds out about attention."""

import pytest
import torch

from forecast.doctor import installation as doctor
from forecast.model.layers import deformable_kernels as kernels


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_it_names_every_backend_and_what_keeps_it_from_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "_native_problem", lambda device: None)
    kernels.choose_backend.cache_clear()
    try:
        found = doctor.examine()
    finally:
        kernels.choose_backend.cache_clear()
    assert {name: text for name, text in found.items() if name.startswith("attention")} == {
        "attention": "native on cpu: a compiled kernel for cpu, faster than PyTorch",
        "attention torch": "runs",
        "attention native": "runs",
        "attention mmcv": "mmcv's kernel needs CUDA",
    }


def test_a_kernel_that_does_not_run_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_native_problem", lambda device: "it was built for another torch")
    kernels.choose_backend.cache_clear()
    try:
        found = doctor.examine()
    finally:
        kernels.choose_backend.cache_clear()
    assert found["attention"].startswith("torch on cpu: runs everywhere; it was built for another")
    assert found["attention native"] == "it was built for another torch"
