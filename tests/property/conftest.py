"""Each kind of model in turn."""

from __future__ import annotations

import pytest

from tests.support.rollouts import MODELS, Model


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]()
