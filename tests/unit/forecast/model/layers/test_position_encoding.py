"""Position embeddings: places inside the valid part, and tables read at any size."""

import pytest
import torch

from forecast.model.layers.position_encoding import LearnedPosition, SinePosition, sine_position


def test_without_padding_masked_sines_are_the_plain_ones() -> None:
    embedded = SinePosition(64)(torch.zeros(2, 9, 13, dtype=torch.bool))
    plain = sine_position(9, 13, 64, torch.device("cpu"))
    torch.testing.assert_close(embedded[1].flatten(1).T, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("centred", [True, False])
def test_places_are_shares_of_the_valid_part(centred: bool) -> None:
    mask = torch.ones(1, 12, 20, dtype=torch.bool)
    mask[:, :6, :15] = False
    embed = SinePosition(32, centred)
    alone = embed(torch.zeros(1, 6, 15, dtype=torch.bool))
    torch.testing.assert_close(embed(mask)[:, :, :6, :15], alone, atol=1e-5, rtol=0)


def test_a_larger_map_than_the_table_is_read_from_edge_to_edge() -> None:
    embed = LearnedPosition(8)
    small = embed(torch.zeros(1, 4, 50, dtype=torch.bool))
    large = embed(torch.zeros(1, 4, 99, dtype=torch.bool))
    torch.testing.assert_close(large[..., ::2], small)
    middle = (small[..., :-1] + small[..., 1:]) / 2
    torch.testing.assert_close(large[..., 1::2], middle)
