"""What is computed in another way while it is exported comes to the same numbers."""

import pytest
import torch

from forecast.loop import observed
from forecast.model.scene.windows import _repeated
from forecast.model.scene_attention import crop
from tests.support.sequences import forecaster, sequences
from tests.support.stores import Mover


def test_repeated_runs() -> None:
    count = torch.tensor([0, 3, 0, 0, 2, 1, 0])

    assert _repeated(count).tolist() == torch.repeat_interleave(count).tolist()
    assert _repeated(count[:1]).tolist() == []


def test_map_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    model = forecaster(raster="none")
    history = sequences([[Mover(0.0, 0.0, 0.3), Mover(8.0, 3.0, 1.0, speed=3.0)]]).crop(0, 3)
    state = observed(model, history)
    packed = model._packed(state.agents, state.pose, state.twist)
    own = crop(packed, state.context)

    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)

    assert own.any()
    assert torch.equal(crop(packed, state.context), own)
