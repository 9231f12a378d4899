"""Operations that are translated by hand say in ONNX what torch says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forecast.export.translation import translations

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytest.importorskip("onnxscript", reason="the exporter is not installed")


class Both(nn.Module):
    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cdist(points, points), torch.argsort(points[:, 0], stable=True)


@pytest.mark.slow
def test_distances_of_few_points_and_stable_sorting(tmp_path: Path) -> None:
    points = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    points[4:, 0] = points[0, 0]  # to be kept in their order
    made = torch.onnx.export(
        Both().eval(),
        (points,),
        custom_translation_table=translations(),
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    made.save(tmp_path / "both.onnx")

    session = onnxruntime.InferenceSession(tmp_path / "both.onnx")
    distances, order = session.run(None, {session.get_inputs()[0].name: points.numpy()})

    np.testing.assert_allclose(distances, torch.cdist(points, points), atol=1e-6)
    np.testing.assert_array_equal(order, torch.argsort(points[:, 0], stable=True))
