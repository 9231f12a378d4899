"""The dense transformer: what it must not read, and what it returns."""

import torch

from forecast.detector.dense import DenseTransformer
from forecast.detector.spec import DetectorSpec


def transformer(**settings: bool) -> DenseTransformer:
    torch.manual_seed(0)
    spec = DetectorSpec(
        attention="dense",
        hidden_dim=32,
        heads=4,
        ffn=48,
        encoder_layers=2,
        decoder_layers=3,
        queries=5,
        **settings,  # type: ignore[arg-type]
    )
    return DenseTransformer(spec).eval()


def test_padded_cells_are_not_read() -> None:
    features, position = torch.randn(2, 2, 32, 4, 6)
    padding = torch.zeros(2, 4, 6, dtype=torch.bool)
    padding[1, :, 4:] = True
    other = features.clone()
    other[1, :, :, 4:] = 100.0
    with torch.no_grad():
        one, two = (transformer()(x, padding, position) for x in (features, other))
        cut = transformer()(features[1:, :, :, :4], padding[1:, :, :4], position[1:, :, :, :4])
    torch.testing.assert_close(one.hs, two.hs)
    torch.testing.assert_close(one.hs[:, 1:], cut.hs, atol=1e-5, rtol=1e-5)


def test_memory_is_sequence_first_and_a_map() -> None:
    with torch.no_grad():
        decoded = transformer()(
            torch.randn(2, 32, 4, 6),
            torch.zeros(2, 4, 6, dtype=torch.bool),
            torch.zeros(2, 32, 4, 6),
        )
    assert decoded.memory.shape == (24, 2, 32)
    assert decoded.seg_memory.shape == (2, 32, 4, 6)
    torch.testing.assert_close(decoded.memory[6 * 2 + 5, 1], decoded.seg_memory[1, :, 2, 5])
    assert decoded.hs.shape == (3, 2, 5, 32)
    assert decoded.init_reference is None
    assert decoded.references == ()


def test_only_the_last_layer_is_returned_where_the_others_are_not_wanted() -> None:
    given = (
        torch.randn(1, 32, 4, 6),
        torch.zeros(1, 4, 6, dtype=torch.bool),
        torch.ones(1, 32, 4, 6),
    )
    with torch.no_grad():
        every, last = transformer()(*given), transformer(auxiliary=False)(*given)
    torch.testing.assert_close(last.hs, every.hs[-1:])
