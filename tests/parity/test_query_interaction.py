"""The query interaction module against a plain NumPy transcription of its formulas."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from forecast.model.query_interaction import QueryInteraction

Array = NDArray[np.float64]


def norm(x: Array, state: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def feed_forward(x: Array, state: dict[str, Array], name: str) -> Array:
    hidden = np.maximum(x @ state[f"{name}.0.weight"].T + state[f"{name}.0.bias"], 0)
    return hidden @ state[f"{name}.2.weight"].T + state[f"{name}.2.bias"]


def attend(key: Array, value: Array, state: dict[str, Array], heads: int) -> Array:
    """Multi-head attention of a set to itself, queries equal to keys."""
    dim = key.shape[-1]
    weights = np.split(state["attention.in_proj_weight"], 3)
    biases = np.split(state["attention.in_proj_bias"], 3)
    q, k, v = (x @ w.T + b for x, w, b in zip((key, key, value), weights, biases, strict=True))
    read = []
    for part in np.split(np.arange(dim), heads):
        score = q[:, part] @ k[:, part].T / np.sqrt(dim // heads)
        share = np.exp(score - score.max(-1, keepdims=True))
        read.append(share / share.sum(-1, keepdims=True) @ v[:, part])
    joined = np.concatenate(read, -1)
    return joined @ state["attention.out_proj.weight"].T + state["attention.out_proj.bias"]


def update(
    output: Array, position: Array, content: Array, state: dict[str, Array], heads: int
) -> tuple[Array, Array]:
    """The next position (if its weights are there) and content of a set of tracks."""
    x = norm(output + attend(output + position, output, state, heads), state, "norm1")
    x = norm(x + feed_forward(x, state, "ffn"), state, "norm2")
    content = norm(content + feed_forward(x, state, "ffn_query"), state, "norm_query")
    if "norm_query_pos.weight" in state:
        moved = position + feed_forward(x, state, "ffn_query_pos")
        position = norm(moved, state, "norm_query_pos")
    return position, content


@pytest.mark.parametrize("update_query_pos", [False, True])
def test_the_update_follows_the_formulas(update_query_pos: bool) -> None:
    """Over three frames, the position and content of one being read in the next."""
    torch.manual_seed(0)
    module = QueryInteraction(16, 4, 24, update_query_pos).double()
    with torch.no_grad():
        for weight in module.parameters():  # biases and norms begin as zeros and ones
            weight.add_(0.1 * torch.randn_like(weight))
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    position, content = torch.randn(2, 2, 6, 16, dtype=torch.float64)
    live = torch.tensor([[True, True, False, True, False, True], [False] * 5 + [True]])
    known = [(p[m].numpy(), c[m].numpy()) for p, c, m in zip(position, content, live, strict=True)]
    for _ in range(3):
        output = torch.randn(2, 6, 16, dtype=torch.float64)
        with torch.no_grad():
            position, content = module(output, position, content, live)
        for index, mine in enumerate(live):
            known[index] = update(output[index][mine].numpy(), *known[index], state, 4)
            np.testing.assert_allclose(position[index][mine], known[index][0], atol=1e-10)
            np.testing.assert_allclose(content[index][mine], known[index][1], atol=1e-10)


def test_queries_that_are_not_tracks_are_not_read() -> None:
    torch.manual_seed(0)
    module = QueryInteraction(16, 4, 24).eval()
    output, position, content = torch.randn(3, 1, 5, 16)
    live = torch.tensor([[True, True, True, False, False]])
    other = output.clone()
    other[:, 3:] = 99.0
    with torch.no_grad():
        one = module(output, position, content, live)[1]
        two = module(other, position, content, live)[1]
    torch.testing.assert_close(one[:, :3], two[:, :3])


def test_a_sequence_without_tracks_gives_finite_numbers() -> None:
    module = QueryInteraction(16, 4, 24)
    nothing = torch.zeros(2, 3, 16)
    live = torch.tensor([[False, False, False], [True, False, False]])
    assert torch.isfinite(module(nothing, nothing, nothing, live)[1]).all()
